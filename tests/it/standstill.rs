//! A server or a store that stood still, or was away: that time does not count against workers, and is told as what it is.

use longhaul::engine::Reaper;
use longhaul::limits::MIN_RETURN_GRACE;
use longhaul::proto::google::longrunning as lro;
use longhaul::store::faulty::Hang;
use tonic::Status;

use crate::support::stream::{Hello, Request, hello, slots};
use crate::support::*;

scenarios! {
    a_standstill_at_any_step_of_a_renewal_costs_no_lease,
    a_lease_that_expired_while_the_server_stood_still_is_not_given_away_at_once,
    a_standstill_ends_no_stream_and_costs_no_lease_of_it,
    who_stays_silent_after_a_standstill_loses_the_lease,
    a_short_lease_outlives_the_pauses_of_its_worker_once_the_store_is_back,
    a_stream_that_waits_for_the_store_is_told_so_and_not_that_its_worker_was_silent,
    an_idle_stream_is_not_acknowledged_while_the_store_is_away,
    a_watch_and_a_wait_whose_store_is_away_end_and_say_so,
    a_watch_whose_store_hangs_ends_and_says_so,
}

const STANDSTILL: Duration = Duration::from_secs(12);

/// A lease of 4 s from a server that notices when it stood still.
async fn leased(world: &World) -> pb::Lease {
    world.server.engine().run_beat();
    world.started("q").await;
    let request = pb::LeaseOperationsRequest { lease_duration: seconds(4), ..leasing("q") };
    world.leases(request).await.granted().remove(0)
}

async fn expect_kept(world: &World, lease: &pb::Lease, what: &str) {
    drop(Reaper.run_once(world.server.engine()).await);
    let record = world.record(&lease.operation).await;
    assert_eq!((record.state(), record.attempts.len()), (State::Running, 1), "{what}: {record:?}");
    let renewed = world.renew(vec![renewal(lease)]).await.granted();
    assert!(renewed[0].error.is_none(), "{what}: {renewed:?}");
}

async fn a_standstill_at_any_step_of_a_renewal_costs_no_lease(world: &World) {
    let lease = leased(world).await;
    // What was remembered is asked for again: the next renewal reads first.
    expect_kept(world, &lease, "at once").await;
    for hang in [Hang::Reads, Hang::Commits, Hang::Answers] {
        let what = format!("{hang:?}");
        world.let_pass(Duration::from_secs(3));
        world.store.set_hang(Some(hang));
        let (workers, renewals) = (world.workers(), vec![renewal(&lease)]);
        let renewing = Call::begin("a renewal", async move {
            let mut workers = workers;
            workers.renew_leases(pb::RenewLeasesRequest { renewals }).await
        });
        within("the renewal to hang", world.store.hangs()).await;
        world.let_pass(STANDSTILL);
        if hang != Hang::Reads {
            drop(Reaper.run_once(world.server.engine()).await);
        }
        world.store.set_hang(None);
        let renewed = renewing.end().await.expect("an answer").into_inner().results;
        assert!(renewed[0].error.is_none(), "{what}: {renewed:?}");
        expect_kept(world, &lease, &what).await;
        expect_kept(world, &lease, &what).await;
    }
}

async fn a_lease_that_expired_while_the_server_stood_still_is_not_given_away_at_once(
    world: &World,
) {
    let lease = leased(world).await;
    world.let_pass(STANDSTILL);
    expect_kept(world, &lease, "before it is renewed").await;
    world.let_pass(STANDSTILL);
    expect_kept(world, &lease, "after it was renewed").await;
}

/// A stream with a lease of 4 s.
async fn streaming(world: &World) -> (WorkerStream, pb::Lease) {
    world.server.engine().run_beat();
    world.started("q").await;
    let mut stream = WorkerStream::serving(world, short("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(nothing()).await;
    (stream, lease)
}

fn short(queue: &str) -> Hello {
    Hello { lease_duration: seconds(4), ..hello(queue) }
}

async fn a_standstill_ends_no_stream_and_costs_no_lease_of_it(world: &World) {
    let (mut stream, lease) = streaming(world).await;
    for _ in 0..3 {
        world.let_pass(STANDSTILL);
        // Everybody has a turn before the worker is heard.
        world.list("", 1, "").await.granted();
        drop(Reaper.run_once(world.server.engine()).await);
        assert!(stream.settle(nothing()).await.iter().all(|outcome| outcome.sequence > 0));
    }
    assert!(
        stream
            .settle(Request { completions: vec![completion(&lease)], ..Request::default() })
            .await
            .is_empty()
    );
    let record = world.record(&lease.operation).await;
    assert_eq!((record.state(), record.attempts.len()), (State::Succeeded, 1), "{record:?}");
}

async fn who_stays_silent_after_a_standstill_loses_the_lease(world: &World) {
    let lease = leased(world).await;
    world.let_pass(STANDSTILL);
    expect_kept(world, &lease, "after the standstill").await;
    let lost = async {
        while world.state(&lease.operation).await != State::Pending {
            drop(Reaper.run_once(world.server.engine()).await);
        }
    };
    world.passing("the lease to be lost", lost).await;
}

async fn a_short_lease_outlives_the_pauses_of_its_worker_once_the_store_is_back(world: &World) {
    world.started("q").await;
    let request = pb::LeaseOperationsRequest { lease_duration: seconds(2), ..leasing("q") };
    let lease = world.leases(request).await.granted().remove(0);
    world.store.set_away(true);
    world.let_pass(Duration::from_secs(20));
    world.store.set_away(false);
    world.pass(MIN_RETURN_GRACE.saturating_sub(Duration::from_millis(100))).await;
    assert_eq!(world.state(&lease.operation).await, State::Running);
    world.pass(Duration::from_millis(100)).await;
    assert_eq!(world.state(&lease.operation).await, State::Pending);
}

async fn a_stream_that_waits_for_the_store_is_told_so_and_not_that_its_worker_was_silent(
    world: &World,
) {
    world.started("q").await;
    let mut stream = WorkerStream::serving(world, short("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(nothing()).await;
    world.store.set_away(true);
    let end = async {
        loop {
            stream.say(Request { reports: vec![report(&lease)], ..Request::default() }).await;
            if let Err(end) = stream.message().await {
                return end;
            }
        }
    };
    let end = world.passing("the end of the stream", end).await;
    Err::<(), _>(end).refused(Code::Unavailable, "STORE_UNAVAILABLE");
}

async fn an_idle_stream_is_not_acknowledged_while_the_store_is_away(world: &World) {
    let mut stream = WorkerStream::open(world).await;
    stream.greet(short("q"), 1).await;
    stream.settle(nothing()).await;
    let handled = stream.sequence;
    world.store.set_away(true);
    let end = async {
        loop {
            stream.say(Request::default()).await;
            match stream.message().await {
                Ok(reply) => {
                    let reply = reply.expect("a reply");
                    assert_eq!(reply.acknowledged_sequence, handled, "{reply:?}");
                }
                Err(end) => return end,
            }
        }
    };
    let end = world.passing("the end of the stream", end).await;
    Err::<(), _>(end).refused(Code::Unavailable, "STORE_UNAVAILABLE");
    world.store.set_away(false);
    let mut stream = WorkerStream::open(world).await;
    stream.say(Request { hello: Some(short("q")), ..slots(1) }).await;
    stream.hear().await;
    stream.say(Request::default()).await;
    let heartbeat = world.passing("a heartbeat", stream.hear()).await;
    assert_eq!(heartbeat.acknowledged_sequence, stream.sequence);
}

async fn a_watch_and_a_wait_whose_store_is_away_end_and_say_so(world: &World) {
    world.server.engine().run_beat();
    let name = world.started("q").await;
    let heartbeat_interval = seconds(1);
    let request = pb::WatchOperationRequest { heartbeat_interval, ..watch(&name) };
    let mut watcher = world.watch(request).await;
    watcher.expect(EventType::Snapshot).await;
    let asked = world.clock.count(Duration::from_mins(1));
    let waiting = world.wait(&name, seconds(60));
    world.clock.asked_for(Duration::from_mins(1), asked + 1).await;
    world.store.set_away(true);
    let end = world.passing("the end of the watch", end_of(&mut watcher)).await;
    Err::<(), _>(end).refused(Code::Unavailable, "STORE_UNAVAILABLE");
    waiting.end().await.refused(Code::Unavailable, "STORE_UNAVAILABLE");
    world.store.set_away(false);
    world
        .passing("the store to count as back", async {
            while world.try_watch(watch(&name)).await.is_err() {}
        })
        .await;
}

async fn a_watch_whose_store_hangs_ends_and_says_so(world: &World) {
    world.server.engine().run_beat();
    let name = world.started("q").await;
    let mut watcher = world.watch(watch(&name)).await;
    watcher.expect(EventType::Snapshot).await;
    world.store.set_hang(Some(Hang::Commits));
    let (mut operations, cancel) = (world.operations(), cancellation(&name));
    let cancelling =
        Call::begin("a cancel", async move { operations.cancel_operation(cancel).await });
    within("the cancel to hang", world.store.hangs()).await;
    let end = world.passing("the end of the watch", end_of(&mut watcher)).await;
    Err::<(), _>(end).refused(Code::Unavailable, "STORE_UNAVAILABLE");
    world.store.set_hang(None);
    cancelling.end().await.expect("cancelled");
}

async fn end_of(watcher: &mut Watcher) -> Status {
    loop {
        match watcher.message().await {
            Ok(event) => assert_eq!(event.expect("no end").r#type(), EventType::Heartbeat),
            Err(end) => return end,
        }
    }
}

fn cancellation(name: &str) -> lro::CancelOperationRequest {
    lro::CancelOperationRequest { name: name.to_owned() }
}

/// A call that is refused, so that it is acknowledged at once.
fn nothing() -> Request {
    Request { completions: vec![pb::CompleteOperationRequest::default()], ..Request::default() }
}
