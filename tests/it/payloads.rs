//! Payloads of callers and workers are returned unchanged, up to their limits.

use crate::support::*;

scenarios! {
    over every face;
    payloads_at_their_bounds_pass_byte_for_byte,
    payloads_over_their_bounds_are_refused,
    a_report_replaces_what_it_says_and_leaves_the_rest,
    a_repeated_report_appends_nothing,
    partial_errors_and_related_resources_are_kept_up_to_their_bounds,
    the_record_keeps_the_last_twenty_attempts,
}

async fn payloads_at_their_bounds_pass_byte_for_byte(fixture: &Fixture) {
    let request = pb::StartOperationRequest {
        metadata_type: "acme.Step".to_owned(),
        request: Some(large("acme.Resize", 1 << 20)),
        initial_metadata: Some(large("acme.Step", 64 << 10)),
        ..start("q")
    };
    let started = fixture.start(request.clone()).await.granted();
    assert_eq!(started.metadata, request.initial_metadata);
    assert_eq!(fixture.get(&started.name).await.granted(), started);
    assert_eq!(fixture.record(&started.name).await.request, request.request);
    let lease = fixture.lease("q").await;
    assert_eq!((&lease.request, &lease.metadata), (&request.request, &request.initial_metadata));

    let checkpoint = Some(large("acme.Checkpoint", 256 << 10));
    let metadata = Some(large("acme.Step", (64 << 10) - 1));
    let halfway = pb::SuspendOperationRequest {
        checkpoint: checkpoint.clone(),
        metadata: metadata.clone(),
        ..suspension(&lease)
    };
    fixture.suspend(halfway).await.granted();
    let input = Some(large("acme.Input", 256 << 10));
    fixture.resume(&lease.operation, input.clone()).await.granted();
    let lease = fixture.lease("q").await;
    assert_eq!((&lease.checkpoint, &lease.resume_input), (&checkpoint, &input));
    assert_eq!((&lease.request, &lease.metadata), (&request.request, &metadata));

    let response = Some(large("acme.Done", 1 << 20));
    let done = pb::CompleteOperationRequest { response: response.clone(), ..completion(&lease) };
    fixture.complete(done.clone()).await.granted();
    fixture.complete(done).await.granted();
    let done = fixture.get(&lease.operation).await.granted();
    assert_eq!((Some(response_of(&done)), &done.metadata), (response, &metadata));
    assert_eq!(fixture.list("", 1, "").await.granted().operations, std::slice::from_ref(&done));
    let mut watcher = fixture.watch(watch(&lease.operation)).await;
    assert_eq!(watcher.expect(EventType::Done).await.operation, Some(done));
}

async fn payloads_over_their_bounds_are_refused(fixture: &Fixture) {
    let declared =
        pb::StartOperationRequest { metadata_type: "acme.Step".to_owned(), ..start("q") };
    let request = Some(large("acme.Resize", (1 << 20) + 1));
    let refusal = fixture.start(pb::StartOperationRequest { request, ..declared.clone() }).await;
    let metadata = refusal.refused_field("PAYLOAD_TOO_LARGE", "request");
    assert_eq!((&metadata["limit"][..], &metadata["size"][..]), ("1048576", "1048577"));
    let metadata = Some(large("acme.Step", (64 << 10) + 1));
    let initial =
        pb::StartOperationRequest { initial_metadata: metadata.clone(), ..declared.clone() };
    fixture.start(initial).await.refused_field("PAYLOAD_TOO_LARGE", "initial_metadata");
    let lease = fixture.running(declared).await;
    let before = fixture.record(&lease.operation).await;
    let checkpoint = Some(large("acme.Checkpoint", (256 << 10) + 1));
    let too_large = |answer: Result<(), tonic::Status>, field: &str| {
        answer.refused_field("PAYLOAD_TOO_LARGE", field);
    };
    let request = pb::ReportProgressRequest { metadata: metadata.clone(), ..report(&lease) };
    too_large(fixture.report(request).await.map(drop), "metadata");
    let request = pb::ReportProgressRequest { checkpoint: checkpoint.clone(), ..report(&lease) };
    too_large(fixture.report(request).await.map(drop), "checkpoint");
    let request = pb::ReleaseLeaseRequest { checkpoint: checkpoint.clone(), ..release(&lease) };
    too_large(fixture.release(request).await.map(drop), "checkpoint");
    let request = pb::SuspendOperationRequest { checkpoint, ..suspension(&lease) };
    too_large(fixture.suspend(request).await.map(drop), "checkpoint");
    let message = "x".repeat(16 << 10);
    let status = Some(RpcStatus { message, ..error(Code::Internal) });
    let request = pb::FailOperationRequest { error: status, ..failure(&lease, Code::Internal) };
    too_large(fixture.fail(request).await.map(drop), "error");
    let request = pb::CompleteOperationRequest { metadata, ..completion(&lease) };
    too_large(fixture.complete(request).await.map(drop), "metadata");
    let input = Some(large("acme.Input", (256 << 10) + 1));
    too_large(fixture.resume(&lease.operation, input).await.map(drop), "input");
    let status_detail = "x".repeat((4 << 10) + 1);
    let request = pb::ReportProgressRequest { status_detail, ..report(&lease) };
    fixture.report(request).await.refused_field("INVALID_ARGUMENT", "status_detail");
    assert_eq!(fixture.record(&lease.operation).await, before);
}

async fn a_report_replaces_what_it_says_and_leaves_the_rest(fixture: &Fixture) {
    let declared =
        pb::StartOperationRequest { metadata_type: "acme.Step".to_owned(), ..start("q") };
    let lease = fixture.running(declared).await;
    let progress = pb::Progress {
        fraction: Some(0.5),
        completed_units: 5,
        total_units: 10,
        unit: "files".to_owned(),
        message: "halfway".to_owned(),
        ..Default::default()
    };
    let first = pb::ReportProgressRequest {
        progress: Some(progress.clone()),
        metadata: Some(any("acme.Step", b"\x08\x01")),
        status_detail: "copying".to_owned(),
        lease_duration: seconds(60),
        ..report(&lease)
    };
    let reply = fixture.report(first).await.granted();
    assert_at(reply.expire_time, fixture.at(Duration::from_mins(1)));
    assert_eq!(reply.lease_duration, seconds(60));
    let shown = async || fixture.record(&lease.operation).await.server_metadata.expect("metadata");
    let metadata = shown().await;
    assert_eq!(metadata.status_detail, "copying");
    let found = metadata.progress.clone().expect("progress");
    assert!(found.update_time.is_some());
    assert_eq!(pb::Progress { update_time: None, ..found }, progress);
    fixture.let_pass(Duration::from_secs(1));
    fixture.report(report(&lease)).await.granted();
    let later = shown().await;
    assert_eq!((&later.progress, &later.status_detail[..]), (&metadata.progress, "copying"));
    let operation = fixture.get(&lease.operation).await.granted();
    assert_eq!(operation.metadata, Some(any("acme.Step", b"\x08\x01")));
    // Progress is replaced as a whole, and may go back.
    let less = Some(pb::Progress { completed_units: 1, ..Default::default() });
    fixture.report(pb::ReportProgressRequest { progress: less, ..report(&lease) }).await.granted();
    let found = shown().await.progress.expect("progress");
    assert_eq!((found.fraction, found.completed_units, found.total_units), (None, 1, 0));
    // The last word is the completion's.
    let done = pb::CompleteOperationRequest {
        metadata: Some(any("acme.Step", b"\x08\x09")),
        progress: Some(progress),
        ..completion(&lease)
    };
    fixture.complete(done).await.granted();
    assert_eq!(shown().await.progress.expect("progress").fraction, Some(0.5));
    let operation = fixture.get(&lease.operation).await.granted();
    assert_eq!(operation.metadata, Some(any("acme.Step", b"\x08\x09")));
}

async fn a_repeated_report_appends_nothing(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let resource = pb::RelatedResource { name: "disks/one".to_owned(), ..Default::default() };
    let numbered = |report_number: i64| pb::ReportProgressRequest {
        report_number,
        partial_errors: vec![error(Code::Internal)],
        related_resources: vec![resource.clone()],
        ..report(&lease)
    };
    let counts = async || {
        let record = fixture.record(&lease.operation).await;
        let metadata = record.server_metadata.expect("metadata");
        (metadata.partial_errors.len(), record.related_resources.len())
    };
    fixture.report(numbered(1)).await.granted();
    fixture.report(numbered(1)).await.granted();
    assert_eq!(counts().await, (1, 1));
    fixture.report(numbered(3)).await.granted();
    fixture.report(numbered(2)).await.granted();
    assert_eq!(counts().await, (2, 2), "an older one came late");
    fixture.report(numbered(0)).await.granted();
    fixture.report(numbered(0)).await.granted();
    assert_eq!(counts().await, (4, 4), "without a number each counts");
    // A repeat renews all the same.
    fixture.let_pass(Duration::from_secs(20));
    let renewed = fixture.report(numbered(3)).await.granted();
    assert_at(renewed.expire_time, fixture.at(Duration::from_secs(30)));
    // The next lease counts anew.
    fixture.release(release(&lease)).await.granted();
    let next = fixture.lease("q").await;
    let first = pb::ReportProgressRequest { lease_token: next.lease_token, ..numbered(1) };
    fixture.report(first).await.granted();
    assert_eq!(counts().await, (5, 5));
    fixture.report(numbered(-1)).await.refused_field("INVALID_ARGUMENT", "report_number");
}

async fn partial_errors_and_related_resources_are_kept_up_to_their_bounds(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let resources: Vec<_> = (0..64)
        .map(|number| pb::RelatedResource {
            name: format!("disks/{number}"),
            uri: "https://example.com/".to_owned(),
            r#type: "disk".to_owned(),
            relation: "created".to_owned(),
            ..Default::default()
        })
        .collect();
    let errors = vec![error(Code::NotFound); 64];
    let request = pb::ReportProgressRequest {
        partial_errors: errors.clone(),
        related_resources: resources.clone(),
        ..report(&lease)
    };
    fixture.report(request).await.granted();
    let before = fixture.record(&lease.operation).await;
    let found: Vec<_> = before
        .related_resources
        .iter()
        .map(|resource| pb::RelatedResource { create_time: None, ..resource.clone() })
        .collect();
    assert_eq!(found, resources);
    assert!(before.related_resources.iter().all(|resource| resource.create_time.is_some()));
    assert_eq!(before.server_metadata.as_ref().expect("metadata").partial_errors, errors);

    let one_more =
        pb::ReportProgressRequest { partial_errors: vec![error(Code::NotFound)], ..report(&lease) };
    let refusal = fixture.report(one_more).await.refused(Code::InvalidArgument, "LIMIT_EXCEEDED");
    assert_eq!(refusal["limit"], "64");
    let one_more = pb::CompleteOperationRequest {
        related_resources: vec![resources[0].clone()],
        ..completion(&lease)
    };
    fixture.complete(one_more).await.refused(Code::InvalidArgument, "LIMIT_EXCEEDED");
    let many = pb::ReportProgressRequest {
        partial_errors: vec![error(Code::NotFound); 65],
        ..report(&lease)
    };
    fixture.report(many).await.refused_field("INVALID_ARGUMENT", "partial_errors");
    let coded = pb::ReportProgressRequest {
        partial_errors: vec![RpcStatus { code: 0, ..error(Code::NotFound) }],
        ..report(&lease)
    };
    fixture.report(coded).await.refused_field("INVALID_ARGUMENT", "partial_errors.code");
    assert_eq!(fixture.record(&lease.operation).await, before, "nothing half-written");
}

async fn the_record_keeps_the_last_twenty_attempts(fixture: &Fixture) {
    let policy = pb::RetryPolicy { max_attempts: 25, ..Default::default() };
    let options = pb::OperationOptions { retry_policy: Some(policy), ..Default::default() };
    let mut lease = fixture.running(start_with("q", options)).await;
    for attempt in 1..=25 {
        assert_eq!(lease.attempt, attempt);
        let request = pb::FailOperationRequest {
            retry_delay: seconds(0),
            ..failure(&lease, Code::Unavailable)
        };
        let reply = fixture.fail(request).await.granted();
        assert_eq!(reply.will_retry, attempt < 25);
        if reply.will_retry {
            lease = fixture.lease("q").await;
        }
    }
    let record = fixture.record(&lease.operation).await;
    let numbers: Vec<i32> = record.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (6..=25).collect::<Vec<_>>());
    assert!(record.attempts.iter().all(|attempt| attempt.worker == "worker-1"));
    assert_eq!(record.server_metadata.expect("metadata").attempt_count, 25);
}
