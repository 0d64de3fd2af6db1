//! Limits of tenants, over each face.

use longhaul::engine::TenantLimits;

use crate::support::*;

scenarios! {
    over every face;
    a_tenant_that_starts_too_fast_is_refused_and_others_are_not,
    a_tenant_with_as_many_watches_as_it_may_is_refused_one_more,
}

async fn a_tenant_that_starts_too_fast_is_refused_and_others_are_not(fixture: &Fixture) {
    let limits = TenantLimits { starts_per_second: 2, ..TenantLimits::default() };
    let limited = fixture.limited_by(limits).await;
    let below =
        |parent: &str| pb::StartOperationRequest { parent: parent.to_owned(), ..start("q") };
    for _ in 0..2 {
        limited.start(below("projects/p")).await.granted();
    }
    let refused = limited.start(below("projects/p")).await;
    let metadata = refused.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    assert_eq!(metadata["tenant"], "projects/p");
    let other = limited.start(below("projects/q")).await.granted();
    limited.get(&other.name).await.granted();
    limited.stop().await;
}

async fn a_tenant_with_as_many_watches_as_it_may_is_refused_one_more(fixture: &Fixture) {
    let limits = TenantLimits { watchers: 1, ..TenantLimits::default() };
    let limited = fixture.limited_by(limits).await;
    let name = limited.started("q").await;
    let request = pb::WatchOperationRequest { name, ..Default::default() };
    let watch = limited.watch(request.clone()).await;
    let Err(refusal) = limited.try_watch(request.clone()).await else { panic!("not refused") };
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    drop(watch);
    within("a place", async {
        while limited.try_watch(request.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    limited.stop().await;
}
