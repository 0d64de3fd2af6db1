//! Standstills of the server and outages of the store: that time does not count against workers, and callers get the true reason.

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
    a_worker_that_stays_silent_after_a_standstill_loses_its_lease,
    a_short_lease_outlives_the_pauses_of_its_worker_once_the_store_is_back,
    a_stream_that_waits_for_the_store_is_told_so_and_not_that_its_worker_was_silent,
    an_idle_stream_is_not_acknowledged_while_the_store_is_away,
    a_watch_and_a_wait_whose_store_is_away_end_and_say_so,
    a_watch_whose_store_hangs_ends_and_says_so,
}

const STANDSTILL: Duration = Duration::from_secs(12);

/// A lease of 4 s from a server that notices when it stood still.
async fn leased(fixture: &Fixture) -> pb::Lease {
    fixture.server.engine().run_beat();
    fixture.started("q").await;
    let request = pb::LeaseOperationsRequest { lease_duration: seconds(4), ..leasing("q") };
    fixture.leases(request).await.granted().remove(0)
}

async fn expect_kept(fixture: &Fixture, lease: &pb::Lease, what: &str) {
    drop(Reaper.run_once(fixture.server.engine()).await);
    let record = fixture.record(&lease.operation).await;
    assert_eq!((record.state(), record.attempts.len()), (State::Running, 1), "{what}: {record:?}");
    let renewed = fixture.renew(vec![renewal(lease)]).await.granted();
    assert!(renewed[0].error.is_none(), "{what}: {renewed:?}");
}

async fn a_standstill_at_any_step_of_a_renewal_costs_no_lease(fixture: &Fixture) {
    let lease = leased(fixture).await;
    // The cached record is dropped: the next renewal reads first.
    expect_kept(fixture, &lease, "at once").await;
    for hang in [Hang::Reads, Hang::Commits, Hang::Answers] {
        let what = format!("{hang:?}");
        fixture.let_pass(Duration::from_secs(3));
        fixture.store.set_hang(Some(hang));
        let (workers, renewals) = (fixture.workers(), vec![renewal(&lease)]);
        let renewing = Call::begin("a renewal", async move {
            let mut workers = workers;
            workers.renew_leases(pb::RenewLeasesRequest { renewals }).await
        });
        within("the renewal to hang", fixture.store.hangs()).await;
        fixture.let_pass(STANDSTILL);
        if hang != Hang::Reads {
            drop(Reaper.run_once(fixture.server.engine()).await);
        }
        fixture.store.set_hang(None);
        let renewed = renewing.end().await.expect("an answer").into_inner().results;
        assert!(renewed[0].error.is_none(), "{what}: {renewed:?}");
        expect_kept(fixture, &lease, &what).await;
        expect_kept(fixture, &lease, &what).await;
    }
}

async fn a_lease_that_expired_while_the_server_stood_still_is_not_given_away_at_once(
    fixture: &Fixture,
) {
    let lease = leased(fixture).await;
    fixture.let_pass(STANDSTILL);
    expect_kept(fixture, &lease, "before it is renewed").await;
    fixture.let_pass(STANDSTILL);
    expect_kept(fixture, &lease, "after it was renewed").await;
}

/// A stream with a lease of 4 s.
async fn streaming(fixture: &Fixture) -> (WorkerStream, pb::Lease) {
    fixture.server.engine().run_beat();
    fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, short("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(nothing()).await;
    (stream, lease)
}

fn short(queue: &str) -> Hello {
    Hello { lease_duration: seconds(4), ..hello(queue) }
}

async fn a_standstill_ends_no_stream_and_costs_no_lease_of_it(fixture: &Fixture) {
    let (mut stream, lease) = streaming(fixture).await;
    for _ in 0..3 {
        fixture.let_pass(STANDSTILL);
        // Every task runs before the worker's message is read.
        fixture.list("", 1, "").await.granted();
        drop(Reaper.run_once(fixture.server.engine()).await);
        assert!(stream.settle(nothing()).await.iter().all(|outcome| outcome.sequence > 0));
    }
    assert!(
        stream
            .settle(Request { completions: vec![completion(&lease)], ..Request::default() })
            .await
            .is_empty()
    );
    let record = fixture.record(&lease.operation).await;
    assert_eq!((record.state(), record.attempts.len()), (State::Succeeded, 1), "{record:?}");
}

async fn a_worker_that_stays_silent_after_a_standstill_loses_its_lease(fixture: &Fixture) {
    let lease = leased(fixture).await;
    fixture.let_pass(STANDSTILL);
    expect_kept(fixture, &lease, "after the standstill").await;
    let lost = async {
        while fixture.state(&lease.operation).await != State::Pending {
            drop(Reaper.run_once(fixture.server.engine()).await);
        }
    };
    fixture.passing("the lease to be lost", lost).await;
}

async fn a_short_lease_outlives_the_pauses_of_its_worker_once_the_store_is_back(fixture: &Fixture) {
    fixture.started("q").await;
    let request = pb::LeaseOperationsRequest { lease_duration: seconds(2), ..leasing("q") };
    let lease = fixture.leases(request).await.granted().remove(0);
    fixture.store.set_away(true);
    fixture.let_pass(Duration::from_secs(20));
    fixture.store.set_away(false);
    fixture.pass(MIN_RETURN_GRACE.saturating_sub(Duration::from_millis(100))).await;
    assert_eq!(fixture.state(&lease.operation).await, State::Running);
    fixture.pass(Duration::from_millis(100)).await;
    assert_eq!(fixture.state(&lease.operation).await, State::Pending);
}

async fn a_stream_that_waits_for_the_store_is_told_so_and_not_that_its_worker_was_silent(
    fixture: &Fixture,
) {
    fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, short("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(nothing()).await;
    fixture.store.set_away(true);
    let end = async {
        loop {
            stream.say(Request { reports: vec![report(&lease)], ..Request::default() }).await;
            if let Err(end) = stream.message().await {
                return end;
            }
        }
    };
    let end = fixture.passing("the end of the stream", end).await;
    Err::<(), _>(end).refused(Code::Unavailable, "STORE_UNAVAILABLE");
}

async fn an_idle_stream_is_not_acknowledged_while_the_store_is_away(fixture: &Fixture) {
    let mut stream = WorkerStream::open(fixture).await;
    stream.greet(short("q"), 1).await;
    stream.settle(nothing()).await;
    let handled = stream.sequence;
    fixture.store.set_away(true);
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
    let end = fixture.passing("the end of the stream", end).await;
    Err::<(), _>(end).refused(Code::Unavailable, "STORE_UNAVAILABLE");
    fixture.store.set_away(false);
    let mut stream = WorkerStream::open(fixture).await;
    stream.say(Request { hello: Some(short("q")), ..slots(1) }).await;
    stream.hear().await;
    stream.say(Request::default()).await;
    let heartbeat = fixture.passing("a heartbeat", stream.hear()).await;
    assert_eq!(heartbeat.acknowledged_sequence, stream.sequence);
}

async fn a_watch_and_a_wait_whose_store_is_away_end_and_say_so(fixture: &Fixture) {
    fixture.server.engine().run_beat();
    let name = fixture.started("q").await;
    let heartbeat_interval = seconds(1);
    let request = pb::WatchOperationRequest { heartbeat_interval, ..watch(&name) };
    let mut watcher = fixture.watch(request).await;
    watcher.expect(EventType::Snapshot).await;
    let asked = fixture.clock.count(Duration::from_mins(1));
    let waiting = fixture.wait(&name, seconds(60));
    fixture.clock.asked_for(Duration::from_mins(1), asked + 1).await;
    fixture.store.set_away(true);
    let end = fixture.passing("the end of the watch", end_of(&mut watcher)).await;
    Err::<(), _>(end).refused(Code::Unavailable, "STORE_UNAVAILABLE");
    waiting.end().await.refused(Code::Unavailable, "STORE_UNAVAILABLE");
    fixture.store.set_away(false);
    fixture
        .passing("the store to count as back", async {
            while fixture.try_watch(watch(&name)).await.is_err() {}
        })
        .await;
}

async fn a_watch_whose_store_hangs_ends_and_says_so(fixture: &Fixture) {
    fixture.server.engine().run_beat();
    let name = fixture.started("q").await;
    let mut watcher = fixture.watch(watch(&name)).await;
    watcher.expect(EventType::Snapshot).await;
    fixture.store.set_hang(Some(Hang::Commits));
    let (mut operations, cancel) = (fixture.operations(), cancellation(&name));
    let cancelling =
        Call::begin("a cancel", async move { operations.cancel_operation(cancel).await });
    within("the cancel to hang", fixture.store.hangs()).await;
    let end = fixture.passing("the end of the watch", end_of(&mut watcher)).await;
    Err::<(), _>(end).refused(Code::Unavailable, "STORE_UNAVAILABLE");
    fixture.store.set_hang(None);
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
