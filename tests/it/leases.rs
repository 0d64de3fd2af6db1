//! Who wins when leases end by themselves, by their worker, or twice.

use crate::support::*;

scenarios! {
    over every face;
    call_after_expiry_is_accepted_until_replaced_then_lease_lost,
    same_token_again_same_content_is_ok_other_content_invalid_state,
    refused_complete_leaves_the_lease,
    complete_without_response_is_empty_only_where_that_was_declared,
    attempts_used_up_keep_the_last_attempts_own_error,
    attempts_used_up_without_an_error_say_attempts_exhausted,
    a_first_lost_lease_goes_back_at_once_a_second_after_a_pause,
    store_away_for_longer_than_leases_loses_none_before_its_worker_could_renew,
    attempt_timeout_is_retried_only_where_the_policy_names_it,
    deadline_is_final_and_runs_on_while_suspended,
    queue_timeout_ends_what_no_worker_took,
    a_released_lease_is_no_attempt_and_keeps_its_checkpoint,
    renewals_in_one_call_each_get_their_own_result,
    a_renewal_never_shortens_a_lease,
}

async fn call_after_expiry_is_accepted_until_replaced_then_lease_lost(world: &World) {
    let late = world.running(start("late")).await;
    world.let_pass(Duration::from_secs(45));
    let reported = world.report(report(&late)).await.granted();
    assert_at(reported.expire_time, world.at(Duration::from_secs(30)));
    world.let_pass(Duration::from_secs(45));
    world.complete(completion(&late)).await.granted();
    assert_eq!(world.state(&late.operation).await, State::Succeeded);

    let first = world.running(start("q")).await;
    world.pass(Duration::from_secs(31)).await;
    // Lost, though nobody has it yet.
    let lost = world.report(report(&first)).await.refused(Code::FailedPrecondition, "LEASE_LOST");
    assert_eq!((&lost["attempt"][..], &lost["name"]), ("1", &first.operation));
    let second = world.lease("q").await;
    assert_eq!((second.attempt, &second.operation), (2, &first.operation));
    assert!(second.fencing_number > first.fencing_number);
    let before = world.record(&first.operation).await;
    let refusals = [
        world.report(report(&first)).await.map(drop),
        world.complete(completion(&first)).await.map(drop),
        world.fail(failure(&first, Code::Internal)).await.map(drop),
        world.release(release(&first)).await.map(drop),
        world.suspend(suspension(&first)).await.map(drop),
    ];
    for refusal in refusals {
        let metadata = refusal.refused(Code::FailedPrecondition, "LEASE_LOST");
        assert_eq!(metadata["attempt"], "2");
        assert_eq!(metadata["fencingNumber"], second.fencing_number.to_string());
    }
    let renewed = world.renew(vec![renewal(&first)]).await.granted();
    let info = error_info(renewed[0].error.as_ref().expect("an error"));
    assert_eq!((&info.reason[..], &info.metadata["attempt"][..]), ("LEASE_LOST", "2"));
    assert_eq!(world.record(&first.operation).await, before);
    world.complete(completion(&second)).await.granted();
}

async fn same_token_again_same_content_is_ok_other_content_invalid_state(world: &World) {
    let response = |value: &[u8]| Some(any("acme.Done", value));
    let lease = world.running(start("q")).await;
    let done =
        pb::CompleteOperationRequest { response: response(b"\x08\x01"), ..completion(&lease) };
    let first = world.complete(done.clone()).await.granted();
    let before = world.record(&lease.operation).await;
    world.let_pass(Duration::from_secs(10));
    assert_eq!(world.complete(done.clone()).await.granted(), first);
    let other = pb::CompleteOperationRequest { response: response(b"\x08\x02"), ..done };
    let refusal = world.complete(other).await;
    assert_eq!(refusal.refused(Code::FailedPrecondition, "INVALID_STATE")["verb"], "complete");
    let others = [
        world.fail(failure(&lease, Code::Internal)).await.map(drop),
        world.release(release(&lease)).await.map(drop),
        world.suspend(suspension(&lease)).await.map(drop),
        world.report(report(&lease)).await.map(drop),
    ];
    for other in others {
        other.refused(Code::FailedPrecondition, "INVALID_STATE");
    }
    assert_eq!(world.record(&lease.operation).await, before);

    // The answer of a failure comes again too, even when another attempt runs already.
    let lease = world.running(start("retried")).await;
    let first = world.fail(failure(&lease, Code::Unavailable)).await.granted();
    assert!(first.will_retry && first.schedule_time.is_some());
    world.pass(Duration::from_secs(2)).await;
    let second = world.lease("retried").await;
    assert_eq!(world.fail(failure(&lease, Code::Unavailable)).await.granted(), first);
    let other = world.fail(failure(&lease, Code::Internal)).await;
    other.refused(Code::FailedPrecondition, "INVALID_STATE");
    assert_eq!(world.state(&lease.operation).await, State::Running);
    world.release(release(&second)).await.granted();
    world.release(release(&second)).await.granted();
    let third = world.lease("retried").await;
    world.suspend(suspension(&third)).await.granted();
    world.suspend(suspension(&third)).await.granted();
    assert_eq!(world.state(&lease.operation).await, State::Suspended);
}

async fn refused_complete_leaves_the_lease(world: &World) {
    let request = pb::StartOperationRequest { response_type: "acme.Done".to_owned(), ..start("q") };
    let lease = world.running(request).await;
    let with = |response: Any| pb::CompleteOperationRequest {
        response: Some(response),
        ..completion(&lease)
    };
    let before = world.record(&lease.operation).await;
    let metadata = world.complete(with(any("acme.Other", b""))).await;
    let metadata = metadata.refused_field("TYPE_MISMATCH", "response");
    assert_eq!((&metadata["declared"][..], &metadata["found"][..]), ("acme.Done", "acme.Other"));
    let too_large = world.complete(with(large("acme.Done", (1 << 20) + 1))).await;
    let metadata = too_large.refused_field("PAYLOAD_TOO_LARGE", "response");
    assert_eq!(metadata["limit"], (1 << 20).to_string());
    let undeclared = pb::CompleteOperationRequest {
        metadata: Some(any("acme.Progress", b"")),
        ..with(any("acme.Done", b""))
    };
    world.complete(undeclared).await.refused_field("TYPE_MISMATCH", "metadata");
    assert_eq!(world.record(&lease.operation).await, before);

    world.report(report(&lease)).await.granted();
    world.complete(with(any("acme.Done", b"\x08\x01"))).await.granted();
    assert_eq!(world.state(&lease.operation).await, State::Succeeded);
}

async fn complete_without_response_is_empty_only_where_that_was_declared(world: &World) {
    for response_type in ["", "google.protobuf.Empty"] {
        let request =
            pb::StartOperationRequest { response_type: response_type.to_owned(), ..start("q") };
        let lease = world.running(request).await;
        world.complete(completion(&lease)).await.granted();
        let response = response_of(&world.get(&lease.operation).await.granted());
        assert_eq!(response, any("google.protobuf.Empty", b""));
    }
    let request = pb::StartOperationRequest { response_type: "acme.Done".to_owned(), ..start("q") };
    let lease = world.running(request).await;
    let refusal = world.complete(completion(&lease)).await;
    let metadata = refusal.refused_field("TYPE_MISMATCH", "response");
    assert_eq!((&metadata["declared"][..], &metadata["found"][..]), ("acme.Done", ""));
    assert_eq!(world.state(&lease.operation).await, State::Running);
}

async fn attempts_used_up_keep_the_last_attempts_own_error(world: &World) {
    let policy = pb::RetryPolicy { max_attempts: 2, ..Default::default() };
    let options = pb::OperationOptions { retry_policy: Some(policy), ..Default::default() };
    let first = world.running(start_with("q", options)).await;
    assert!(world.fail(failure(&first, Code::Unavailable)).await.granted().will_retry);
    world.pass(Duration::from_secs(2)).await;
    let second = world.lease("q").await;
    let details = vec![any("acme.Details", b"\x08\x07")];
    let last =
        RpcStatus { message: "the disk is gone".to_owned(), details, ..error(Code::Unavailable) };
    let request = pb::FailOperationRequest {
        error: Some(last.clone()),
        ..failure(&second, Code::Unavailable)
    };
    let reply = world.fail(request).await.granted();
    assert!(!reply.will_retry && reply.schedule_time.is_none());
    let record = world.record(&first.operation).await;
    assert_eq!(record.state(), State::Failed);
    assert_eq!(
        error_of(&record.operation.expect("operation")),
        last,
        "as it is, no ErrorInfo added"
    );
    let errors: Vec<_> = record.attempts.iter().map(|attempt| attempt.error.clone()).collect();
    assert_eq!(errors, [Some(error(Code::Unavailable)), Some(last)]);
}

async fn attempts_used_up_without_an_error_say_attempts_exhausted(world: &World) {
    let policy = pb::RetryPolicy {
        max_attempts: 2,
        retryable_codes: vec![Code::DeadlineExceeded as i32],
        ..Default::default()
    };
    let options = pb::OperationOptions { retry_policy: Some(policy.clone()), ..Default::default() };
    let lost = world.running(start_with("lost", options.clone())).await;
    world.pass(Duration::from_secs(30)).await;
    world.lease("lost").await;
    world.pass(Duration::from_secs(30)).await;
    let error = error_of(&world.get(&lost.operation).await.granted());
    assert_eq!(error.code, Code::Aborted as i32);
    let info = error_info(&error);
    assert_eq!(info.reason, "ATTEMPTS_EXHAUSTED");
    assert_eq!((&info.metadata["attempts"][..], &info.metadata["cause"][..]), ("2", "WORKER_LOST"));

    let options = pb::OperationOptions { attempt_timeout: seconds(10), ..options };
    let timed_out = world.running(start_with("timed-out", options)).await;
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(world.state(&timed_out.operation).await, State::Pending);
    world.pass(Duration::from_secs(2)).await;
    world.lease("timed-out").await;
    world.pass(Duration::from_secs(10)).await;
    let error = error_of(&world.get(&timed_out.operation).await.granted());
    assert_eq!(error.code, Code::DeadlineExceeded as i32);
    let info = error_info(&error);
    assert_eq!(info.reason, "ATTEMPTS_EXHAUSTED");
    let cause = (&info.metadata["attempts"][..], &info.metadata["cause"][..]);
    assert_eq!(cause, ("2", "EXECUTION_TIMEOUT"));
}

async fn a_first_lost_lease_goes_back_at_once_a_second_after_a_pause(world: &World) {
    let first = world.running(start("q")).await;
    world.pass(Duration::from_secs(29)).await;
    assert_eq!(world.state(&first.operation).await, State::Running);
    world.pass(Duration::from_secs(1)).await;
    let second = world.lease("q").await;
    assert_eq!(second.attempt, 2);
    let error = second.last_error.clone().expect("the last error");
    assert_eq!((error.code, &error_info(&error).reason[..]), (10, "WORKER_LOST"));
    world.pass(Duration::from_secs(30)).await;
    assert_eq!(world.state(&first.operation).await, State::Pending);
    world.expect_no_lease("q").await;
    world.pass(Duration::from_secs(3)).await;
    let third = world.lease("q").await;
    assert_eq!(third.attempt, 3);
    let attempts = world.record(&first.operation).await.attempts;
    let numbers: Vec<i32> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let fencing: Vec<i64> = attempts.iter().map(|attempt| attempt.fencing_number).collect();
    assert_eq!(fencing, [first.fencing_number, second.fencing_number, third.fencing_number]);
    assert!(attempts[2].end_time.is_none() && attempts[1].end_time.is_some());
}

async fn store_away_for_longer_than_leases_loses_none_before_its_worker_could_renew(world: &World) {
    let short = pb::LeaseOperationsRequest { lease_duration: seconds(5), ..leasing("short") };
    let long = pb::LeaseOperationsRequest { lease_duration: seconds(100), ..leasing("long") };
    let names = [world.started("short").await, world.started("long").await];
    let short = world.leases(short).await.granted().remove(0);
    world.leases(long).await.granted();
    let running = async || {
        let states = [world.state(&names[0]).await, world.state(&names[1]).await];
        states.map(|state| state == State::Running)
    };
    world.store.set_away(true);
    world.pass(Duration::from_mins(5)).await;
    world.report(report(&short)).await.refused(Code::Unavailable, "STORE_UNAVAILABLE");
    world.store.set_away(false);
    world.pass(Duration::ZERO).await;
    assert_eq!(running().await, [true, true], "the store has only just come back");
    world.pass(Duration::from_secs(4)).await;
    assert_eq!(running().await, [true, true]);
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(running().await, [false, true], "after its duration");
    world.pass(Duration::from_secs(24)).await;
    assert_eq!(running().await, [false, true]);
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(running().await, [false, false], "after 30 s");
}

async fn attempt_timeout_is_retried_only_where_the_policy_names_it(world: &World) {
    let mut options = pb::OperationOptions { attempt_timeout: seconds(10), ..Default::default() };
    let last = world.running(start_with("q", options.clone())).await;
    world.pass(Duration::from_secs(9)).await;
    world.renew(vec![renewal(&last)]).await.granted();
    world.pass(Duration::from_secs(1)).await;
    let error = error_of(&world.get(&last.operation).await.granted());
    assert_eq!(error.code, Code::DeadlineExceeded as i32);
    let info = error_info(&error);
    assert_eq!(
        (&info.reason[..], &info.metadata["bound"][..]),
        ("EXECUTION_TIMEOUT", "attempt_timeout")
    );
    world.complete(completion(&last)).await.refused(Code::FailedPrecondition, "LEASE_LOST");

    let retryable_codes = vec![Code::DeadlineExceeded as i32];
    options.retry_policy = Some(pb::RetryPolicy { retryable_codes, ..Default::default() });
    let retried = world.running(start_with("q", options)).await;
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(world.state(&retried.operation).await, State::Pending);
    world.pass(Duration::from_secs(2)).await;
    let second = world.lease("q").await;
    assert_eq!((second.attempt, second.last_error.map(|error| error.code)), (2, Some(4)));
}

async fn deadline_is_final_and_runs_on_while_suspended(world: &World) {
    let policy = pb::RetryPolicy {
        retryable_codes: vec![Code::DeadlineExceeded as i32],
        ..Default::default()
    };
    let options = pb::OperationOptions {
        deadline_time: Some(world.at(Duration::from_secs(20))),
        retry_policy: Some(policy),
        ..Default::default()
    };
    let pending = world.start(start_with("pending", options.clone())).await.granted().name;
    let running = world.running(start_with("running", options.clone())).await;
    assert_eq!(running.deadline_time, options.deadline_time);
    let suspended = world.running(start_with("suspended", options.clone())).await;
    world.suspend(suspension(&suspended)).await.granted();
    let paused = world.start(start_with("paused", options)).await.granted().name;
    world.pause(&paused).await.granted();
    world.pass(Duration::from_secs(19)).await;
    let names = [&pending, &running.operation, &suspended.operation, &paused];
    for name in names {
        assert!(!world.get(name).await.granted().done);
    }
    world.pass(Duration::from_secs(1)).await;
    for name in names {
        let error = error_of(&world.get(name).await.granted());
        assert_eq!(error.code, Code::DeadlineExceeded as i32, "{name}");
        let info = error_info(&error);
        assert_eq!(info.metadata["bound"], "deadline_time");
    }
    world.complete(completion(&running)).await.refused(Code::FailedPrecondition, "LEASE_LOST");
}

async fn queue_timeout_ends_what_no_worker_took(world: &World) {
    let options = pb::OperationOptions { queue_timeout: seconds(10), ..Default::default() };
    let taken = world.running(start_with("q", options.clone())).await;
    let waiting = world.start(start_with("q", options.clone())).await.granted().name;
    let schedule_time = Some(world.at(Duration::from_secs(5)));
    let scheduled = pb::OperationOptions { schedule_time, ..options };
    let scheduled = world.start(start_with("q", scheduled)).await.granted().name;
    world.pass(Duration::from_secs(10)).await;
    let error = error_of(&world.get(&waiting).await.granted());
    assert_eq!(error.code, Code::DeadlineExceeded as i32);
    assert_eq!(error_info(&error).metadata["bound"], "queue_timeout");
    assert_eq!(world.state(&scheduled).await, State::Pending, "counts from its time");
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(world.state(&scheduled).await, State::Failed);
    assert_eq!(world.state(&taken.operation).await, State::Running);
    // Once taken it may wait for its next worker as long as it takes.
    world.release(release(&taken)).await.granted();
    world.pass(Duration::from_mins(1)).await;
    assert_eq!(world.lease("q").await.operation, taken.operation);
}

async fn a_released_lease_is_no_attempt_and_keeps_its_checkpoint(world: &World) {
    let lease = world.running(start("q")).await;
    let checkpoint = Some(any("acme.Checkpoint", b"\x08\x05"));
    let back = pb::ReleaseLeaseRequest {
        checkpoint: checkpoint.clone(),
        delay: seconds(10),
        ..release(&lease)
    };
    world.release(back).await.granted();
    let record = world.record(&lease.operation).await;
    assert_eq!((record.state(), record.attempts.len()), (State::Pending, 0));
    world.expect_no_lease("q").await;
    world.pass(Duration::from_secs(9)).await;
    world.expect_no_lease("q").await;
    world.pass(Duration::from_secs(1)).await;
    let again = world.lease("q").await;
    assert_eq!((again.attempt, again.checkpoint), (1, checkpoint));
    assert!(again.fencing_number > lease.fencing_number);
    assert_ne!(again.lease_token, lease.lease_token);
}

async fn renewals_in_one_call_each_get_their_own_result(world: &World) {
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(world.running(start("q")).await);
    }
    world.complete(completion(&leases[1])).await.granted();
    world.pause(&leases[2].operation).await.granted();
    world.let_pass(Duration::from_secs(20));
    let longer =
        pb::renew_leases_request::Renewal { lease_duration: seconds(60), ..renewal(&leases[0]) };
    let unknown = pb::renew_leases_request::Renewal {
        name: "operations/unknown".to_owned(),
        ..renewal(&leases[0])
    };
    let malformed =
        pb::renew_leases_request::Renewal { lease_token: "x".to_owned(), ..renewal(&leases[0]) };
    let renewals = vec![longer, renewal(&leases[1]), renewal(&leases[2]), unknown, malformed];
    let results = world.renew(renewals.clone()).await.granted();
    let names: Vec<_> = results.iter().map(|result| &result.name).collect();
    assert_eq!(names, renewals.iter().map(|renewal| &renewal.name).collect::<Vec<_>>());
    assert_at(results[0].expire_time, world.at(Duration::from_mins(1)));
    assert_eq!(results[0].lease_duration, seconds(60));
    assert!(results[2].directive.expect("a directive").pause_requested);
    assert_at(results[2].expire_time, world.at(Duration::from_secs(30)));
    let reasons: Vec<_> = results
        .iter()
        .map(|result| result.error.as_ref().map_or(String::new(), |error| error_info(error).reason))
        .collect();
    let wanted = ["", "INVALID_STATE", "", "OPERATION_NOT_FOUND", "INVALID_ARGUMENT"];
    assert_eq!(reasons, wanted);
    world
        .renew(vec![renewal(&leases[0]); 1_001])
        .await
        .refused_field("INVALID_ARGUMENT", "renewals");
    assert!(world.renew(Vec::new()).await.granted().is_empty());
}

async fn a_renewal_never_shortens_a_lease(world: &World) {
    let request = pb::LeaseOperationsRequest { lease_duration: seconds(100), ..leasing("q") };
    world.started("q").await;
    let lease = world.leases(request).await.granted().remove(0);
    assert_eq!(lease.lease_duration, seconds(100));
    let shorter =
        pb::renew_leases_request::Renewal { lease_duration: seconds(10), ..renewal(&lease) };
    let result = world.renew(vec![shorter]).await.granted().remove(0);
    assert_eq!(result.expire_time, lease.expire_time, "as was promised");
    world.pass(Duration::from_secs(95)).await;
    world.renew(vec![renewal(&lease)]).await.granted();
    world.pass(Duration::from_secs(8)).await;
    assert_eq!(world.state(&lease.operation).await, State::Running);
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.state(&lease.operation).await, State::Pending);

    for (asked, given) in [(millis(1), 1), (seconds(1 << 20), 24 * 3_600), (seconds(0), 30)] {
        let request = pb::LeaseOperationsRequest { lease_duration: asked, ..leasing("bounds") };
        world.started("bounds").await;
        let lease = world.leases(request).await.granted().remove(0);
        assert_eq!(lease.lease_duration, seconds(given));
    }
}
