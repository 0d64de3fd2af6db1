use std::time::Duration;

use futures_util::FutureExt;
use prost_types::Any;

use super::{Bench, LeaseRequest, caller, request, wish};
use crate::engine::Reason;
use crate::engine::commands::Job;
use crate::limits::MAX_REPLY_BYTES;
use crate::operation::State;
use crate::operation::command::{Command, Proof, Release};
use crate::operation::name::Name;
use crate::operation::payload::type_url;
use crate::store::faulty::Fault;
use crate::store::{Check, Mark, Partition, Put, Store, WriteSet};

#[tokio::test]
async fn a_lease_without_waiting_takes_what_is_there() {
    let bench = Bench::new();
    bench.start("a").await;
    let mut batch = bench.engine.lease(&caller(), wish(1)).await.expect("batch");
    assert_eq!(batch.load(MAX_REPLY_BYTES).await.expect("leases").len(), 1);
    batch.told();
    let mut batch = bench.engine.lease(&caller(), wish(1)).await.expect("batch");
    assert!(batch.load(MAX_REPLY_BYTES).await.expect("leases").is_empty());
}

#[tokio::test]
async fn what_does_not_fit_into_a_reply_is_not_leased() {
    let bench = Bench::new();
    for id in ["a", "b", "c", "d", "e"] {
        let payload = Any { type_url: type_url("a.B"), value: vec![0; 1 << 20] };
        let request = super::super::StartRequest { request: Some(payload), ..request(id) };
        bench.engine.start_operation(&caller(), request).await.expect("start");
    }
    let mut batch = bench.engine.lease(&caller(), wish(100)).await.expect("batch");
    assert_eq!(batch.load(MAX_REPLY_BYTES).await.expect("leases").len(), 2);
    batch.told();
    for id in ["c", "d", "e"] {
        let view = bench.engine.get(&caller(), &super::name(id)).await.expect("view");
        assert!(
            matches!(view.operation.state, State::Pending(_)) && view.operation.unseen_leases == 0,
            "{id}"
        );
    }
}

#[tokio::test]
async fn a_repeated_leased_start_never_gets_another_workers_lease() {
    let bench = Bench::new();
    let wanted = || super::super::StartRequest { request_id: "r".to_owned(), ..request("a") };
    let caller = caller();
    let leased = |request| {
        bench.engine.start_leased(&caller, request, "first".to_owned(), Duration::from_secs(30))
    };
    let (started, lease) = leased(wanted()).await.expect("start");
    let token = lease.expect("lease").lease().expect("lease").token;
    let (_, again) = leased(wanted()).await.expect("again");
    assert_eq!(again.expect("the same").lease().expect("lease").token, token);

    let proof = Proof { token, fingerprint: [0; 16] };
    let release =
        Release { proof, checkpoint: None, delay: Duration::ZERO, seen: true, holder: None };
    bench
        .engine
        .work(&caller, &started.view.operation.name, Command::Release(Box::new(release)))
        .await
        .expect("release");
    bench.engine.lease(&caller, wish(1)).await.expect("batch").told();
    let (replay, none) = leased(wanted()).await.expect("again");
    assert!(replay.replayed && none.is_none());
}

#[tokio::test]
async fn a_lease_whose_commit_was_not_heard_of_is_known_again() {
    let bench = Bench::new();
    bench.start("a").await;
    bench.store.inject([Fault::AppliedUnknown]);
    let mut batch = bench.engine.lease(&caller(), wish(1)).await.expect("batch");
    assert_eq!(batch.load(MAX_REPLY_BYTES).await.expect("leases").len(), 1);
    batch.told();
}

#[tokio::test]
async fn what_was_given_to_a_worker_reaches_it_although_its_starter_has_hung_up() {
    let bench = Bench::new();
    let wish = LeaseRequest { wait: Duration::from_mins(1), ..wish(1) };
    let (engine, caller) = (bench.engine.clone(), caller());
    let mut leasing = std::pin::pin!(engine.lease(&caller, wish));
    assert!(leasing.as_mut().now_or_never().is_none());
    // The dispatcher has looked, and found nothing.
    while !engine.inner.dispatchers.is_quiet("q") {
        tokio::task::yield_now().await;
    }
    let starting = engine.start_operation(&caller, request("a"));
    assert!(starting.now_or_never().is_none(), "hung up while it is written");
    let mut batch = leasing.await.expect("batch");
    assert_eq!(batch.load(MAX_REPLY_BYTES).await.expect("leases").len(), 1);
    batch.told();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_does_not_block_its_queue() {
    let bench = Bench::new();
    let damaged = bench.start("a").await;
    bench.clock.advance(Duration::from_secs(1));
    bench.start("b").await;
    damage(&bench, &damaged).await;

    let mut batch = bench.engine.lease(&caller(), wish(1)).await.expect("batch");
    let leased = batch.load(MAX_REPLY_BYTES).await.expect("leases");
    assert_eq!(leased.first().expect("lease").operation.name.as_str(), "operations/b");
    batch.told();
    assert!(
        bench
            .engine
            .lease(&caller(), wish(1))
            .await
            .expect("batch")
            .load(MAX_REPLY_BYTES)
            .await
            .expect("leases")
            .is_empty()
    );
}

#[tokio::test]
async fn a_record_that_cannot_be_read_does_not_keep_others_of_its_batch_from_being_written() {
    let bench = Bench::new();
    let (damaged, whole) = (bench.start("a").await, bench.start("b").await);
    damage(&bench, &damaged).await;
    let cancel = |name: &Name| Job { key: bench.engine.key(name), command: Command::Cancel };
    let mut outcomes = bench.engine.apply_jobs(vec![cancel(&damaged), cancel(&whole)]).await;
    assert!(outcomes.pop().expect("two").expect("written").expect("there").changed);
    assert_eq!(outcomes.pop().expect("one").expect_err("unreadable").reason, Reason::Internal);
}

/// Puts something into the store that is no record.
async fn damage(bench: &Bench, name: &Name) {
    let key = bench.store.keyspace().key(name.as_str());
    let found = bench.store.get(&[key]).await.expect("there");
    let revision = found[0].as_ref().expect("record").revision;
    let mut set = WriteSet::new(Partition(0), Check::At(key, revision));
    set.puts.push(Put { key, visible: Mark::New, fencing: Mark::Keep(0), value: "?".into() });
    bench.store.commit(vec![set]).await.remove(0).expect("damage");
}

#[tokio::test]
async fn a_queue_for_which_nobody_waits_any_more_is_forgotten() {
    let bench = Bench::new();
    bench.engine.lease(&caller(), wish(1)).await.expect("batch").told();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.engine.inner.dispatchers.count(), 0);
}
