//! Following an operation: watches and waits.

use longhaul::proto::google::longrunning as lro;
use tonic::Request;

use crate::support::*;

scenarios! {
    over every face;
    a_watch_tells_the_state_at_once_then_changes_then_the_end,
    a_resume_token_that_is_the_state_brings_no_snapshot,
    min_interval_leaves_out_states_but_never_the_last,
    a_watch_with_nothing_to_say_sends_heartbeats,
    a_watch_of_what_is_done_has_one_event,
    the_full_view_carries_the_record,
    many_watchers_all_see_the_end_and_slow_ones_delay_no_other,
    watches_refuse_nonsense,
    wait_answers_when_it_is_done,
    wait_answers_with_the_state_when_its_time_is_up,
    wait_answers_before_the_deadline_of_the_call,
    a_waiter_elsewhere_hears_of_the_end,
}

async fn a_watch_tells_the_state_at_once_then_changes_then_the_end(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut watcher = fixture.watch(watch(&name)).await;
    let first = watcher.expect(EventType::Snapshot).await;
    assert_eq!(first.operation, Some(fixture.get(&name).await.granted()));
    assert_eq!(first.server_metadata.expect("metadata").state(), State::Pending);
    assert!(first.record.is_none() && first.event_time.is_some());
    let lease = fixture.lease("q").await;
    let second = watcher.expect(EventType::Update).await;
    assert_eq!(second.server_metadata.expect("metadata").state(), State::Running);
    assert_ne!(first.resume_token, second.resume_token);
    let progress = Some(pb::Progress { fraction: Some(0.25), ..Default::default() });
    fixture.report(pb::ReportProgressRequest { progress, ..report(&lease) }).await.granted();
    let third = watcher.expect(EventType::Update).await;
    let progress = third.server_metadata.and_then(|metadata| metadata.progress);
    assert_eq!(progress.expect("progress").fraction, Some(0.25));
    // A change that callers cannot see is no event: the next event is the end.
    fixture.let_pass(Duration::from_secs(20));
    fixture.renew(vec![renewal(&lease)]).await.granted();
    let response = Some(large("acme.Done", 100_000));
    let done = pb::CompleteOperationRequest { response: response.clone(), ..completion(&lease) };
    fixture.complete(done).await.granted();
    let last = watcher.expect(EventType::Done).await.operation.expect("the operation");
    assert_eq!(Some(response_of(&last)), response);
    assert_eq!(last, fixture.get(&name).await.granted());
    watcher.expect_end().await;
}

async fn a_resume_token_that_is_the_state_brings_no_snapshot(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let mut watcher = fixture.watch(watch(&lease.operation)).await;
    let token = watcher.expect(EventType::Snapshot).await.resume_token;
    drop(watcher);
    let from = |token: &str| pb::WatchOperationRequest {
        resume_token: token.to_owned(),
        heartbeat_interval: seconds(33),
        ..watch(&lease.operation)
    };
    let mut same = fixture.watch(from(&token)).await;
    let mut now = fixture.watch(from("now")).await;
    fixture.clock.asked_for(Duration::from_secs(33), 2).await;
    let status_detail = "halfway".to_owned();
    fixture.report(pb::ReportProgressRequest { status_detail, ..report(&lease) }).await.granted();
    let update = same.expect(EventType::Update).await;
    now.expect(EventType::Update).await;
    assert_ne!(update.resume_token, token);
    // The token is old now: the state at once.
    let mut older = fixture.watch(from(&token)).await;
    let event = older.message().await.granted().expect("an event");
    assert!(matches!(event.r#type(), EventType::Snapshot | EventType::Update), "{event:?}");
    assert_eq!(event.resume_token, update.resume_token);
    // A finished operation is reported for any token.
    fixture.complete(completion(&lease)).await.granted();
    let last = same.expect(EventType::Done).await.resume_token;
    now.expect(EventType::Done).await;
    let mut late = fixture.watch(from(&last)).await;
    late.expect(EventType::Done).await;
    late.expect_end().await;
    let mut late = fixture.watch(from("now")).await;
    late.expect(EventType::Done).await;
}

async fn min_interval_leaves_out_states_but_never_the_last(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let request =
        pb::WatchOperationRequest { min_interval: seconds(11), ..watch(&lease.operation) };
    let mut watcher = fixture.watch(request).await;
    watcher.expect(EventType::Snapshot).await;
    let reported = async |fraction: f64| {
        let progress = Some(pb::Progress { fraction: Some(fraction), ..Default::default() });
        // With a checkpoint each is committed by itself.
        let checkpoint =
            Some(Any { type_url: "type.googleapis.com/x.Y".to_owned(), value: Vec::new().into() });
        let report = pb::ReportProgressRequest { progress, checkpoint, ..report(&lease) };
        fixture.report(report).await.granted();
    };
    for tenth in 1..=8 {
        reported(f64::from(tenth) / 10.0).await;
    }
    fixture.clock.asked_for(Duration::from_secs(11), 1).await;
    reported(0.9).await;
    fixture.let_pass(Duration::from_secs(11));
    let update = watcher.expect(EventType::Update).await;
    let progress = update.server_metadata.and_then(|metadata| metadata.progress);
    assert_eq!(progress.expect("progress").fraction, Some(0.9), "the newest of nine");
    reported(0.95).await;
    fixture.complete(completion(&lease)).await.granted();
    watcher.expect(EventType::Done).await;
    watcher.expect_end().await;
}

async fn a_watch_with_nothing_to_say_sends_heartbeats(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let request = pb::WatchOperationRequest { heartbeat_interval: seconds(7), ..watch(&name) };
    let mut watcher = fixture.watch(request).await;
    let snapshot = watcher.expect(EventType::Snapshot).await;
    for beat in 1..=3 {
        fixture.clock.asked_for(Duration::from_secs(7), beat).await;
        fixture.let_pass(Duration::from_secs(7));
        let heartbeat = watcher.expect(EventType::Heartbeat).await;
        assert_eq!(heartbeat.resume_token, snapshot.resume_token);
        assert_at(heartbeat.event_time, fixture.at(Duration::ZERO));
        assert!(heartbeat.operation.is_none() && heartbeat.server_metadata.is_none());
    }
    // 30 s by default.
    let mut watcher = fixture.watch(watch(&name)).await;
    watcher.expect(EventType::Snapshot).await;
    fixture.clock.asked_for(Duration::from_secs(30), 1).await;
    fixture.let_pass(Duration::from_secs(30));
    watcher.expect(EventType::Heartbeat).await;
}

async fn a_watch_of_what_is_done_has_one_event(fixture: &Fixture) {
    let failed = fixture.running(start("q")).await;
    fixture.fail(failure(&failed, Code::Internal)).await.granted();
    let cancelled = fixture.started("q").await;
    fixture.cancel(&cancelled).await.granted();
    for name in [&failed.operation, &cancelled] {
        let mut watcher = fixture.watch(watch(name)).await;
        let event = watcher.expect(EventType::Done).await;
        assert_eq!(event.operation, Some(fixture.get(name).await.granted()));
        watcher.expect_end().await;
    }
}

async fn the_full_view_carries_the_record(fixture: &Fixture) {
    let request = pb::StartOperationRequest {
        request: Some(any("acme.Resize", b"\x08\x01")),
        method: "resize".to_owned(),
        ..start("q")
    };
    let lease = fixture.running(request).await;
    let view = pb::OperationView::Full.into();
    let mut watcher =
        fixture.watch(pb::WatchOperationRequest { view, ..watch(&lease.operation) }).await;
    let record = watcher.expect(EventType::Snapshot).await.record.expect("a record");
    assert_eq!(
        (record.state(), &record.method[..], &record.queue[..]),
        (State::Running, "resize", "queues/q")
    );
    assert_eq!((record.attempts.len(), &record.operation), (1, &None));
    let full = fixture.record(&lease.operation).await;
    assert_eq!(record.etag, full.etag);
    // The record of the basic view lacks only the request.
    let basic =
        pb::GetOperationRecordRequest { name: lease.operation.clone(), ..Default::default() };
    let mut callers = fixture.callers();
    let basic = within("record", callers.get_operation_record(basic)).await.granted().into_inner();
    assert_eq!(basic, pb::OperationRecord { request: None, ..full });
}

async fn many_watchers_all_see_the_end_and_slow_ones_delay_no_other(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let mut watchers = Vec::new();
    for _ in 0..50 {
        watchers.push(fixture.watch(watch(&lease.operation)).await);
    }
    // The client does not read meanwhile.
    for number in 1..=20 {
        let report_number = number;
        fixture
            .report(pb::ReportProgressRequest { report_number, ..report(&lease) })
            .await
            .granted();
    }
    fixture.complete(completion(&lease)).await.granted();
    for mut watcher in watchers {
        watcher.expect(EventType::Snapshot).await;
        let last = watcher.until(EventType::Done, EventType::Update).await;
        assert!(last.operation.expect("the operation").done);
        watcher.expect_end().await;
    }
}

async fn watches_refuse_nonsense(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let refused = async |request: pb::WatchOperationRequest, field: &str| {
        fixture.try_watch(request).await.refused_field("INVALID_ARGUMENT", field);
    };
    let watch = || watch(&name);
    let token = "x".to_owned();
    refused(pb::WatchOperationRequest { resume_token: token, ..watch() }, "resume_token").await;
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    refused(pb::WatchOperationRequest { min_interval: negative, ..watch() }, "min_interval").await;
    let request = pb::WatchOperationRequest { heartbeat_interval: negative, ..watch() };
    refused(request, "heartbeat_interval").await;
    refused(pb::WatchOperationRequest { view: 9, ..watch() }, "view").await;
    let unknown = crate::support::watch("operations/unknown");
    fixture.try_watch(unknown).await.refused(Code::NotFound, "OPERATION_NOT_FOUND");
    let unnamed = crate::support::watch("nonsense");
    fixture.try_watch(unnamed).await.refused_field("INVALID_NAME", "name");
}

async fn wait_answers_when_it_is_done(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let wait = fixture.wait(&lease.operation, seconds(55));
    let endless = fixture.wait(&lease.operation, None);
    fixture.clock.asked_for(Duration::from_secs(55), 1).await;
    fixture.clock.asked_for(Duration::from_mins(5), 1).await;
    fixture.report(report(&lease)).await.granted();
    fixture.complete(completion(&lease)).await.granted();
    let done = wait.end().await.granted();
    assert!(done.done);
    assert_eq!(done, endless.end().await.granted());
    // A finished operation is returned at once.
    let again = fixture.wait(&lease.operation, seconds(55)).end().await.granted();
    assert_eq!(again, done);
}

async fn wait_answers_with_the_state_when_its_time_is_up(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let name = &lease.operation;
    let at_once = fixture.wait(name, seconds(0)).end().await.granted();
    assert_eq!(at_once, fixture.get(name).await.granted());
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let refusal = fixture.wait(name, negative).end().await;
    refusal.refused_field("INVALID_ARGUMENT", "timeout");
    fixture.wait("x", None).end().await.refused_field("INVALID_NAME", "name");
    fixture.wait("operations/x", None).end().await.refused(Code::NotFound, "OPERATION_NOT_FOUND");

    let mut wait = fixture.wait(name, seconds(20));
    fixture.clock.asked_for(Duration::from_secs(20), 1).await;
    let progress = Some(pb::Progress { completed_units: 3, ..Default::default() });
    fixture.report(pb::ReportProgressRequest { progress, ..report(&lease) }).await.granted();
    fixture.let_pass(Duration::from_secs(19));
    assert!(wait.runs());
    fixture.let_pass(Duration::from_secs(1));
    let newest = wait.end().await.granted();
    assert_eq!(newest, fixture.get(name).await.granted(), "the newest state");
    // Five minutes at most.
    let wait = fixture.wait(name, seconds(1_000));
    fixture.clock.asked_for(Duration::from_mins(5), 1).await;
    fixture.let_pass(Duration::from_mins(5));
    assert!(!wait.end().await.granted().done);
}

async fn wait_answers_before_the_deadline_of_the_call(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut request = Request::new(lro::WaitOperationRequest { name: name.clone(), timeout: None });
    request.set_timeout(Duration::from_secs(25));
    let mut operations = fixture.operations();
    let call = async move { operations.wait_operation(request).await };
    let wait = Call::begin("the wait with a deadline", call);
    fixture.clock.asked_for(Duration::from_millis(24_900), 1).await;
    fixture.let_pass(Duration::from_millis(24_900));
    assert!(!wait.end().await.granted().into_inner().done);
}

async fn a_waiter_elsewhere_hears_of_the_end(fixture: &Fixture) {
    let other = fixture.with_agents().await;
    let lease = fixture.running(start("q")).await;
    let wait = other.wait(&lease.operation, seconds(55));
    let mut watcher = other.watch(watch(&lease.operation)).await;
    watcher.expect(EventType::Snapshot).await;
    fixture.clock.asked_for(Duration::from_secs(55), 1).await;
    fixture.complete(completion(&lease)).await.granted();
    assert!(wait.end().await.granted().done);
    watcher.expect(EventType::Done).await;
    watcher.expect_end().await;
}
