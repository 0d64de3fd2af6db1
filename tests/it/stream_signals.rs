//! `ServeQueue`: signals of the server about held leases: cancel, pause, loss, drain.

use crate::support::stream::{
    GRACE, Hello, Request, complete, complete_nothing, cut, held, hello, slots,
};
use crate::support::*;

scenarios! {
    a_request_to_cancel_is_pushed_at_once_and_its_delivery_noted,
    a_request_to_cancel_reaches_a_worker_that_reconnects,
    a_cancel_before_the_lease_leaves_nothing_to_lease,
    a_cancel_and_a_completion_on_a_stream_let_the_first_terminal_commit_win,
    a_cancelled_operation_of_a_broken_stream_ends_cancelled_and_is_not_retried,
    a_request_to_pause_is_pushed_and_taken_back,
    a_lease_that_ended_without_a_call_is_told_with_sequence_0,
    a_draining_server_says_so_and_leases_no_more,
    stalled_work_is_shown_as_such,
}

async fn a_request_to_cancel_is_pushed_at_once_and_its_delivery_noted(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    fixture.cancel(&name).await.granted();
    let signal = stream.signal().await;
    assert_eq!(signal.name, name);
    assert!(signal.directive.expect("a directive").cancel_requested);
    let trail = async {
        loop {
            let trail =
                fixture.record(&name).await.server_metadata.and_then(|data| data.cancel_trail);
            if let Some(trail) = trail.filter(|trail| trail.deliver_time.is_some()) {
                return trail;
            }
        }
    };
    let trail = within("the delivery to be noted", trail).await;
    assert!(trail.acknowledge_time.is_none() && !trail.forced, "{trail:?}");
    let acknowledged = pb::ReportProgressRequest { cancel_acknowledged: true, ..report(&lease) };
    stream.settle(Request { reports: vec![acknowledged], ..Default::default() }).await;
    let trail = fixture.record(&name).await.server_metadata.expect("metadata").cancel_trail;
    assert!(trail.is_some_and(|trail| trail.acknowledge_time.is_some()));
    let outcomes = stream
        .settle(Request { failures: vec![failure(&lease, Code::Cancelled)], ..Default::default() })
        .await;
    assert!(outcomes.is_empty(), "{outcomes:?}");
    assert_eq!(fixture.state(&name).await, State::Cancelled);
}

async fn a_request_to_cancel_reaches_a_worker_that_reconnects(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(complete_nothing()).await;
    stream.cut().await;
    fixture.cancel(&name).await.granted();
    assert_eq!(fixture.state(&name).await, State::Cancelling);
    let back = Hello { held: vec![held(&lease)], ..hello("q") };
    let mut stream = WorkerStream::open(fixture).await;
    stream.say(Request { hello: Some(back), ..slots(1) }).await;
    let signal = stream.signal().await;
    assert!(signal.directive.expect("a directive").cancel_requested);
    assert_eq!(signal.name, name);
}

async fn a_cancel_before_the_lease_leaves_nothing_to_lease(fixture: &Fixture) {
    let name = fixture.started("q").await;
    fixture.cancel(&name).await.granted();
    let next = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 2).await;
    assert_eq!(stream.leases(1).await[0].operation, next);
    assert_eq!(fixture.state(&name).await, State::Cancelled);
}

async fn a_cancel_and_a_completion_on_a_stream_let_the_first_terminal_commit_win(
    fixture: &Fixture,
) {
    let mut stream = WorkerStream::serving(fixture, hello("q"), 2).await;
    let asked_first = fixture.started("q").await;
    let done_first = fixture.started("q").await;
    let leases = stream.leases(2).await;
    fixture.cancel(&asked_first).await.granted();
    let of = |name: &str| leases.iter().find(|lease| lease.operation == name).expect("a lease");
    let mut both = complete(of(&asked_first));
    both.completions.push(completion(of(&done_first)));
    let outcomes = stream.settle(both).await;
    assert!(outcomes.is_empty(), "{outcomes:?}");
    fixture.cancel(&done_first).await.granted();
    assert_eq!(fixture.state(&asked_first).await, State::Succeeded);
    assert_eq!(fixture.state(&done_first).await, State::Succeeded);
}

async fn a_cancelled_operation_of_a_broken_stream_ends_cancelled_and_is_not_retried(
    fixture: &Fixture,
) {
    let name = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    stream.leases(1).await;
    stream.settle(complete_nothing()).await;
    cut(fixture, stream).await;
    fixture.cancel(&name).await.granted();
    fixture.pass(GRACE).await;
    let record = fixture.record(&name).await;
    assert_eq!(record.state(), State::Cancelled, "{record:?}");
    fixture.pass(Duration::from_hours(1)).await;
    fixture.expect_no_lease("q").await;
}

async fn a_request_to_pause_is_pushed_and_taken_back(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    fixture.pause(&name).await.granted();
    assert!(stream.signal().await.directive.expect("a directive").pause_requested);
    fixture.resume(&name, None).await.granted();
    assert!(!stream.signal().await.directive.expect("a directive").pause_requested);
    fixture.pause(&name).await.granted();
    stream.signal().await;
    let suspend = Request { suspensions: vec![suspension(&lease)], ..Default::default() };
    assert!(stream.settle(suspend).await.is_empty());
    assert_eq!(fixture.state(&name).await, State::Suspended);
    // Its slot is free.
    let next = fixture.started("q").await;
    assert_eq!(stream.leases(1).await[0].operation, next);
}

async fn a_lease_that_ended_without_a_call_is_told_with_sequence_0(fixture: &Fixture) {
    let options = pb::OperationOptions {
        deadline_time: Some(fixture.at(Duration::from_secs(10))),
        ..Default::default()
    };
    let name = fixture.start(start_with("q", options)).await.granted().name;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    fixture.pass(Duration::from_secs(11)).await;
    let outcome = loop {
        if let Some(outcome) = stream.hear().await.outcomes.pop() {
            break outcome;
        }
    };
    assert_eq!((outcome.sequence, &outcome.name), (0, &name));
    let info = error_info(&outcome.error.expect("an error"));
    assert_eq!(info.reason, "LEASE_LOST");
    assert_eq!(info.metadata["fencingNumber"], lease.fencing_number.to_string());
    assert_eq!(fixture.state(&name).await, State::Failed);
    // Its slot is free.
    let next = fixture.started("q").await;
    assert_eq!(stream.leases(1).await[0].operation, next);
}

async fn a_draining_server_says_so_and_leases_no_more(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 5).await;
    let lease = stream.leases(1).await.remove(0);
    fixture.server.drain();
    while stream.hear().await.drain_duration.is_none() {}
    assert!(stream.settle(complete(&lease)).await.is_empty());
    assert_eq!(fixture.state(&name).await, State::Succeeded);
    stream.half_close().await;
}

async fn stalled_work_is_shown_as_such(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    let mut watcher = fixture.watch(watch(&name)).await;
    watcher.expect(EventType::Snapshot).await;
    for _ in 0..34 {
        // Renews, without progress. What the stream renews by itself takes as long as the disk does, and a lease that has
        // expired meanwhile is not called stalled; this acknowledgement says that the store has it.
        let alive = Request { reports: vec![report(&lease)], ..Default::default() };
        assert!(stream.settle(alive).await.is_empty());
        fixture.pass(Duration::from_secs(9)).await;
    }
    let event = watcher.until(EventType::Update, EventType::Heartbeat).await;
    assert!(event.server_metadata.expect("metadata").stalled);
    let reports = vec![pb::ReportProgressRequest {
        progress: Some(pb::Progress { fraction: Some(0.5), ..Default::default() }),
        ..report(&lease)
    }];
    stream.settle(Request { reports, ..Default::default() }).await;
    let event = watcher.until(EventType::Update, EventType::Heartbeat).await;
    let metadata = event.server_metadata.expect("metadata");
    assert!(!metadata.stalled);
    assert!(metadata.estimated_end_time.is_some(), "{metadata:?}");
}
