//! Attempts: when an operation is retried, and the timeouts that end an attempt or the operation.

use crate::support::*;

scenarios! {
    attempts_used_up_keep_the_last_attempts_own_error,
    attempts_used_up_without_an_error_say_attempts_exhausted,
    a_first_lost_lease_goes_back_at_once_a_second_after_a_pause,
    store_away_for_longer_than_leases_loses_none_before_its_worker_could_renew,
    attempt_timeout_is_retried_only_where_the_policy_names_it,
    deadline_is_final_and_runs_on_while_suspended,
    queue_timeout_ends_an_operation_that_no_worker_leased,
    a_released_lease_is_no_attempt_and_keeps_its_checkpoint,
}

async fn attempts_used_up_keep_the_last_attempts_own_error(fixture: &Fixture) {
    let policy = pb::RetryPolicy { max_attempts: 2, ..Default::default() };
    let options = pb::OperationOptions { retry_policy: Some(policy), ..Default::default() };
    let first = fixture.running(start_with("q", options)).await;
    assert!(fixture.fail(failure(&first, Code::Unavailable)).await.granted().will_retry);
    fixture.pass(Duration::from_secs(2)).await;
    let second = fixture.lease("q").await;
    let details = vec![any("acme.Details", b"\x08\x07")];
    let last =
        RpcStatus { message: "the disk is gone".to_owned(), details, ..error(Code::Unavailable) };
    let request = pb::FailOperationRequest {
        error: Some(last.clone()),
        ..failure(&second, Code::Unavailable)
    };
    let reply = fixture.fail(request).await.granted();
    assert!(!reply.will_retry && reply.schedule_time.is_none());
    let record = fixture.record(&first.operation).await;
    assert_eq!(record.state(), State::Failed);
    assert_eq!(
        error_of(&record.operation.expect("operation")),
        last,
        "as it is, no ErrorInfo added"
    );
    let errors: Vec<_> = record.attempts.iter().map(|attempt| attempt.error.clone()).collect();
    assert_eq!(errors, [Some(error(Code::Unavailable)), Some(last)]);
}

async fn attempts_used_up_without_an_error_say_attempts_exhausted(fixture: &Fixture) {
    let policy = pb::RetryPolicy {
        max_attempts: 2,
        retryable_codes: vec![Code::DeadlineExceeded as i32],
        ..Default::default()
    };
    let options = pb::OperationOptions { retry_policy: Some(policy.clone()), ..Default::default() };
    let lost = fixture.running(start_with("lost", options.clone())).await;
    fixture.pass(Duration::from_secs(30)).await;
    fixture.lease("lost").await;
    fixture.pass(Duration::from_secs(30)).await;
    let error = error_of(&fixture.get(&lost.operation).await.granted());
    assert_eq!(error.code, Code::Aborted as i32);
    let info = error_info(&error);
    assert_eq!(info.reason, "ATTEMPTS_EXHAUSTED");
    assert_eq!((&info.metadata["attempts"][..], &info.metadata["cause"][..]), ("2", "WORKER_LOST"));

    let options = pb::OperationOptions { attempt_timeout: seconds(10), ..options };
    let timed_out = fixture.running(start_with("timed-out", options)).await;
    fixture.pass(Duration::from_secs(10)).await;
    assert_eq!(fixture.state(&timed_out.operation).await, State::Pending);
    fixture.pass(Duration::from_secs(2)).await;
    fixture.lease("timed-out").await;
    fixture.pass(Duration::from_secs(10)).await;
    let error = error_of(&fixture.get(&timed_out.operation).await.granted());
    assert_eq!(error.code, Code::DeadlineExceeded as i32);
    let info = error_info(&error);
    assert_eq!(info.reason, "ATTEMPTS_EXHAUSTED");
    let cause = (&info.metadata["attempts"][..], &info.metadata["cause"][..]);
    assert_eq!(cause, ("2", "EXECUTION_TIMEOUT"));
}

async fn a_first_lost_lease_goes_back_at_once_a_second_after_a_pause(fixture: &Fixture) {
    let first = fixture.running(start("q")).await;
    fixture.pass(Duration::from_secs(29)).await;
    assert_eq!(fixture.state(&first.operation).await, State::Running);
    fixture.pass(Duration::from_secs(1)).await;
    let second = fixture.lease("q").await;
    assert_eq!(second.attempt, 2);
    let error = second.last_error.clone().expect("the last error");
    assert_eq!((error.code, &error_info(&error).reason[..]), (10, "WORKER_LOST"));
    fixture.pass(Duration::from_secs(30)).await;
    assert_eq!(fixture.state(&first.operation).await, State::Pending);
    fixture.expect_no_lease("q").await;
    fixture.pass(Duration::from_secs(3)).await;
    let third = fixture.lease("q").await;
    assert_eq!(third.attempt, 3);
    let attempts = fixture.record(&first.operation).await.attempts;
    let numbers: Vec<i32> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let fencing: Vec<i64> = attempts.iter().map(|attempt| attempt.fencing_number).collect();
    assert_eq!(fencing, [first.fencing_number, second.fencing_number, third.fencing_number]);
    assert!(attempts[2].end_time.is_none() && attempts[1].end_time.is_some());
}

async fn store_away_for_longer_than_leases_loses_none_before_its_worker_could_renew(
    fixture: &Fixture,
) {
    let short = pb::LeaseOperationsRequest { lease_duration: seconds(5), ..leasing("short") };
    let long = pb::LeaseOperationsRequest { lease_duration: seconds(100), ..leasing("long") };
    let names = [fixture.started("short").await, fixture.started("long").await];
    let short = fixture.leases(short).await.granted().remove(0);
    fixture.leases(long).await.granted();
    let running = async || {
        let states = [fixture.state(&names[0]).await, fixture.state(&names[1]).await];
        states.map(|state| state == State::Running)
    };
    fixture.store.set_away(true);
    fixture.pass(Duration::from_mins(5)).await;
    fixture.report(report(&short)).await.refused(Code::Unavailable, "STORE_UNAVAILABLE");
    fixture.store.set_away(false);
    fixture.pass(Duration::ZERO).await;
    assert_eq!(running().await, [true, true], "the store has only just come back");
    fixture.pass(Duration::from_secs(4)).await;
    assert_eq!(running().await, [true, true]);
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(running().await, [false, true], "after its duration");
    fixture.pass(Duration::from_secs(24)).await;
    assert_eq!(running().await, [false, true]);
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(running().await, [false, false], "after 30 s");
}

async fn attempt_timeout_is_retried_only_where_the_policy_names_it(fixture: &Fixture) {
    let mut options = pb::OperationOptions { attempt_timeout: seconds(10), ..Default::default() };
    let last = fixture.running(start_with("q", options.clone())).await;
    fixture.pass(Duration::from_secs(9)).await;
    fixture.renew(vec![renewal(&last)]).await.granted();
    fixture.pass(Duration::from_secs(1)).await;
    let error = error_of(&fixture.get(&last.operation).await.granted());
    assert_eq!(error.code, Code::DeadlineExceeded as i32);
    let info = error_info(&error);
    assert_eq!(
        (&info.reason[..], &info.metadata["bound"][..]),
        ("EXECUTION_TIMEOUT", "attempt_timeout")
    );
    fixture.complete(completion(&last)).await.refused(Code::FailedPrecondition, "LEASE_LOST");

    let retryable_codes = vec![Code::DeadlineExceeded as i32];
    options.retry_policy = Some(pb::RetryPolicy { retryable_codes, ..Default::default() });
    let retried = fixture.running(start_with("q", options)).await;
    fixture.pass(Duration::from_secs(10)).await;
    assert_eq!(fixture.state(&retried.operation).await, State::Pending);
    fixture.pass(Duration::from_secs(2)).await;
    let second = fixture.lease("q").await;
    assert_eq!((second.attempt, second.last_error.map(|error| error.code)), (2, Some(4)));
}

async fn deadline_is_final_and_runs_on_while_suspended(fixture: &Fixture) {
    let policy = pb::RetryPolicy {
        retryable_codes: vec![Code::DeadlineExceeded as i32],
        ..Default::default()
    };
    let options = pb::OperationOptions {
        deadline_time: Some(fixture.at(Duration::from_secs(20))),
        retry_policy: Some(policy),
        ..Default::default()
    };
    let pending = fixture.start(start_with("pending", options.clone())).await.granted().name;
    let running = fixture.running(start_with("running", options.clone())).await;
    assert_eq!(running.deadline_time, options.deadline_time);
    let suspended = fixture.running(start_with("suspended", options.clone())).await;
    fixture.suspend(suspension(&suspended)).await.granted();
    let paused = fixture.start(start_with("paused", options)).await.granted().name;
    fixture.pause(&paused).await.granted();
    fixture.pass(Duration::from_secs(19)).await;
    let names = [&pending, &running.operation, &suspended.operation, &paused];
    for name in names {
        assert!(!fixture.get(name).await.granted().done);
    }
    fixture.pass(Duration::from_secs(1)).await;
    for name in names {
        let error = error_of(&fixture.get(name).await.granted());
        assert_eq!(error.code, Code::DeadlineExceeded as i32, "{name}");
        let info = error_info(&error);
        assert_eq!(info.metadata["bound"], "deadline_time");
    }
    fixture.complete(completion(&running)).await.refused(Code::FailedPrecondition, "LEASE_LOST");
}

async fn queue_timeout_ends_an_operation_that_no_worker_leased(fixture: &Fixture) {
    let options = pb::OperationOptions { queue_timeout: seconds(10), ..Default::default() };
    let taken = fixture.running(start_with("q", options.clone())).await;
    let waiting = fixture.start(start_with("q", options.clone())).await.granted().name;
    let schedule_time = Some(fixture.at(Duration::from_secs(5)));
    let scheduled = pb::OperationOptions { schedule_time, ..options };
    let scheduled = fixture.start(start_with("q", scheduled)).await.granted().name;
    fixture.pass(Duration::from_secs(10)).await;
    let error = error_of(&fixture.get(&waiting).await.granted());
    assert_eq!(error.code, Code::DeadlineExceeded as i32);
    assert_eq!(error_info(&error).metadata["bound"], "queue_timeout");
    assert_eq!(fixture.state(&scheduled).await, State::Pending, "counts from its time");
    fixture.pass(Duration::from_secs(5)).await;
    assert_eq!(fixture.state(&scheduled).await, State::Failed);
    assert_eq!(fixture.state(&taken.operation).await, State::Running);
    // Once taken it may wait for its next worker as long as it takes.
    fixture.release(release(&taken)).await.granted();
    fixture.pass(Duration::from_mins(1)).await;
    assert_eq!(fixture.lease("q").await.operation, taken.operation);
}

async fn a_released_lease_is_no_attempt_and_keeps_its_checkpoint(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let checkpoint = Some(any("acme.Checkpoint", b"\x08\x05"));
    let back = pb::ReleaseLeaseRequest {
        checkpoint: checkpoint.clone(),
        delay: seconds(10),
        ..release(&lease)
    };
    fixture.release(back).await.granted();
    let record = fixture.record(&lease.operation).await;
    assert_eq!((record.state(), record.attempts.len()), (State::Pending, 0));
    fixture.expect_no_lease("q").await;
    fixture.pass(Duration::from_secs(9)).await;
    fixture.expect_no_lease("q").await;
    fixture.pass(Duration::from_secs(1)).await;
    let again = fixture.lease("q").await;
    assert_eq!((again.attempt, again.checkpoint), (1, checkpoint));
    assert!(again.fencing_number > lease.fencing_number);
    assert_ne!(again.lease_token, lease.lease_token);
}
