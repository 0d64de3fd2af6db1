//! Limits of tenants, over each face.

use longhaul::engine::TenantLimits;
use longhaul::limits::SLOWEST_READ;
use longhaul::proto::google::longrunning::GetOperationRequest;
use longhaul::proto::google::longrunning::operations_client::OperationsClient;
use longhaul::proto::longhaul::v1::type_sets_client::TypeSetsClient;
use longhaul::proto::longhaul::v1::webhooks_client::WebhooksClient;
use tonic::transport::Endpoint;

use crate::support::*;

scenarios! {
    over every face;
    a_tenant_that_starts_too_fast_is_refused_and_others_are_not,
    a_tenant_with_as_many_watches_as_it_may_is_refused_one_more,
    a_tenant_with_as_many_operations_as_it_may_is_refused_one_more_until_one_is_deleted,
    a_tenant_that_stores_as_many_bytes_as_it_may_is_refused_more_until_some_are_deleted,
    a_tenant_that_reads_too_much_waits_and_others_do_not,
    callbacks_and_webhook_endpoints_of_a_tenant_are_limited,
    calls_about_endpoints_and_message_types_count_too,
}

fn below(parent: &str) -> pb::StartOperationRequest {
    pb::StartOperationRequest { parent: parent.to_owned(), ..start("q") }
}

async fn a_tenant_that_starts_too_fast_is_refused_and_others_are_not(fixture: &Fixture) {
    let limits = TenantLimits { starts_per_second: 2, ..TenantLimits::default() };
    let limited = fixture.limited_by(limits).await;
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

async fn a_tenant_with_as_many_operations_as_it_may_is_refused_one_more_until_one_is_deleted(
    fixture: &Fixture,
) {
    let limits = TenantLimits { operations: 2, ..TenantLimits::default() };
    // One was there before the server was.
    let name = fixture.start(below("projects/p/locations/l")).await.granted().name;
    let limited = fixture.limited_by(limits).await;
    let engine = limited.server.engine();
    engine.count_tenants().await.expect("counted");
    limited.start(below("projects/p")).await.granted();
    let refused = limited.start(below("projects/p")).await;
    refused.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    limited.start(below("projects/q")).await.granted();
    limited.delete(&name).await.granted();
    engine.count_tenants().await.expect("counted");
    limited.start(below("projects/p")).await.granted();
    limited.stop().await;
}

async fn a_tenant_that_stores_as_many_bytes_as_it_may_is_refused_more_until_some_are_deleted(
    fixture: &Fixture,
) {
    let limits = TenantLimits { stored_bytes: 16 << 10, ..TenantLimits::default() };
    let sized = |parent: &str| pb::StartOperationRequest {
        request: Some(large("acme.Resize", 5_000)),
        ..below(parent)
    };
    // One was there before the server was.
    let name = fixture.start(sized("projects/p/locations/l")).await.granted().name;
    let limited = fixture.limited_by(limits).await;
    let engine = limited.server.engine();
    engine.count_tenants().await.expect("counted");
    limited.start(sized("projects/p")).await.granted();
    let refused = limited.start(sized("projects/p")).await;
    let metadata = refused.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    assert_eq!(metadata["tenant"], "projects/p");
    limited.start(sized("projects/q")).await.granted();
    // There is room for small ones.
    limited.start(below("projects/p")).await.granted();
    limited.cancel(&name).await.granted();
    limited.delete(&name).await.granted();
    engine.count_tenants().await.expect("counted");
    limited.start(sized("projects/p")).await.granted();
    // A result takes room, too.
    let lease = limited
        .running(pb::StartOperationRequest { queue: "other".to_owned(), ..below("projects/q") });
    let lease = lease.await;
    let response = Some(large("acme.Resized", 9_000));
    limited
        .complete(pb::CompleteOperationRequest { response, ..completion(&lease) })
        .await
        .granted();
    engine.count_tenants().await.expect("counted");
    limited.start(sized("projects/q")).await.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    limited.stop().await;
}

async fn a_tenant_that_reads_too_much_waits_and_others_do_not(fixture: &Fixture) {
    let limits = TenantLimits { requests_per_second: 1, ..TenantLimits::default() };
    let name = fixture.start(below("projects/p")).await.granted().name;
    let other = fixture.start(below("projects/q")).await.granted().name;
    let limited = fixture.limited_by(limits).await;
    let endpoint = Endpoint::try_from(format!("http://{}", limited.address)).expect("an endpoint");
    let mut reads = Vec::new();
    for _ in 0..CONNECTIONS {
        let channel = within("a connection", endpoint.connect()).await.expect("a connection");
        for _ in 0..READS {
            let mut client = OperationsClient::new(channel.clone());
            let request = GetOperationRequest { name: name.clone() };
            reads.push(Call::begin("a read", async move { client.get_operation(request).await }));
        }
    }
    // As many wait as may read at the same time, and time stands still.
    limited.clock.asked_for(SLOWEST_READ, 60).await;
    limited.get(&other).await.granted();
    limited.start(below("projects/r")).await.granted();
    limited.let_pass(SLOWEST_READ);
    for read in reads {
        read.end().await.granted();
    }
    limited.stop().await;
}

async fn callbacks_and_webhook_endpoints_of_a_tenant_are_limited(fixture: &Fixture) {
    let limits = TenantLimits { callbacks_per_second: 2, endpoints: 2, ..TenantLimits::default() };
    let limited = fixture.limited_by(limits).await;
    let with_callbacks = |parent: &str, count: usize| {
        let callback =
            pb::Callback { uri: "https://hooks.example.com/".to_owned(), ..Default::default() };
        let callbacks = vec![callback; count];
        let options = Some(pb::OperationOptions { callbacks, ..Default::default() });
        pb::StartOperationRequest { options, ..below(parent) }
    };
    limited.start(with_callbacks("projects/p", 2)).await.granted();
    let refused = limited.start(with_callbacks("projects/p", 1)).await;
    refused.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    limited.start(below("projects/p")).await.granted();
    limited.start(with_callbacks("projects/q", 1)).await.granted();

    let create = async |parent: &str, request_id: &str| {
        let endpoint = pb::WebhookEndpoint {
            uri: "https://hooks.example.com/".to_owned(),
            ..Default::default()
        };
        let request = pb::CreateWebhookEndpointRequest {
            parent: parent.to_owned(),
            webhook_endpoint: Some(endpoint),
            request_id: request_id.to_owned(),
            ..Default::default()
        };
        let mut webhooks = WebhooksClient::new(limited.line.clone());
        within("an endpoint", webhooks.create_webhook_endpoint(request)).await.map(drop)
    };
    create("projects/p", "").await.granted();
    create("projects/p/locations/l", "repeated").await.granted();
    let refused = create("projects/p/locations/m", "").await;
    refused.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    create("projects/p/locations/l", "repeated").await.granted();
    create("projects/p2", "").await.granted();
    limited.stop().await;
}

async fn calls_about_endpoints_and_message_types_count_too(fixture: &Fixture) {
    let limits = TenantLimits { requests_per_second: 2, ..TenantLimits::default() };
    let limited = fixture.limited_by(limits).await;
    let mut webhooks = WebhooksClient::new(limited.line.clone());
    let mut types = TypeSetsClient::new(limited.line.clone());
    let endpoint = || pb::DeleteWebhookEndpointRequest {
        name: "projects/p/webhookEndpoints/none".to_owned(),
        ..Default::default()
    };
    let set = || pb::DeleteTypeSetRequest {
        name: "projects/p/typeSets/none".to_owned(),
        ..Default::default()
    };
    let missing = webhooks.delete_webhook_endpoint(endpoint()).await;
    missing.refused(Code::NotFound, "WEBHOOK_ENDPOINT_NOT_FOUND");
    let missing = types.delete_type_set(set()).await;
    missing.refused(Code::NotFound, "TYPE_SET_NOT_FOUND");
    let refused = webhooks.delete_webhook_endpoint(endpoint()).await;
    refused.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    let refused = types.delete_type_set(set()).await;
    refused.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    limited.start(below("projects/q")).await.granted();
    limited.stop().await;
}

/// More than may read at the same time, on each connection and on all of them.
const READS: usize = 20;
const CONNECTIONS: usize = 8;
