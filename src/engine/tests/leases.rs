use std::time::Duration;

use futures_util::FutureExt;

use super::{Bench, LeaseRequest, caller, request, wish};
use crate::clock::Clock;
use crate::engine::Reason;
use crate::engine::commands::apply::KeyedCommand;
use crate::limits::MAX_REPLY_BYTES;
use crate::operation::command::{Cancel, Command, Fail, Proof, Release, Suspend};
use crate::operation::name::Name;
use crate::operation::payload::{Payload, type_url};
use crate::operation::{Start, State};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
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
        let payload = Any { type_url: type_url("a.B"), value: vec![0; 1 << 20].into() };
        let mut wanted = request(id);
        wanted.spec.request = Some(Payload::Inline(payload));
        bench.engine.start_operation(&caller(), wanted).await.expect("start");
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
    let wanted = || {
        let mut wanted = request("a");
        "r".clone_into(&mut wanted.spec.request_id);
        wanted
    };
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
        .work(&caller, &super::name_of(&started), Command::Release(Box::new(release)))
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

/// A start that must be taken within ten seconds, by the bound of that name.
fn urgent(bench: &Bench, id: &str, bound: &str) -> Start {
    let mut request = request(id);
    if bound == "deadline_time" {
        request.spec.options.deadline_time = Some(bench.clock.now() + SOON);
    } else {
        request.spec.options.queue_timeout = Some(Duration::from_secs(10));
    }
    request
}

/// The next commit takes so long that the start is too late.
fn take_time(bench: &Bench) {
    let clock = bench.clock.clone();
    bench.store.during_next_commit(move || clock.advance(SOON));
}

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_ran_out_of_time_while_it_waited_ends_without_a_lease() {
    for bound in ["deadline_time", "queue_timeout"] {
        let bench = Bench::new();
        bench.engine.start_operation(&caller(), urgent(&bench, "a", bound)).await.expect("start");
        bench.clock.advance(SOON);
        bench.start("b").await;
        // No agent has run: the worker gets the operation behind it.
        let mut batch = bench.engine.lease(&caller(), wish(1)).await.expect("batch");
        let leased = batch.load(MAX_REPLY_BYTES).await.expect("leases");
        assert_eq!(leased.len(), 1, "{bound}");
        assert_eq!(leased[0].operation.name, super::name("b"));
        batch.told();
        let view = bench.engine.get(&caller(), &super::name("a")).await.expect("view");
        let State::Failed(error) = &view.operation.state else { panic!("{:?}", view.operation) };
        assert_eq!(error.code, tonic::Code::DeadlineExceeded as i32);
        assert!(view.operation.attempts.is_empty() && view.operation.start_time.is_none());
    }
}

#[tokio::test]
async fn a_pause_between_attempts_or_a_suspension_that_outlasts_the_deadline_ends_without_a_lease()
{
    let bench = Bench::new();
    let mut tokens = Vec::new();
    for id in ["retried", "suspended"] {
        let request = urgent(&bench, id, "deadline_time");
        let worker = "w".to_owned();
        let leased = bench.engine.start_leased(&caller(), request, worker, SOON).await;
        let lease = leased.expect("start").1.expect("lease");
        tokens.push(lease.lease().expect("lease").token);
    }
    let proof = |token| Proof { token, fingerprint: [0; 16] };
    let fail = Fail {
        proof: proof(tokens[0]),
        error: Status { code: 14, ..Status::default() },
        retry: None,
        retry_delay: Some(SOON / 2),
        metadata: None,
        checkpoint: None,
    };
    let suspend = Suspend {
        proof: proof(tokens[1]),
        reason: String::new(),
        metadata: None,
        checkpoint: None,
        resume_time: None,
    };
    let caller = caller();
    let work = async |id, command| {
        bench.engine.work(&caller, &super::name(id), command).await.expect("accepted");
    };
    work("retried", Command::Fail(Box::new(fail))).await;
    work("suspended", Command::Suspend(Box::new(suspend))).await;
    bench.clock.advance(SOON);
    // The scheduler and a caller come before the reaper.
    crate::engine::Scheduler.run_once(&bench.engine).await.expect("sweep");
    let suspended = super::name("suspended");
    bench.engine.resume(&caller, &suspended, String::new(), None).await.expect("resumed");
    let mut batch = bench.engine.lease(&caller, wish(2)).await.expect("batch");
    assert!(batch.load(MAX_REPLY_BYTES).await.expect("leases").is_empty());
    for id in ["retried", "suspended"] {
        let view = bench.engine.get(&caller, &super::name(id)).await.expect("view");
        let State::Failed(error) = &view.operation.state else { panic!("{:?}", view.operation) };
        assert_eq!(error.code, tonic::Code::DeadlineExceeded as i32, "{id}");
        assert_eq!(view.operation.attempts_used, u32::from(id == "retried"));
    }
}

#[tokio::test]
async fn a_lease_whose_deadline_passes_while_it_is_written_reaches_no_worker() {
    let bench = Bench::new();
    let request = urgent(&bench, "a", "deadline_time");
    bench.engine.start_operation(&caller(), request).await.expect("start");
    take_time(&bench);
    let mut batch = bench.engine.lease(&caller(), wish(1)).await.expect("batch");
    assert!(batch.load(MAX_REPLY_BYTES).await.expect("leases").is_empty());

    // The same for a start that commits with the lease of a worker that waits.
    let waiting = LeaseRequest { wait: Duration::from_mins(1), ..wish(1) };
    let (engine, caller) = (bench.engine.clone(), caller());
    let mut leasing = std::pin::pin!(engine.lease(&caller, waiting));
    while !engine.rooms.dispatch.is_quiet("q") {
        assert!(leasing.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    let request = urgent(&bench, "b", "deadline_time");
    take_time(&bench);
    engine.start_operation(&caller, request).await.expect("start");
    bench.start("c").await;
    let mut batch = leasing.await.expect("batch");
    let leased = batch.load(MAX_REPLY_BYTES).await.expect("leases");
    assert_eq!(leased[0].operation.name, super::name("c"));
    batch.told();
    crate::engine::Reaper.run_once(&engine).await.expect("sweep");
    for id in ["a", "b"] {
        let view = engine.get(&caller, &super::name(id)).await.expect("view");
        let State::Failed(error) = &view.operation.state else { panic!("{:?}", view.operation) };
        assert_eq!(error.code, tonic::Code::DeadlineExceeded as i32, "{id}");
        assert!(view.operation.attempts.is_empty(), "{id}");
    }
}

#[tokio::test]
async fn what_was_given_to_a_worker_reaches_it_although_its_starter_has_hung_up() {
    let bench = Bench::new();
    let wish = LeaseRequest { wait: Duration::from_mins(1), ..wish(1) };
    let (engine, caller) = (bench.engine.clone(), caller());
    let mut leasing = std::pin::pin!(engine.lease(&caller, wish));
    assert!(leasing.as_mut().now_or_never().is_none());
    // The dispatcher has polled, and found nothing.
    while !engine.rooms.dispatch.is_quiet("q") {
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
    let cancel = |name: &Name| KeyedCommand {
        key: bench.engine.rooms.context.key(name),
        command: Command::Cancel(Cancel::default()),
    };
    let mut outcomes =
        bench.engine.rooms.commands.apply_all(vec![cancel(&damaged), cancel(&whole)]).await;
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
    assert_eq!(bench.engine.rooms.dispatch.count(), 0);
}
