//! More calls than the server can answer: some are refused early, and nothing that was acknowledged is lost.

use longhaul::limits::MAX_WRITES;
use longhaul::proto::longhaul::v1::producers_client::ProducersClient;
use longhaul::store::faulty::Hang;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Endpoint;
use tonic_types::StatusExt;

use crate::support::*;

scenarios! {
    starts_beyond_the_limit_are_refused_and_all_others_are_there,
}

async fn starts_beyond_the_limit_are_refused_and_all_others_are_there(fixture: &Fixture) {
    let before = fixture.started("q").await;
    fixture.store.set_hang(Some(Hang::Commits));
    let mut starts = JoinSet::new();
    let endpoint = Endpoint::try_from(format!("http://{}", fixture.address)).expect("an endpoint");
    for connection in 0..CONNECTIONS {
        let channel = endpoint.connect().await.expect("a connection");
        for _ in 0..MAX_WRITES / CONNECTIONS + usize::from(connection == 0) {
            let mut producers = ProducersClient::new(channel.clone());
            starts.spawn(async move { producers.start_operation(start("q")).await });
        }
    }
    // While the store hangs, no other call ends.
    let first = within("a refusal", starts.join_next()).await.expect("a start");
    let refusal = first.expect("no panic").expect_err("one beyond the limit");
    assert_overload(&refusal);
    fixture.get(&before).await.granted();
    fixture.store.set_hang(None);
    let mut acknowledged = 0_usize;
    while let Some(answer) = within("the end of a start", starts.join_next()).await {
        match answer.expect("no panic") {
            Ok(_) => acknowledged += 1,
            Err(refusal) => panic!("{refusal:?}"),
        }
    }
    assert_eq!(acknowledged, MAX_WRITES);
    let stats = fixture.stats("").await.granted();
    let stored: i64 = stats.counts.iter().map(|count| count.operations).sum();
    assert_eq!(stored as usize, acknowledged + 1);
    fixture.started("q").await;
}

fn assert_overload(refusal: &Status) {
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    let retry = refusal.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(retry.is_some(), "{refusal:?}");
}

const CONNECTIONS: usize = 4;
