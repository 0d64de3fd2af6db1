//! Who wins when an operation is cancelled.

use crate::support::*;

scenarios! {
    over every face;
    cancel_while_pending_retrying_scheduled_or_suspended_is_cancelled_in_that_commit,
    cancel_when_done_is_ok_and_changes_nothing,
    cancelling_then_complete_or_final_fail_lets_the_first_terminal_commit_win,
    cancelling_then_retryable_fail_release_or_suspend_is_cancelled,
    cancelling_then_lost_lease_deadline_or_attempt_timeout_is_cancelled_never_retried,
    cancelling_then_grace_over_is_cancelled_by_force,
    fail_with_code_1_that_nobody_asked_for_is_a_failed_attempt,
    the_trail_of_a_cancellation_shows_who_knew_of_it,
    a_pause_request_ends_with_the_request_to_cancel,
}

async fn cancel_while_pending_retrying_scheduled_or_suspended_is_cancelled_in_that_commit(
    world: &World,
) {
    let pending = world.started("pending").await;
    let retrying = world.running(start("retrying")).await;
    world.fail(failure(&retrying, Code::Unavailable)).await.granted();
    let later = pb::OperationOptions {
        schedule_time: Some(world.at(Duration::from_hours(1))),
        ..Default::default()
    };
    let scheduled = world.start(start_with("scheduled", later)).await.granted().name;
    let paused = world.started("paused").await;
    world.pause(&paused).await.granted();
    let suspended = world.running(start("suspended")).await;
    world.suspend(suspension(&suspended)).await.granted();

    for name in [&pending, &retrying.operation, &scheduled, &paused, &suspended.operation] {
        world.cancel(name).await.granted();
        let error = error_of(&world.get(name).await.granted());
        assert_eq!(error.code, Code::Cancelled as i32, "{name}");
        assert_eq!(error_info(&error).reason, "CANCELLED_BY_CLIENT");
        let record = world.record(name).await;
        assert_eq!(record.state(), State::Cancelled);
        let metadata = record.server_metadata.expect("metadata");
        assert!(metadata.cancel_requested && metadata.end_time.is_some(), "{metadata:?}");
    }
    world.pass(Duration::from_hours(2)).await;
    for queue in ["pending", "retrying", "scheduled", "paused", "suspended"] {
        world.expect_no_lease(queue).await;
    }
}

async fn cancel_when_done_is_ok_and_changes_nothing(world: &World) {
    let succeeded = world.running(start("q")).await;
    world.complete(completion(&succeeded)).await.granted();
    let failed = world.running(start("q")).await;
    world.fail(failure(&failed, Code::Internal)).await.granted();
    let cancelled = world.started("q").await;
    world.cancel(&cancelled).await.granted();
    for name in [&succeeded.operation, &failed.operation, &cancelled] {
        let before = world.record(name).await;
        world.let_pass(Duration::from_secs(5));
        world.cancel(name).await.granted();
        assert_eq!(world.record(name).await, before);
    }
}

async fn cancelling_then_complete_or_final_fail_lets_the_first_terminal_commit_win(world: &World) {
    let lease = world.running(start("q")).await;
    world.cancel(&lease.operation).await.granted();
    assert_eq!(world.state(&lease.operation).await, State::Cancelling);
    assert!(!world.get(&lease.operation).await.granted().done);
    world.complete(completion(&lease)).await.granted();
    let record = world.record(&lease.operation).await;
    assert_eq!(record.state(), State::Succeeded);
    assert!(record.server_metadata.expect("metadata").cancel_requested);
    assert!(response_of(&record.operation.expect("operation")).type_url.ends_with("Empty"));

    let lease = world.running(start("q")).await;
    world.cancel(&lease.operation).await.granted();
    let reply = world.fail(failure(&lease, Code::DataLoss)).await.granted();
    assert!(!reply.will_retry);
    assert_eq!(world.state(&lease.operation).await, State::Failed);
    let failed = error_of(&world.get(&lease.operation).await.granted());
    assert_eq!(failed, error(Code::DataLoss));

    // Code 1 is the answer to the request.
    let lease = world.running(start("q")).await;
    world.cancel(&lease.operation).await.granted();
    let reply = world.fail(failure(&lease, Code::Cancelled)).await.granted();
    assert!(!reply.will_retry);
    assert_eq!(world.state(&lease.operation).await, State::Cancelled);
    let cancelled = error_of(&world.get(&lease.operation).await.granted());
    assert_eq!(cancelled, error(Code::Cancelled), "the worker's own words");
}

async fn cancelling_then_retryable_fail_release_or_suspend_is_cancelled(world: &World) {
    let cancelling = async || {
        let lease = world.running(start("q")).await;
        world.cancel(&lease.operation).await.granted();
        lease
    };
    let failed = cancelling().await;
    assert!(!world.fail(failure(&failed, Code::Unavailable)).await.granted().will_retry);
    let wanted = cancelling().await;
    let retry = pb::fail_operation_request::RetryDecision::Retry.into();
    let decided =
        pb::FailOperationRequest { retry_decision: retry, ..failure(&wanted, Code::Internal) };
    assert!(!world.fail(decided).await.granted().will_retry);
    let released = cancelling().await;
    world.release(release(&released)).await.granted();
    let suspended = cancelling().await;
    world.suspend(suspension(&suspended)).await.granted();
    for lease in [failed, wanted, released, suspended] {
        assert_eq!(world.state(&lease.operation).await, State::Cancelled);
        let error = error_of(&world.get(&lease.operation).await.granted());
        assert_eq!(error_info(&error).reason, "CANCELLED_BY_CLIENT");
    }
    world.pass(Duration::from_mins(1)).await;
    world.expect_no_lease("q").await;
}

async fn cancelling_then_lost_lease_deadline_or_attempt_timeout_is_cancelled_never_retried(
    world: &World,
) {
    let options = |world: &World| pb::OperationOptions {
        deadline_time: Some(world.at(Duration::from_secs(20))),
        ..Default::default()
    };
    let deadline = world.running(start_with("deadline", options(world))).await;
    let timeout = pb::OperationOptions {
        attempt_timeout: seconds(20),
        retry_policy: Some(pb::RetryPolicy {
            retryable_codes: vec![Code::DeadlineExceeded as i32],
            ..Default::default()
        }),
        ..Default::default()
    };
    let timeout = world.running(start_with("timeout", timeout)).await;
    let lost = world.running(start("lost")).await;
    for lease in [&deadline, &timeout, &lost] {
        world.cancel(&lease.operation).await.granted();
    }

    world.pass(Duration::from_secs(19)).await;
    for lease in [&deadline, &timeout, &lost] {
        assert_eq!(world.state(&lease.operation).await, State::Cancelling);
    }
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.state(&deadline.operation).await, State::Cancelled);
    assert_eq!(world.state(&timeout.operation).await, State::Cancelled);
    assert_eq!(world.state(&lost.operation).await, State::Cancelling);
    world.pass(Duration::from_secs(10)).await;
    for lease in [&deadline, &timeout, &lost] {
        let record = world.record(&lease.operation).await;
        assert_eq!(record.state(), State::Cancelled, "{}", record.queue);
        let trail = record.server_metadata.and_then(|data| data.cancel_trail).expect("a trail");
        assert!(!trail.forced, "{}: the grace had not run out", record.queue);
    }
    world.pass(Duration::from_mins(10)).await;
    for queue in ["deadline", "timeout", "lost"] {
        world.expect_no_lease(queue).await;
    }
}

async fn cancelling_then_grace_over_is_cancelled_by_force(world: &World) {
    let options = pb::OperationOptions { cancel_grace: seconds(10), ..Default::default() };
    let lease = world.running(start_with("q", options)).await;
    world.cancel(&lease.operation).await.granted();
    world.pass(Duration::from_secs(9)).await;
    // Renewing does not lengthen the grace.
    world.renew(vec![renewal(&lease)]).await.granted();
    assert_eq!(world.state(&lease.operation).await, State::Cancelling);
    world.pass(Duration::from_secs(1)).await;
    let record = world.record(&lease.operation).await;
    assert_eq!(record.state(), State::Cancelled);
    let metadata = record.server_metadata.expect("metadata");
    assert!(metadata.cancel_trail.expect("a trail").forced);
    world.complete(completion(&lease)).await.refused(Code::FailedPrecondition, "LEASE_LOST");

    // The default grace is a minute.
    let lease = world.running(start("q")).await;
    world.cancel(&lease.operation).await.granted();
    for _ in 0..5 {
        world.pass(Duration::from_secs(11)).await;
        world.renew(vec![renewal(&lease)]).await.granted();
    }
    assert_eq!(world.state(&lease.operation).await, State::Cancelling);
    world.pass(Duration::from_secs(6)).await;
    assert_eq!(world.state(&lease.operation).await, State::Cancelled);
}

async fn fail_with_code_1_that_nobody_asked_for_is_a_failed_attempt(world: &World) {
    let lease = world.running(start("q")).await;
    let reply = world.fail(failure(&lease, Code::Cancelled)).await.granted();
    assert!(reply.will_retry && reply.schedule_time.is_some());
    let record = world.record(&lease.operation).await;
    assert_eq!(record.state(), State::Pending);
    let attempt = record.attempts[0].error.clone().expect("an error");
    assert_eq!(attempt.code, Code::Aborted as i32);
    assert!(!record.server_metadata.expect("metadata").cancel_requested);

    for attempt in 2..=3 {
        world.pass(Duration::from_secs(5)).await;
        let lease = world.lease("q").await;
        assert_eq!(lease.attempt, attempt);
        let last = lease.last_error.clone().expect("the last error");
        assert_eq!(last.code, Code::Aborted as i32);
        world.fail(failure(&lease, Code::Cancelled)).await.granted();
    }
    assert_eq!(world.state(&lease.operation).await, State::Failed, "never CANCELLED");
    let error = error_of(&world.get(&lease.operation).await.granted());
    assert_eq!(error.code, Code::Aborted as i32);
}

async fn the_trail_of_a_cancellation_shows_who_knew_of_it(world: &World) {
    let trail = async |name: &str| {
        let record = world.record(name).await;
        record.server_metadata.and_then(|metadata| metadata.cancel_trail)
    };
    let lease = world.running(start("q")).await;
    assert_eq!(trail(&lease.operation).await, None);
    let requested = world.at(Duration::ZERO);
    world.cancel(&lease.operation).await.granted();
    let first = trail(&lease.operation).await.expect("a trail");
    assert_at(first.request_time, requested);
    assert!(first.deliver_time.is_none() && first.acknowledge_time.is_none() && !first.forced);

    world.let_pass(Duration::from_secs(1));
    let delivered = world.at(Duration::ZERO);
    let results = world.renew(vec![renewal(&lease)]).await.granted();
    assert!(results[0].directive.expect("a directive").cancel_requested);
    let second = trail(&lease.operation).await.expect("a trail");
    assert_eq!(second.request_time, first.request_time);
    assert_at(second.deliver_time, delivered);
    assert_eq!(second.acknowledge_time, None);

    world.let_pass(Duration::from_secs(1));
    let acknowledged = world.at(Duration::ZERO);
    let seen = pb::ReportProgressRequest { cancel_acknowledged: true, ..report(&lease) };
    let reply = world.report(seen.clone()).await.granted();
    assert!(reply.directive.expect("a directive").cancel_requested);
    let third = trail(&lease.operation).await.expect("a trail");
    assert_at(third.acknowledge_time, acknowledged);

    // Neither a second cancel nor a second acknowledgement moves anything.
    world.let_pass(Duration::from_secs(1));
    world.cancel(&lease.operation).await.granted();
    world.report(seen).await.granted();
    assert_eq!(trail(&lease.operation).await.as_ref(), Some(&third));
    world.fail(failure(&lease, Code::Cancelled)).await.granted();
    assert_eq!(trail(&lease.operation).await, Some(third));
}

async fn a_pause_request_ends_with_the_request_to_cancel(world: &World) {
    let lease = world.running(start("q")).await;
    world.pause(&lease.operation).await.granted();
    world.cancel(&lease.operation).await.granted();
    let reply = world.report(report(&lease)).await.granted().directive.expect("a directive");
    assert!(reply.cancel_requested && !reply.pause_requested);
    world.suspend(suspension(&lease)).await.granted();
    assert_eq!(world.state(&lease.operation).await, State::Cancelled);
}
