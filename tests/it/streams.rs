//! `ServeQueue`: leases by slots, and calls with their order, outcomes and acknowledgements.

use prost::Message;

use crate::support::stream::{Hello, Request, complete, complete_nothing, held, hello, slots};
use crate::support::*;

scenarios! {
    leases_are_pushed_as_slots_free_up,
    a_start_goes_to_a_waiting_worker_in_one_commit,
    calls_of_one_message_are_handled_in_order_and_acknowledged,
    a_fault_of_one_call_is_an_outcome_and_the_rest_is_handled,
    wrong_numbers_end_the_stream,
    a_call_handled_before_a_reconnect_gets_the_same_answer,
    progress_is_gathered_and_the_last_is_in_the_terminal_commit,
    an_empty_message_is_acknowledged_with_the_heartbeat,
    a_call_is_kept_while_the_store_is_away_and_acknowledged_late,
}

async fn leases_are_pushed_as_slots_free_up(fixture: &Fixture) {
    for _ in 0..3 {
        fixture.started("q").await;
    }
    let mut stream = WorkerStream::serving(fixture, hello("q"), 2).await;
    let leases = stream.leases(2).await;
    assert_eq!(leases[0].attempt, 1);
    assert!(leases[0].fencing_number > 0 && leases[0].lease_duration.is_some(), "{leases:?}");
    stream.say(complete(&leases[0])).await;
    let third = stream.leases(1).await;
    assert!(leases.iter().all(|lease| lease.operation != third[0].operation));
    assert_eq!(fixture.state(&leases[0].operation).await, State::Succeeded);
    // Lowering the slots releases nothing; more leases may be held than there are slots.
    stream.say(Request { completions: vec![completion(&leases[1])], ..slots(1) }).await;
    let fourth = fixture.started("q").await;
    stream.settle(complete_nothing()).await;
    assert_eq!(fixture.state(&fourth).await, State::Pending);
    stream.say(complete(&third[0])).await;
    assert_eq!(stream.leases(1).await[0].operation, fourth);
}

async fn a_start_goes_to_a_waiting_worker_in_one_commit(fixture: &Fixture) {
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    // Once a poll has found nothing more, the reply of a start already shows its lease.
    let eager = async {
        loop {
            let operation = fixture.start(start("q")).await.granted();
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
    let metrics = fixture.metrics().await;
    assert_eq!(metrics.count("leases_given_total{by=\"start\"}"), 1, "{}", metrics.0);
    // No slot is free now: it waits its turn.
    let waiting = fixture.started("q").await;
    assert_eq!(fixture.state(&waiting).await, State::Pending);
}

async fn calls_of_one_message_are_handled_in_order_and_acknowledged(fixture: &Fixture) {
    let names: Vec<String> =
        [fixture.started("q").await, fixture.started("q").await, fixture.started("q").await].into();
    let mut stream = WorkerStream::serving(fixture, hello("q"), 3).await;
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
    let done = fixture.record(&leases[0].operation).await;
    assert_eq!(done.state(), State::Succeeded);
    let metadata = done.server_metadata.expect("metadata");
    assert_eq!(metadata.progress.and_then(|progress| progress.fraction), Some(0.5));
    assert_eq!(metadata.status_detail, "half");
    assert_eq!(fixture.state(&leases[1].operation).await, State::Pending);
    assert_eq!(fixture.state(&leases[2].operation).await, State::Suspended);
    assert_eq!(names.len(), 3);
}

async fn a_fault_of_one_call_is_an_outcome_and_the_rest_is_handled(fixture: &Fixture) {
    fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
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
    assert_eq!(fixture.state(&lease.operation).await, State::Succeeded);
}

async fn wrong_numbers_end_the_stream(fixture: &Fixture) {
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
        let mut stream = WorkerStream::open(fixture).await;
        stream.say_as_it_is(request).await;
        if let Some(next) = next {
            stream.say_as_it_is(next).await;
        }
        stream.ended().await.refused_field("INVALID_ARGUMENT", field);
    }
}

async fn a_call_handled_before_a_reconnect_gets_the_same_answer(fixture: &Fixture) {
    let (done, failed) = (fixture.started("q").await, fixture.started("q").await);
    let mut stream = WorkerStream::serving(fixture, hello("q"), 2).await;
    let leases = stream.leases(2).await;
    let of = |name: &str| leases.iter().find(|lease| lease.operation == name).expect("a lease");
    let said =
        Request { failures: vec![failure(of(&failed), Code::Unavailable)], ..complete(of(&done)) };
    let before = stream.settle(said.clone()).await;
    stream.cut().await;
    let back = Hello { held: vec![held(of(&done)), held(of(&failed))], ..hello("q") };
    let mut stream = WorkerStream::open(fixture).await;
    assert_eq!(stream.greet(back, 0).await.lost.len(), 2);
    let mut after = stream.settle(said).await;
    after[0].sequence = before[0].sequence;
    assert_eq!(after, before);
    assert_eq!(fixture.state(&done).await, State::Succeeded);
}

async fn progress_is_gathered_and_the_last_is_in_the_terminal_commit(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    let etag = fixture.record(&name).await.etag;
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
    assert_eq!(fixture.record(&name).await.etag, etag);
    fixture
        .passing("the held report", async { while fixture.record(&name).await.etag == etag {} })
        .await;
    let progress = fixture.record(&name).await.server_metadata.expect("metadata").progress;
    assert_eq!(progress.and_then(|progress| progress.fraction), Some(0.4));
    let reports = vec![at(0.9, 9)];
    stream.settle(Request { reports, ..complete(&lease) }).await;
    let metadata = fixture.record(&name).await.server_metadata.expect("metadata");
    assert_eq!(metadata.progress.and_then(|progress| progress.fraction), Some(0.9));
}

async fn an_empty_message_is_acknowledged_with_the_heartbeat(fixture: &Fixture) {
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    stream.say(Request::default()).await;
    let heartbeat = fixture.passing("a heartbeat", stream.hear()).await;
    assert_eq!(heartbeat.acknowledged_sequence, 2);
    assert!(heartbeat.leases.is_empty() && heartbeat.outcomes.is_empty());
}

async fn a_call_is_kept_while_the_store_is_away_and_acknowledged_late(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(complete_nothing()).await;
    fixture.store.set_away(true);
    stream.say(complete(&lease)).await;
    let heartbeat = fixture.passing("a heartbeat", stream.hear()).await;
    assert!(heartbeat.acknowledged_sequence < stream.sequence && heartbeat.outcomes.is_empty());
    fixture.store.set_away(false);
    let said = stream.sequence;
    fixture
        .passing("the acknowledgement", async {
            while stream.hear().await.acknowledged_sequence < said {}
        })
        .await;
    assert_eq!(fixture.state(&name).await, State::Succeeded);
}
