//! Races with a cancel.

use crate::support::*;

scenarios! {
    over every face;
    cancel_while_pending_retrying_scheduled_or_suspended_is_cancelled_in_that_commit,
    cancel_when_done_is_ok_and_changes_nothing,
    cancelling_then_complete_or_final_fail_lets_the_first_terminal_commit_win,
    cancelling_then_retryable_fail_release_or_suspend_is_cancelled,
    cancelling_then_lost_lease_deadline_or_attempt_timeout_is_cancelled_never_retried,
    cancelling_then_grace_over_is_cancelled_by_force,
    fail_with_code_1_without_a_cancel_is_a_failed_attempt,
    the_trail_of_a_cancellation_shows_request_delivery_and_acknowledgement,
    a_pause_request_ends_with_the_request_to_cancel,
}

async fn cancel_while_pending_retrying_scheduled_or_suspended_is_cancelled_in_that_commit(
    fixture: &Fixture,
) {
    let pending = fixture.started("pending").await;
    let retrying = fixture.running(start("retrying")).await;
    fixture.fail(failure(&retrying, Code::Unavailable)).await.granted();
    let later = pb::OperationOptions {
        schedule_time: Some(fixture.at(Duration::from_hours(1))),
        ..Default::default()
    };
    let scheduled = fixture.start(start_with("scheduled", later)).await.granted().name;
    let paused = fixture.started("paused").await;
    fixture.pause(&paused).await.granted();
    let suspended = fixture.running(start("suspended")).await;
    fixture.suspend(suspension(&suspended)).await.granted();

    for name in [&pending, &retrying.operation, &scheduled, &paused, &suspended.operation] {
        fixture.cancel(name).await.granted();
        let error = error_of(&fixture.get(name).await.granted());
        assert_eq!(error.code, Code::Cancelled as i32, "{name}");
        assert_eq!(error_info(&error).reason, "CANCELLED_BY_CLIENT");
        let record = fixture.record(name).await;
        assert_eq!(record.state(), State::Cancelled);
        let metadata = record.server_metadata.expect("metadata");
        assert!(metadata.cancel_requested && metadata.end_time.is_some(), "{metadata:?}");
    }
    fixture.pass(Duration::from_hours(2)).await;
    for queue in ["pending", "retrying", "scheduled", "paused", "suspended"] {
        fixture.expect_no_lease(queue).await;
    }
}

async fn cancel_when_done_is_ok_and_changes_nothing(fixture: &Fixture) {
    let succeeded = fixture.running(start("q")).await;
    fixture.complete(completion(&succeeded)).await.granted();
    let failed = fixture.running(start("q")).await;
    fixture.fail(failure(&failed, Code::Internal)).await.granted();
    let cancelled = fixture.started("q").await;
    fixture.cancel(&cancelled).await.granted();
    for name in [&succeeded.operation, &failed.operation, &cancelled] {
        let before = fixture.record(name).await;
        fixture.let_pass(Duration::from_secs(5));
        fixture.cancel(name).await.granted();
        assert_eq!(fixture.record(name).await, before);
    }
}

async fn cancelling_then_complete_or_final_fail_lets_the_first_terminal_commit_win(
    fixture: &Fixture,
) {
    let lease = fixture.running(start("q")).await;
    fixture.cancel(&lease.operation).await.granted();
    assert_eq!(fixture.state(&lease.operation).await, State::Cancelling);
    assert!(!fixture.get(&lease.operation).await.granted().done);
    fixture.complete(completion(&lease)).await.granted();
    let record = fixture.record(&lease.operation).await;
    assert_eq!(record.state(), State::Succeeded);
    assert!(record.server_metadata.expect("metadata").cancel_requested);
    assert!(response_of(&record.operation.expect("operation")).type_url.ends_with("Empty"));

    let lease = fixture.running(start("q")).await;
    fixture.cancel(&lease.operation).await.granted();
    let reply = fixture.fail(failure(&lease, Code::DataLoss)).await.granted();
    assert!(!reply.will_retry);
    assert_eq!(fixture.state(&lease.operation).await, State::Failed);
    let failed = error_of(&fixture.get(&lease.operation).await.granted());
    assert_eq!(failed, error(Code::DataLoss));

    // Code 1 is the answer to the request.
    let lease = fixture.running(start("q")).await;
    fixture.cancel(&lease.operation).await.granted();
    let reply = fixture.fail(failure(&lease, Code::Cancelled)).await.granted();
    assert!(!reply.will_retry);
    assert_eq!(fixture.state(&lease.operation).await, State::Cancelled);
    let cancelled = error_of(&fixture.get(&lease.operation).await.granted());
    assert_eq!(cancelled, error(Code::Cancelled), "the worker's own words");
}

async fn cancelling_then_retryable_fail_release_or_suspend_is_cancelled(fixture: &Fixture) {
    let cancelling = async || {
        let lease = fixture.running(start("q")).await;
        fixture.cancel(&lease.operation).await.granted();
        lease
    };
    let failed = cancelling().await;
    assert!(!fixture.fail(failure(&failed, Code::Unavailable)).await.granted().will_retry);
    let wanted = cancelling().await;
    let retry = pb::fail_operation_request::RetryDecision::Retry.into();
    let decided =
        pb::FailOperationRequest { retry_decision: retry, ..failure(&wanted, Code::Internal) };
    assert!(!fixture.fail(decided).await.granted().will_retry);
    let released = cancelling().await;
    fixture.release(release(&released)).await.granted();
    let suspended = cancelling().await;
    fixture.suspend(suspension(&suspended)).await.granted();
    for lease in [failed, wanted, released, suspended] {
        assert_eq!(fixture.state(&lease.operation).await, State::Cancelled);
        let error = error_of(&fixture.get(&lease.operation).await.granted());
        assert_eq!(error_info(&error).reason, "CANCELLED_BY_CLIENT");
    }
    fixture.pass(Duration::from_mins(1)).await;
    fixture.expect_no_lease("q").await;
}

async fn cancelling_then_lost_lease_deadline_or_attempt_timeout_is_cancelled_never_retried(
    fixture: &Fixture,
) {
    let options = |fixture: &Fixture| pb::OperationOptions {
        deadline_time: Some(fixture.at(Duration::from_secs(20))),
        ..Default::default()
    };
    let deadline = fixture.running(start_with("deadline", options(fixture))).await;
    let timeout = pb::OperationOptions {
        attempt_timeout: seconds(20),
        retry_policy: Some(pb::RetryPolicy {
            retryable_codes: vec![Code::DeadlineExceeded as i32],
            ..Default::default()
        }),
        ..Default::default()
    };
    let timeout = fixture.running(start_with("timeout", timeout)).await;
    let lost = fixture.running(start("lost")).await;
    for lease in [&deadline, &timeout, &lost] {
        fixture.cancel(&lease.operation).await.granted();
    }

    fixture.pass(Duration::from_secs(19)).await;
    for lease in [&deadline, &timeout, &lost] {
        assert_eq!(fixture.state(&lease.operation).await, State::Cancelling);
    }
    fixture.pass(Duration::from_secs(2)).await;
    assert_eq!(fixture.state(&deadline.operation).await, State::Cancelled);
    assert_eq!(fixture.state(&timeout.operation).await, State::Cancelled);
    assert_eq!(fixture.state(&lost.operation).await, State::Cancelling);
    fixture.pass(Duration::from_secs(10)).await;
    for lease in [&deadline, &timeout, &lost] {
        let record = fixture.record(&lease.operation).await;
        assert_eq!(record.state(), State::Cancelled, "{}", record.queue);
        let trail = record.server_metadata.and_then(|data| data.cancel_trail).expect("a trail");
        assert!(!trail.forced, "{}: the grace had not run out", record.queue);
    }
    fixture.pass(Duration::from_mins(10)).await;
    for queue in ["deadline", "timeout", "lost"] {
        fixture.expect_no_lease(queue).await;
    }
}

async fn cancelling_then_grace_over_is_cancelled_by_force(fixture: &Fixture) {
    let options = pb::OperationOptions { cancel_grace: seconds(10), ..Default::default() };
    let lease = fixture.running(start_with("q", options)).await;
    fixture.cancel(&lease.operation).await.granted();
    fixture.pass(Duration::from_secs(9)).await;
    // Renewing does not lengthen the grace.
    fixture.renew(vec![renewal(&lease)]).await.granted();
    assert_eq!(fixture.state(&lease.operation).await, State::Cancelling);
    fixture.pass(Duration::from_secs(1)).await;
    let record = fixture.record(&lease.operation).await;
    assert_eq!(record.state(), State::Cancelled);
    let metadata = record.server_metadata.expect("metadata");
    assert!(metadata.cancel_trail.expect("a trail").forced);
    fixture.complete(completion(&lease)).await.refused(Code::FailedPrecondition, "LEASE_LOST");

    // The default grace is a minute.
    let lease = fixture.running(start("q")).await;
    fixture.cancel(&lease.operation).await.granted();
    for _ in 0..5 {
        fixture.pass(Duration::from_secs(11)).await;
        fixture.renew(vec![renewal(&lease)]).await.granted();
    }
    assert_eq!(fixture.state(&lease.operation).await, State::Cancelling);
    fixture.pass(Duration::from_secs(6)).await;
    assert_eq!(fixture.state(&lease.operation).await, State::Cancelled);
}

async fn fail_with_code_1_without_a_cancel_is_a_failed_attempt(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let reply = fixture.fail(failure(&lease, Code::Cancelled)).await.granted();
    assert!(reply.will_retry && reply.schedule_time.is_some());
    let record = fixture.record(&lease.operation).await;
    assert_eq!(record.state(), State::Pending);
    let attempt = record.attempts[0].error.clone().expect("an error");
    assert_eq!(attempt.code, Code::Aborted as i32);
    assert!(!record.server_metadata.expect("metadata").cancel_requested);

    for attempt in 2..=3 {
        fixture.pass(Duration::from_secs(5)).await;
        let lease = fixture.lease("q").await;
        assert_eq!(lease.attempt, attempt);
        let last = lease.last_error.clone().expect("the last error");
        assert_eq!(last.code, Code::Aborted as i32);
        fixture.fail(failure(&lease, Code::Cancelled)).await.granted();
    }
    assert_eq!(fixture.state(&lease.operation).await, State::Failed, "never CANCELLED");
    let error = error_of(&fixture.get(&lease.operation).await.granted());
    assert_eq!(error.code, Code::Aborted as i32);
}

async fn the_trail_of_a_cancellation_shows_request_delivery_and_acknowledgement(fixture: &Fixture) {
    let trail = async |name: &str| {
        let record = fixture.record(name).await;
        record.server_metadata.and_then(|metadata| metadata.cancel_trail)
    };
    let lease = fixture.running(start("q")).await;
    assert_eq!(trail(&lease.operation).await, None);
    let requested = fixture.at(Duration::ZERO);
    fixture.cancel(&lease.operation).await.granted();
    let first = trail(&lease.operation).await.expect("a trail");
    assert_at(first.request_time, requested);
    assert!(first.deliver_time.is_none() && first.acknowledge_time.is_none() && !first.forced);

    fixture.let_pass(Duration::from_secs(1));
    let delivered = fixture.at(Duration::ZERO);
    let results = fixture.renew(vec![renewal(&lease)]).await.granted();
    assert!(results[0].directive.expect("a directive").cancel_requested);
    let second = trail(&lease.operation).await.expect("a trail");
    assert_eq!(second.request_time, first.request_time);
    assert_at(second.deliver_time, delivered);
    assert_eq!(second.acknowledge_time, None);

    fixture.let_pass(Duration::from_secs(1));
    let acknowledged = fixture.at(Duration::ZERO);
    let seen = pb::ReportProgressRequest { cancel_acknowledged: true, ..report(&lease) };
    let reply = fixture.report(seen.clone()).await.granted();
    assert!(reply.directive.expect("a directive").cancel_requested);
    let third = trail(&lease.operation).await.expect("a trail");
    assert_at(third.acknowledge_time, acknowledged);

    // Neither a second cancel nor a second acknowledgement moves anything.
    fixture.let_pass(Duration::from_secs(1));
    fixture.cancel(&lease.operation).await.granted();
    fixture.report(seen).await.granted();
    assert_eq!(trail(&lease.operation).await.as_ref(), Some(&third));
    fixture.fail(failure(&lease, Code::Cancelled)).await.granted();
    assert_eq!(trail(&lease.operation).await, Some(third));
}

async fn a_pause_request_ends_with_the_request_to_cancel(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    fixture.pause(&lease.operation).await.granted();
    fixture.cancel(&lease.operation).await.granted();
    let reply = fixture.report(report(&lease)).await.granted().directive.expect("a directive");
    assert!(reply.cancel_requested && !reply.pause_requested);
    fixture.suspend(suspension(&lease)).await.granted();
    assert_eq!(fixture.state(&lease.operation).await, State::Cancelled);
}
