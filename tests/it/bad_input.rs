//! Invalid input is refused with its field, and nothing changes.

use tonic::Status;

use crate::support::*;

scenarios! {
    unparsable_names_are_refused_by_every_method,
    unknown_names_are_not_found_by_every_method,
    lease_tokens_that_are_malformed_or_anothers_are_refused,
    durations_and_times_out_of_bounds_are_refused,
    errors_of_workers_have_a_code_from_1_to_16_and_a_message,
    unknown_enum_values_are_refused,
    starts_out_of_bounds_are_refused_by_field,
    types_that_are_none_are_refused,
}

/// A lease of no operation that there is.
fn lease_of(name: &str) -> pb::Lease {
    let lease_token = "0123456789abcdef0123456789abcdef".to_owned();
    pb::Lease { operation: name.to_owned(), lease_token, ..Default::default() }
}

/// Every call that names an operation.
async fn all_calls(fixture: &Fixture, name: &str) -> Vec<(&'static str, Result<(), Status>)> {
    let lease = lease_of(name);
    vec![
        ("get", fixture.get(name).await.map(drop)),
        ("cancel", fixture.cancel(name).await),
        ("delete", fixture.delete(name).await),
        ("wait", fixture.wait(name, seconds(0)).end().await.map(drop)),
        ("watch", fixture.try_watch(watch(name)).await.map(drop)),
        ("record", fixture.try_record(name).await.map(drop)),
        ("pause", fixture.pause(name).await.map(drop)),
        ("resume", fixture.resume(name, None).await.map(drop)),
        ("report", fixture.report(report(&lease)).await.map(drop)),
        ("complete", fixture.complete(completion(&lease)).await.map(drop)),
        ("fail", fixture.fail(failure(&lease, Code::Internal)).await.map(drop)),
        ("release", fixture.release(release(&lease)).await.map(drop)),
        ("suspend", fixture.suspend(suspension(&lease)).await.map(drop)),
    ]
}

async fn unparsable_names_are_refused_by_every_method(fixture: &Fixture) {
    let long = format!("operations/{}", "x".repeat(64));
    let longer = format!("{}operations/x", "projects/p/".repeat(50));
    let bad = [
        "",
        "x",
        "operations",
        "operations/",
        "/operations/x",
        "operations/X Y",
        "operations/x/y",
        "projects/operations/x",
        "projects/p/jobs/x",
        "projects/-/operations/x",
        "queues/q/operations/x",
        "operations/a/operations/b",
        "operations/\u{e9}",
        &long,
        &longer,
    ];
    for name in bad {
        for (verb, refusal) in all_calls(fixture, name).await {
            let status = refusal.clone().expect_err(verb);
            assert_eq!(status.code(), Code::InvalidArgument, "{verb} {name:?}: {status:?}");
            refusal.refused_field("INVALID_NAME", "name");
        }
        let lease = lease_of(name);
        let result = fixture.renew(vec![renewal(&lease)]).await.granted().remove(0);
        let error = result.error.expect("an error");
        assert_eq!(error_info(&error).reason, "INVALID_NAME", "renew {name:?}");
    }
}

async fn unknown_names_are_not_found_by_every_method(fixture: &Fixture) {
    for name in ["operations/unknown", "projects/p/locations/l/operations/unknown"] {
        for (verb, refusal) in all_calls(fixture, name).await {
            assert!(refusal.is_err(), "{verb}");
            let metadata = refusal.refused(Code::NotFound, "OPERATION_NOT_FOUND");
            assert_eq!(metadata["name"], name, "{verb}");
        }
    }
}

async fn lease_tokens_that_are_malformed_or_anothers_are_refused(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let other = fixture.running(start("q")).await;
    let before = fixture.record(&lease.operation).await;
    let calls = async |lease: &pb::Lease| -> Vec<Result<(), Status>> {
        vec![
            fixture.report(report(lease)).await.map(drop),
            fixture.complete(completion(lease)).await.map(drop),
            fixture.fail(failure(lease, Code::Internal)).await.map(drop),
            fixture.release(release(lease)).await.map(drop),
            fixture.suspend(suspension(lease)).await.map(drop),
        ]
    };
    let with = |token: &str| pb::Lease { lease_token: token.to_owned(), ..lease.clone() };
    for token in [
        "",
        "x",
        &lease.lease_token[1..],
        &format!("{}0", lease.lease_token),
        "+0000000000000000000000000000000",
    ] {
        for refusal in calls(&with(token)).await {
            refusal.refused_field("INVALID_ARGUMENT", "lease_token");
        }
    }
    for token in [&other.lease_token[..], "00000000000000000000000000000000"] {
        for refusal in calls(&with(token)).await {
            let metadata = refusal.refused(Code::FailedPrecondition, "LEASE_LOST");
            assert_eq!(metadata["attempt"], "1");
            assert_eq!(metadata["fencingNumber"], lease.fencing_number.to_string());
        }
        let renewed = fixture.renew(vec![renewal(&with(token))]).await.granted().remove(0);
        assert_eq!(error_info(&renewed.error.expect("an error")).reason, "LEASE_LOST");
    }
    // An operation that is not leased has no holder.
    let pending = fixture.started("pending").await;
    for refusal in calls(&lease_of(&pending)).await {
        refusal.refused(Code::FailedPrecondition, "LEASE_LOST");
    }
    assert_eq!(fixture.record(&lease.operation).await, before);
    assert_eq!(fixture.state(&pending).await, State::Pending);
}

async fn durations_and_times_out_of_bounds_are_refused(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let before = fixture.record(&lease.operation).await;
    let nonsense = [
        prost_types::Duration { seconds: -1, nanos: 0 },
        prost_types::Duration { seconds: 0, nanos: -1 },
        prost_types::Duration { seconds: i64::MAX, nanos: 0 },
    ];
    for duration in nonsense.map(Some) {
        let request = pb::LeaseOperationsRequest { lease_duration: duration, ..leasing("q") };
        fixture.leases(request).await.refused_field("INVALID_ARGUMENT", "lease_duration");
        let request = pb::ReportProgressRequest { lease_duration: duration, ..report(&lease) };
        fixture.report(request).await.refused_field("INVALID_ARGUMENT", "lease_duration");
        let request = pb::FailOperationRequest {
            retry_delay: duration,
            ..failure(&lease, Code::Unavailable)
        };
        fixture.fail(request).await.refused_field("INVALID_ARGUMENT", "retry_delay");
        let request = pb::ReleaseLeaseRequest { delay: duration, ..release(&lease) };
        fixture.release(request).await.refused_field("INVALID_ARGUMENT", "delay");
        let renewal =
            pb::renew_leases_request::Renewal { lease_duration: duration, ..renewal(&lease) };
        let result = fixture.renew(vec![renewal]).await.granted().remove(0);
        assert_eq!(
            error_info(&result.error.expect("an error")).metadata["field"],
            "lease_duration"
        );
    }
    for seconds in [-1, i64::MAX] {
        let resume_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let request = pb::SuspendOperationRequest { resume_time, ..suspension(&lease) };
        fixture.suspend(request).await.refused_field("INVALID_ARGUMENT", "resume_time");
    }
    let progress = |progress: pb::Progress| pb::ReportProgressRequest {
        progress: Some(progress),
        ..report(&lease)
    };
    for fraction in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let request = progress(pb::Progress { fraction: Some(fraction), ..Default::default() });
        fixture.report(request).await.refused_field("INVALID_ARGUMENT", "progress.fraction");
    }
    let request = progress(pb::Progress { completed_units: -1, ..Default::default() });
    fixture.report(request).await.refused_field("INVALID_ARGUMENT", "progress.completed_units");
    assert_eq!(fixture.record(&lease.operation).await, before);
}

async fn errors_of_workers_have_a_code_from_1_to_16_and_a_message(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let before = fixture.record(&lease.operation).await;
    let failing = |error: Option<RpcStatus>| pb::FailOperationRequest {
        error,
        ..failure(&lease, Code::Internal)
    };
    for code in [0, 17, -1, 404, i32::MAX] {
        let status = RpcStatus { code, ..error(Code::Internal) };
        let refusal = fixture.fail(failing(Some(status))).await;
        refusal.refused_field("INVALID_ARGUMENT", "error.code");
    }
    let silent = RpcStatus { message: String::new(), ..error(Code::Internal) };
    fixture.fail(failing(Some(silent))).await.refused_field("INVALID_ARGUMENT", "error.message");
    fixture.fail(failing(None)).await.refused_field("INVALID_ARGUMENT", "error");
    assert_eq!(fixture.record(&lease.operation).await, before);
    for code in 1..=16 {
        let lease = fixture.running(start("codes")).await;
        let status = RpcStatus { code, ..error(Code::Internal) };
        let do_not = pb::fail_operation_request::RetryDecision::DoNotRetry.into();
        let request = pb::FailOperationRequest {
            error: Some(status.clone()),
            retry_decision: do_not,
            ..failure(&lease, Code::Internal)
        };
        assert!(!fixture.fail(request).await.granted().will_retry);
        let found = error_of(&fixture.get(&lease.operation).await.granted());
        // No caller requested a cancel.
        let wanted = if code == 1 { Code::Aborted as i32 } else { code };
        assert_eq!((found.code, found.message), (wanted, status.message));
    }
}

async fn unknown_enum_values_are_refused(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let before = fixture.record(&lease.operation).await;
    let request = pb::FailOperationRequest { retry_decision: 9, ..failure(&lease, Code::Internal) };
    fixture.fail(request).await.refused_field("INVALID_ARGUMENT", "retry_decision");
    let request = pb::GetOperationRecordRequest { name: lease.operation.clone(), view: 9 };
    let mut callers = fixture.callers();
    let refusal = within("record", callers.get_operation_record(request)).await;
    refusal.refused_field("INVALID_ARGUMENT", "view");
    let options = pb::OperationOptions { metadata_policy: 9, ..Default::default() };
    let refusal = fixture.start(start_with("q", options)).await;
    refusal.refused_field("INVALID_ARGUMENT", "options.metadata_policy");
    assert_eq!(fixture.record(&lease.operation).await, before);
}

#[expect(clippy::too_many_lines, reason = "one table")]
async fn starts_out_of_bounds_are_refused_by_field(fixture: &Fixture) {
    use pb::operation_options::Expiration;
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let never = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let long = "x".repeat(5_000);
    let plain = || start("q");
    let named = |id: &str| pb::StartOperationRequest { operation_id: id.to_owned(), ..plain() };
    let below = |parent: &str| pb::StartOperationRequest { parent: parent.to_owned(), ..plain() };
    let with = |change: &dyn Fn(&mut pb::OperationOptions)| {
        let mut options = pb::OperationOptions::default();
        change(&mut options);
        start_with("q", options)
    };
    let retrying = |change: &dyn Fn(&mut pb::RetryPolicy)| {
        let mut policy = pb::RetryPolicy::default();
        change(&mut policy);
        with(&|options| options.retry_policy = Some(policy.clone()))
    };
    let labels = |count: usize| (0..count).map(|n| (format!("k{n}"), String::new())).collect();
    let table = [
        ("operation_id", named("No Id")),
        ("operation_id", named(&"x".repeat(64))),
        ("operation_id", named("-")),
        ("parent", below("projects")),
        ("parent", below("projects/p/")),
        ("parent", below("projects/-")),
        ("parent", below("operations/x")),
        ("parent", below("queues/q")),
        ("queue", start(&long)),
        ("method", pb::StartOperationRequest { method: "x".repeat(129), ..plain() }),
        ("request_id", pb::StartOperationRequest { request_id: "x".repeat(129), ..plain() }),
        ("request_id", pb::StartOperationRequest { request_id: "\n".to_owned(), ..plain() }),
        ("options.priority", with(&|options| options.priority = 101)),
        ("options.priority", with(&|options| options.priority = i32::MIN)),
        ("options.schedule_time", with(&|options| options.schedule_time = never)),
        ("options.deadline_time", with(&|options| options.deadline_time = never)),
        ("options.attempt_timeout", with(&|options| options.attempt_timeout = negative)),
        ("options.attempt_timeout", with(&|options| options.attempt_timeout = seconds(0))),
        ("options.queue_timeout", with(&|options| options.queue_timeout = negative)),
        ("options.cancel_grace", with(&|options| options.cancel_grace = negative)),
        ("options.ttl", with(&|options| options.expiration = negative.map(Expiration::Ttl))),
        (
            "options.expire_time",
            with(&|options| options.expiration = never.map(Expiration::ExpireTime)),
        ),
        ("options.labels", with(&|options| options.labels = labels(65))),
        (
            "options.labels",
            with(&|options| options.labels = [(String::new(), String::new())].into()),
        ),
        (
            "options.labels",
            with(&|options| options.labels = [("k".to_owned(), long.clone())].into()),
        ),
        ("options.target", with(&|options| options.target.clone_from(&long))),
        ("options.retry_policy.max_attempts", retrying(&|policy| policy.max_attempts = -1)),
        ("options.retry_policy.max_attempts", retrying(&|policy| policy.max_attempts = 1_001)),
        (
            "options.retry_policy.initial_backoff",
            retrying(&|policy| policy.initial_backoff = negative),
        ),
        ("options.retry_policy.max_backoff", retrying(&|policy| policy.max_backoff = seconds(0))),
        (
            "options.retry_policy.backoff_multiplier",
            retrying(&|policy| policy.backoff_multiplier = 0.5),
        ),
        (
            "options.retry_policy.backoff_multiplier",
            retrying(&|policy| policy.backoff_multiplier = f64::NAN),
        ),
        (
            "options.retry_policy.retryable_codes",
            retrying(&|policy| policy.retryable_codes = vec![0]),
        ),
        (
            "options.retry_policy.retryable_codes",
            retrying(&|policy| policy.retryable_codes = vec![17]),
        ),
    ];
    for (field, request) in table {
        let refusal = fixture.start(request.clone()).await;
        let status = refusal.clone().expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
        refusal.refused_field("INVALID_ARGUMENT", field);
        let refusal = fixture.start_leased(request).await;
        assert_eq!(refusal.expect_err(field).code(), Code::InvalidArgument, "{field}");
    }
    assert!(fixture.list("", 10, "").await.granted().operations.is_empty());
    fixture.expect_no_lease("q").await;
    let at_their_bounds = pb::StartOperationRequest {
        operation_id: "x".repeat(63),
        method: "x".repeat(128),
        request_id: "x".repeat(128),
        ..with(&|options| {
            options.priority = 100;
            options.labels = labels(64);
            options.target = "x".repeat(4 << 10);
        })
    };
    fixture.start(at_their_bounds).await.granted();
}

async fn types_that_are_none_are_refused(fixture: &Fixture) {
    let url =
        |type_url: &str| Some(Any { type_url: type_url.to_owned(), value: Vec::new().into() });
    let lease = fixture.running(start("q")).await;
    let before = fixture.record(&lease.operation).await;
    for bad in ["", "/", "a b", "type.googleapis.com/", "acme..Done", "acme.1"] {
        let request = pb::StartOperationRequest { request: url(bad), ..start("new") };
        fixture.start(request).await.refused_field("INVALID_ARGUMENT", "request.type_url");
        let request = pb::CompleteOperationRequest { response: url(bad), ..completion(&lease) };
        fixture.complete(request).await.refused_field("INVALID_ARGUMENT", "response.type_url");
        let request = pb::ReportProgressRequest { checkpoint: url(bad), ..report(&lease) };
        fixture.report(request).await.refused_field("INVALID_ARGUMENT", "checkpoint.type_url");
        let refusal = fixture.resume(&lease.operation, url(bad)).await;
        refusal.refused_field("INVALID_ARGUMENT", "input.type_url");
        if !bad.is_empty() {
            let request =
                pb::StartOperationRequest { response_type: bad.to_owned(), ..start("new") };
            fixture.start(request).await.refused_field("INVALID_ARGUMENT", "response_type");
        }
    }
    assert_eq!(fixture.record(&lease.operation).await, before);
    fixture.expect_no_lease("new").await;
}
