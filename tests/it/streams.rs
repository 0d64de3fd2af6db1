//! `ServeQueue`, word by word: slots, acknowledgements, signals, and every way a stream can end.

use prost::Message;

use crate::support::stream::{Held, Hello, Request, held, hello, slots};
use crate::support::*;

scenarios! {
    leases_are_pushed_as_slots_free_up,
    a_start_goes_to_a_waiting_worker_in_one_commit,
    what_is_said_in_one_message_is_handled_in_its_order_and_acknowledged,
    a_fault_of_one_call_is_an_outcome_and_the_rest_is_handled,
    a_request_to_cancel_is_pushed_at_once_and_its_delivery_noted,
    a_request_to_cancel_reaches_a_worker_that_reconnects,
    a_cancel_before_the_lease_leaves_nothing_to_lease,
    a_cancel_and_a_completion_on_a_stream_let_the_first_terminal_commit_win,
    a_cancel_of_what_a_broken_stream_held_is_cancelled_never_retried,
    a_request_to_pause_is_pushed_and_taken_back,
    a_lease_that_ended_without_a_call_is_told_with_sequence_0,
    a_broken_streams_leases_live_on_for_the_grace_then_are_lost,
    hello_after_a_reconnect_keeps_what_is_held_and_names_what_is_lost,
    a_newer_stream_takes_over_from_an_older_one_that_is_still_open,
    half_close_gives_back_what_is_held_and_is_no_attempt,
    what_half_close_gives_back_is_for_others_even_with_slots_free,
    a_lease_that_was_never_seen_is_no_attempt_but_the_fourth_in_a_row_is,
    a_silent_stream_ends_unavailable_and_counts_as_broken,
    a_stream_that_speaks_keeps_its_leases_alive,
    a_draining_server_says_so_and_leases_no_more,
    wrong_numbers_end_the_stream,
    what_was_handled_before_a_reconnect_gets_the_same_answer,
    progress_is_gathered_and_the_last_is_in_the_terminal_commit,
    an_empty_message_is_acknowledged_with_the_heartbeat,
    a_call_is_kept_while_the_store_is_away_and_acknowledged_late,
    stalled_work_is_shown_as_such,
}

fn complete(lease: &pb::Lease) -> Request {
    Request { completions: vec![completion(lease)], ..Default::default() }
}

async fn leases_are_pushed_as_slots_free_up(world: &World) {
    for _ in 0..3 {
        world.started("q").await;
    }
    let mut stream = WorkerStream::serving(world, hello("q"), 2).await;
    let leases = stream.leases(2).await;
    assert_eq!(leases[0].attempt, 1);
    assert!(leases[0].fencing_number > 0 && leases[0].lease_duration.is_some(), "{leases:?}");
    stream.say(complete(&leases[0])).await;
    let third = stream.leases(1).await;
    assert!(leases.iter().all(|lease| lease.operation != third[0].operation));
    assert_eq!(world.state(&leases[0].operation).await, State::Succeeded);
    // Lowering takes nothing back; what is held may exceed the slots.
    stream.say(Request { completions: vec![completion(&leases[1])], ..slots(1) }).await;
    let fourth = world.started("q").await;
    stream.settle(complete_nothing()).await;
    assert_eq!(world.state(&fourth).await, State::Pending);
    stream.say(complete(&third[0])).await;
    assert_eq!(stream.leases(1).await[0].operation, fourth);
}

async fn a_start_goes_to_a_waiting_worker_in_one_commit(world: &World) {
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    // Once the dispatcher has found nothing more, the reply of a start shows it leased already.
    let eager = async {
        loop {
            let operation = world.start(start("q")).await.granted();
            let lease = stream.leases(1).await.remove(0);
            assert_eq!(lease.operation, operation.name);
            let metadata = operation.metadata.expect("metadata");
            let metadata = pb::OperationMetadata::decode(&metadata.value[..]).expect("metadata");
            if metadata.state() == State::Running {
                return;
            }
            stream.settle(complete(&lease)).await;
        }
    };
    within("a start that is leased with its own commit", eager).await;
    // No slot is free now: it waits its turn.
    let waiting = world.started("q").await;
    assert_eq!(world.state(&waiting).await, State::Pending);
}

async fn what_is_said_in_one_message_is_handled_in_its_order_and_acknowledged(world: &World) {
    let names: Vec<String> =
        [world.started("q").await, world.started("q").await, world.started("q").await].into();
    let mut stream = WorkerStream::serving(world, hello("q"), 3).await;
    let leases = stream.leases(3).await;
    let mut request = complete(&leases[0]);
    request.reports = vec![pb::ReportProgressRequest {
        progress: Some(pb::Progress { fraction: Some(0.5), ..Default::default() }),
        status_detail: "half".to_owned(),
        ..report(&leases[0])
    }];
    request.failures = vec![failure(&leases[1], Code::Unavailable)];
    request.suspensions = vec![suspension(&leases[2])];
    let outcomes = stream.settle(request).await;
    let [retried] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((retried.sequence, &retried.name), (stream.sequence, &leases[1].operation));
    assert!(retried.will_retry && retried.schedule_time.is_some() && retried.error.is_none());
    let done = world.record(&leases[0].operation).await;
    assert_eq!(done.state(), State::Succeeded);
    let metadata = done.server_metadata.expect("metadata");
    assert_eq!(metadata.progress.and_then(|progress| progress.fraction), Some(0.5));
    assert_eq!(metadata.status_detail, "half");
    assert_eq!(world.state(&leases[1].operation).await, State::Pending);
    assert_eq!(world.state(&leases[2].operation).await, State::Suspended);
    assert_eq!(names.len(), 3);
}

async fn a_fault_of_one_call_is_an_outcome_and_the_rest_is_handled(world: &World) {
    world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    let mut request = complete(&lease);
    let strange = |name: &str, token: &str| pb::CompleteOperationRequest {
        name: name.to_owned(),
        lease_token: token.to_owned(),
        ..Default::default()
    };
    let token = lease.lease_token.as_str();
    request.completions.insert(0, strange("operations/nobody", token));
    request.completions.insert(1, strange("no name", token));
    request.completions.insert(2, strange(&lease.operation, "not a token"));
    let outcomes = stream.settle(request).await;
    let reason = |name: &str| {
        let of_name = |outcome: &&pb::serve_queue_response::Outcome| outcome.name == name;
        let error = outcomes.iter().find(of_name).and_then(|outcome| outcome.error.clone());
        error_info(&error.expect("an error")).reason
    };
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    assert_eq!(reason("operations/nobody"), "OPERATION_NOT_FOUND");
    assert_eq!(reason("no name"), "INVALID_NAME");
    assert_eq!(reason(&lease.operation), "INVALID_ARGUMENT");
    assert_eq!(world.state(&lease.operation).await, State::Succeeded);
}

async fn a_request_to_cancel_is_pushed_at_once_and_its_delivery_noted(world: &World) {
    let name = world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    world.cancel(&name).await.granted();
    let signal = stream.signal().await;
    assert_eq!(signal.name, name);
    assert!(signal.directive.expect("a directive").cancel_requested);
    let trail = async {
        loop {
            let trail =
                world.record(&name).await.server_metadata.and_then(|data| data.cancel_trail);
            if let Some(trail) = trail.filter(|trail| trail.deliver_time.is_some()) {
                return trail;
            }
        }
    };
    let trail = within("the delivery to be noted", trail).await;
    assert!(trail.acknowledge_time.is_none() && !trail.forced, "{trail:?}");
    let acknowledged = pb::ReportProgressRequest { cancel_acknowledged: true, ..report(&lease) };
    stream.settle(Request { reports: vec![acknowledged], ..Default::default() }).await;
    let trail = world.record(&name).await.server_metadata.expect("metadata").cancel_trail;
    assert!(trail.is_some_and(|trail| trail.acknowledge_time.is_some()));
    let outcomes = stream
        .settle(Request { failures: vec![failure(&lease, Code::Cancelled)], ..Default::default() })
        .await;
    assert!(outcomes.is_empty(), "{outcomes:?}");
    assert_eq!(world.state(&name).await, State::Cancelled);
}

async fn a_request_to_cancel_reaches_a_worker_that_reconnects(world: &World) {
    let name = world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(complete_nothing()).await;
    stream.cut().await;
    world.cancel(&name).await.granted();
    assert_eq!(world.state(&name).await, State::Cancelling);
    let back = Hello { held: vec![held(&lease)], ..hello("q") };
    let mut stream = WorkerStream::open(world).await;
    stream.say(Request { hello: Some(back), ..slots(1) }).await;
    let signal = stream.signal().await;
    assert!(signal.directive.expect("a directive").cancel_requested);
    assert_eq!(signal.name, name);
}

/// A call that is refused, so that it is acknowledged at once.
fn complete_nothing() -> Request {
    let nothing = pb::CompleteOperationRequest::default();
    Request { completions: vec![nothing], ..Default::default() }
}

async fn a_cancel_before_the_lease_leaves_nothing_to_lease(world: &World) {
    let name = world.started("q").await;
    world.cancel(&name).await.granted();
    let next = world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 2).await;
    assert_eq!(stream.leases(1).await[0].operation, next);
    assert_eq!(world.state(&name).await, State::Cancelled);
}

async fn a_cancel_and_a_completion_on_a_stream_let_the_first_terminal_commit_win(world: &World) {
    let mut stream = WorkerStream::serving(world, hello("q"), 2).await;
    let asked_first = world.started("q").await;
    let done_first = world.started("q").await;
    let leases = stream.leases(2).await;
    world.cancel(&asked_first).await.granted();
    let of = |name: &str| leases.iter().find(|lease| lease.operation == name).expect("a lease");
    let mut both = complete(of(&asked_first));
    both.completions.push(completion(of(&done_first)));
    let outcomes = stream.settle(both).await;
    assert!(outcomes.is_empty(), "{outcomes:?}");
    world.cancel(&done_first).await.granted();
    assert_eq!(world.state(&asked_first).await, State::Succeeded);
    assert_eq!(world.state(&done_first).await, State::Succeeded);
}

async fn a_cancel_of_what_a_broken_stream_held_is_cancelled_never_retried(world: &World) {
    let name = world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    stream.leases(1).await;
    stream.settle(complete_nothing()).await;
    cut(world, stream).await;
    world.cancel(&name).await.granted();
    world.pass(GRACE).await;
    let record = world.record(&name).await;
    assert_eq!(record.state(), State::Cancelled, "{record:?}");
    world.pass(Duration::from_hours(1)).await;
    world.expect_no_lease("q").await;
}

/// The stream breaks, and the server has noticed: the grace of what was held runs.
async fn cut(world: &World, stream: WorkerStream) {
    let before = world.clock.count(GRACE);
    stream.cut().await;
    world.clock.asked_for(GRACE, before + 1).await;
}

const GRACE: Duration = Duration::from_secs(3);

async fn a_request_to_pause_is_pushed_and_taken_back(world: &World) {
    let name = world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    world.pause(&name).await.granted();
    assert!(stream.signal().await.directive.expect("a directive").pause_requested);
    world.resume(&name, None).await.granted();
    assert!(!stream.signal().await.directive.expect("a directive").pause_requested);
    world.pause(&name).await.granted();
    stream.signal().await;
    let suspend = Request { suspensions: vec![suspension(&lease)], ..Default::default() };
    assert!(stream.settle(suspend).await.is_empty());
    assert_eq!(world.state(&name).await, State::Suspended);
    // Its slot is free.
    let next = world.started("q").await;
    assert_eq!(stream.leases(1).await[0].operation, next);
}

async fn a_lease_that_ended_without_a_call_is_told_with_sequence_0(world: &World) {
    let options = pb::OperationOptions {
        deadline_time: Some(world.at(Duration::from_secs(10))),
        ..Default::default()
    };
    let name = world.start(start_with("q", options)).await.granted().name;
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    world.pass(Duration::from_secs(11)).await;
    let outcome = loop {
        if let Some(outcome) = stream.hear().await.outcomes.pop() {
            break outcome;
        }
    };
    assert_eq!((outcome.sequence, &outcome.name), (0, &name));
    let info = error_info(&outcome.error.expect("an error"));
    assert_eq!(info.reason, "LEASE_LOST");
    assert_eq!(info.metadata["fencingNumber"], lease.fencing_number.to_string());
    assert_eq!(world.state(&name).await, State::Failed);
    // Its slot is free.
    let next = world.started("q").await;
    assert_eq!(stream.leases(1).await[0].operation, next);
}

async fn a_broken_streams_leases_live_on_for_the_grace_then_are_lost(world: &World) {
    let name = world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    stream.leases(1).await;
    stream.settle(complete_nothing()).await;
    cut(world, stream).await;
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.state(&name).await, State::Running);
    world.pass(Duration::from_secs(1)).await;
    let lease = world.lease("q").await;
    assert_eq!((lease.operation, lease.attempt), (name.clone(), 2));
    let record = world.record(&name).await;
    let first = record.attempts[0].error.clone().expect("an error");
    assert_eq!(error_info(&first).reason, "WORKER_LOST");
}

async fn hello_after_a_reconnect_keeps_what_is_held_and_names_what_is_lost(world: &World) {
    let kept = world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 2).await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(complete_nothing()).await;
    cut(world, stream).await;
    world.pass(Duration::from_secs(2)).await;
    let strangers = ["operations/nobody", "no name at all"]
        .map(|name| Held { name: name.to_owned(), lease_token: lease.lease_token.clone() });
    let mut back = Hello { held: vec![held(&lease)], ..hello("q") };
    back.held.extend(strangers);
    let mut stream = WorkerStream::open(world).await;
    let mut lost = stream.greet(back, 2).await.lost;
    lost.sort();
    assert_eq!(lost, ["no name at all", "operations/nobody"]);
    world.pass(Duration::from_secs(5)).await;
    stream.settle(complete(&lease)).await;
    let record = world.record(&kept).await;
    assert_eq!(record.state(), State::Succeeded);
    assert_eq!(record.attempts.len(), 1);
}

async fn a_newer_stream_takes_over_from_an_older_one_that_is_still_open(world: &World) {
    let name = world.started("q").await;
    let mut older = WorkerStream::serving(world, hello("q"), 1).await;
    let lease = older.leases(1).await.remove(0);
    older.settle(complete_nothing()).await;
    let back = Hello { held: vec![held(&lease)], ..hello("q") };
    let mut newer = WorkerStream::serving(world, back, 1).await;
    // What ends the older stream no longer touches the lease.
    older.cut().await;
    world.cancel(&name).await.granted();
    assert!(newer.signal().await.directive.expect("a directive").cancel_requested);
    world.let_pass(Duration::from_secs(8));
    newer.settle(complete_nothing()).await;
    world.pass(Duration::from_secs(8)).await;
    assert_eq!(world.state(&name).await, State::Cancelling);
    newer.settle(complete(&lease)).await;
    assert_eq!(world.state(&name).await, State::Succeeded);
}

async fn half_close_gives_back_what_is_held_and_is_no_attempt(world: &World) {
    let (first, second) = (world.started("q").await, world.started("q").await);
    let mut stream = WorkerStream::serving(world, hello("q"), 2).await;
    let leases = stream.leases(2).await;
    world.cancel(&second).await.granted();
    stream.signal().await;
    let done = leases.iter().find(|lease| lease.operation == first).expect("a lease");
    stream
        .say(Request {
            reports: vec![pb::ReportProgressRequest {
                status_detail: "so far".to_owned(),
                ..report(done)
            }],
            ..Default::default()
        })
        .await;
    let said = stream.sequence;
    let replies = stream.half_close().await;
    let acknowledged = replies.iter().map(|reply| reply.acknowledged_sequence).max();
    assert_eq!(acknowledged, Some(said), "{replies:?}");
    let record = world.record(&first).await;
    assert_eq!(record.state(), State::Pending);
    assert_eq!(record.server_metadata.expect("metadata").status_detail, "so far");
    assert!(record.attempts.is_empty(), "{:?}", record.attempts);
    assert_eq!(world.state(&second).await, State::Cancelled);
    assert_eq!(world.lease("q").await.attempt, 1);
}

async fn what_half_close_gives_back_is_for_others_even_with_slots_free(world: &World) {
    let mut names = Vec::new();
    for _ in 0..5 {
        names.push(world.started("q").await);
    }
    let mut stream = WorkerStream::serving(world, hello("q"), 20).await;
    let mut leases = 0;
    while leases < names.len() {
        leases += stream.hear().await.leases.len();
    }
    stream.settle(complete_nothing()).await;
    stream.half_close().await;
    for name in &names {
        let record = world.record(name).await;
        assert_eq!(record.state(), State::Pending, "{record:?}");
        assert!(record.attempts.is_empty(), "{:?}", record.attempts);
    }
    for _ in &names {
        assert_eq!(world.lease("q").await.attempt, 1);
    }
}

async fn a_lease_that_was_never_seen_is_no_attempt_but_the_fourth_in_a_row_is(world: &World) {
    let name = world.started("q").await;
    for unseen in 1..=4 {
        let mut stream = WorkerStream::open(world).await;
        stream.greet(hello("q"), 1).await;
        while stream.hear().await.leases.is_empty() {}
        stream.cut().await;
        let back = async { while world.state(&name).await != State::Pending {} };
        within("the lease to be given back", back).await;
        let record = world.record(&name).await;
        assert_eq!(record.attempts.len(), usize::from(unseen == 4), "{unseen}: {record:?}");
    }
    assert_eq!(world.lease("q").await.attempt, 2);
}

async fn a_silent_stream_ends_unavailable_and_counts_as_broken(world: &World) {
    world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    stream.leases(1).await;
    stream.settle(complete_nothing()).await;
    let before = world.clock.count(GRACE);
    let end = world.passing("the stream to be given up", stream.ended()).await;
    end.refused(Code::Unavailable, "WORKER_LOST");
    world.clock.asked_for(GRACE, before + 1).await;
    world.pass(GRACE).await;
    assert_eq!(world.lease("q").await.attempt, 2);
}

async fn a_stream_that_speaks_keeps_its_leases_alive(world: &World) {
    let name = world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    for _ in 0..8 {
        world.pass(Duration::from_secs(9)).await;
        stream.settle(complete_nothing()).await;
    }
    let record = world.record(&name).await;
    assert_eq!(record.state(), State::Running);
    assert!(stream.settle(complete(&lease)).await.is_empty());
    assert_eq!(world.record(&name).await.attempts.len(), 1);
}

async fn a_draining_server_says_so_and_leases_no_more(world: &World) {
    let name = world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 5).await;
    let lease = stream.leases(1).await.remove(0);
    world.server.drain();
    while stream.hear().await.drain_duration.is_none() {}
    assert!(stream.settle(complete(&lease)).await.is_empty());
    assert_eq!(world.state(&name).await, State::Succeeded);
    stream.half_close().await;
}

async fn wrong_numbers_end_the_stream(world: &World) {
    let first = || Request { sequence: 1, hello: Some(hello("q")), ..Default::default() };
    let wrong = [
        ("hello", Request { sequence: 1, ..Default::default() }, None),
        ("sequence", Request { sequence: 2, ..first() }, None),
        ("seen_sequence", Request { seen_sequence: 1, ..first() }, None),
        ("slots", Request { slots: Some(-1), ..first() }, None),
        ("slots", Request { slots: Some(10_001), ..first() }, None),
        ("hello.queue", Request { hello: Some(hello("no/queue")), ..first() }, None),
        ("hello", first(), Some(Request { sequence: 2, ..first() })),
        ("sequence", first(), Some(Request { sequence: 1, ..Default::default() })),
    ];
    for (field, request, next) in wrong {
        let mut stream = WorkerStream::open(world).await;
        stream.say_as_it_is(request).await;
        if let Some(next) = next {
            stream.say_as_it_is(next).await;
        }
        stream.ended().await.refused_field("INVALID_ARGUMENT", field);
    }
}

async fn what_was_handled_before_a_reconnect_gets_the_same_answer(world: &World) {
    let (done, failed) = (world.started("q").await, world.started("q").await);
    let mut stream = WorkerStream::serving(world, hello("q"), 2).await;
    let leases = stream.leases(2).await;
    let of = |name: &str| leases.iter().find(|lease| lease.operation == name).expect("a lease");
    let said =
        Request { failures: vec![failure(of(&failed), Code::Unavailable)], ..complete(of(&done)) };
    let before = stream.settle(said.clone()).await;
    stream.cut().await;
    let back = Hello { held: vec![held(of(&done)), held(of(&failed))], ..hello("q") };
    let mut stream = WorkerStream::open(world).await;
    assert_eq!(stream.greet(back, 0).await.lost.len(), 2);
    let mut after = stream.settle(said).await;
    after[0].sequence = before[0].sequence;
    assert_eq!(after, before);
    assert_eq!(world.state(&done).await, State::Succeeded);
}

async fn progress_is_gathered_and_the_last_is_in_the_terminal_commit(world: &World) {
    let name = world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    let etag = world.record(&name).await.etag;
    let at = |fraction: f64, number: i64| pb::ReportProgressRequest {
        progress: Some(pb::Progress { fraction: Some(fraction), ..Default::default() }),
        report_number: number,
        ..report(&lease)
    };
    for number in 1..5_u8 {
        let reports = vec![at(f64::from(number) / 10.0, number.into())];
        stream.settle(Request { reports, ..Default::default() }).await;
    }
    // The commit that made the lease counts as the first report.
    assert_eq!(world.record(&name).await.etag, etag);
    world
        .passing("the held report", async { while world.record(&name).await.etag == etag {} })
        .await;
    let progress = world.record(&name).await.server_metadata.expect("metadata").progress;
    assert_eq!(progress.and_then(|progress| progress.fraction), Some(0.4));
    let reports = vec![at(0.9, 9)];
    stream.settle(Request { reports, ..complete(&lease) }).await;
    let metadata = world.record(&name).await.server_metadata.expect("metadata");
    assert_eq!(metadata.progress.and_then(|progress| progress.fraction), Some(0.9));
}

async fn an_empty_message_is_acknowledged_with_the_heartbeat(world: &World) {
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    stream.say(Request::default()).await;
    let heartbeat = world.passing("a heartbeat", stream.hear()).await;
    assert_eq!(heartbeat.acknowledged_sequence, 2);
    assert!(heartbeat.leases.is_empty() && heartbeat.outcomes.is_empty());
}

async fn a_call_is_kept_while_the_store_is_away_and_acknowledged_late(world: &World) {
    let name = world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(complete_nothing()).await;
    world.store.set_away(true);
    stream.say(complete(&lease)).await;
    let heartbeat = world.passing("a heartbeat", stream.hear()).await;
    assert!(heartbeat.acknowledged_sequence < stream.sequence && heartbeat.outcomes.is_empty());
    world.store.set_away(false);
    let said = stream.sequence;
    world
        .passing("the acknowledgement", async {
            while stream.hear().await.acknowledged_sequence < said {}
        })
        .await;
    assert_eq!(world.state(&name).await, State::Succeeded);
}

async fn stalled_work_is_shown_as_such(world: &World) {
    let name = world.started("q").await;
    let mut stream = WorkerStream::serving(world, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    let mut watcher = world.watch(watch(&name)).await;
    watcher.expect(EventType::Snapshot).await;
    for _ in 0..34 {
        // Renews, without progress. What the stream renews by itself takes as long as the disk does, and a lease that has
        // expired meanwhile is not called stalled; this acknowledgement says that the store has it.
        let alive = Request { reports: vec![report(&lease)], ..Default::default() };
        assert!(stream.settle(alive).await.is_empty());
        world.pass(Duration::from_secs(9)).await;
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
