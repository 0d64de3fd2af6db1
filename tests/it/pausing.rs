//! Pauses by callers and suspensions by workers.

use crate::support::*;

scenarios! {
    over every face;
    pause_while_pending_suspends_and_resume_goes_on,
    pause_while_running_asks_its_worker_and_complete_is_still_accepted,
    pause_takes_hold_once_the_worker_suspends_releases_fails_or_loses_the_lease,
    pause_is_refused_while_cancelling_or_done,
    resume_where_nothing_is_paused_changes_nothing,
    pausing_an_operation_that_its_worker_suspended_clears_resume_time,
    worker_suspends_and_the_next_lease_carries_checkpoint_and_input,
    an_input_that_nothing_would_receive_is_refused,
    an_input_that_was_accepted_reaches_the_next_lease,
    suspension_ends_by_itself_at_its_resume_time,
    etags_guard_pause_and_resume,
}

async fn pause_while_pending_suspends_and_resume_goes_on(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let record = fixture.pause(&name).await.granted();
    assert_eq!(record.state(), State::Suspended);
    let metadata = record.server_metadata.expect("metadata");
    assert_eq!((metadata.state(), &metadata.suspend_reason[..]), (State::Suspended, "lunch"));
    fixture.pass(Duration::from_hours(1)).await;
    fixture.expect_no_lease("q").await;
    let record = fixture.resume(&name, None).await.granted();
    assert_eq!(record.state(), State::Pending);
    assert!(record.server_metadata.expect("metadata").suspend_reason.is_empty());
    assert_eq!(fixture.lease("q").await.operation, name);

    // Also between two attempts, and before its time.
    let lease = fixture.running(start("retrying")).await;
    fixture.fail(failure(&lease, Code::Unavailable)).await.granted();
    fixture.pause(&lease.operation).await.granted();
    fixture.pass(Duration::from_mins(1)).await;
    fixture.expect_no_lease("retrying").await;
    fixture.resume(&lease.operation, None).await.granted();
    assert_eq!(fixture.lease("retrying").await.attempt, 2);
}

async fn pause_while_running_asks_its_worker_and_complete_is_still_accepted(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let record = fixture.pause(&lease.operation).await.granted();
    assert_eq!(record.state(), State::Running);
    let directive = fixture.report(report(&lease)).await.granted().directive.expect("a directive");
    assert!(directive.pause_requested && !directive.cancel_requested);
    let resumed = fixture.resume(&lease.operation, None).await.granted();
    assert_eq!(resumed.state(), State::Running);
    let directive = fixture.report(report(&lease)).await.granted().directive.expect("a directive");
    assert!(!directive.pause_requested, "resume clears it");
    fixture.pause(&lease.operation).await.granted();
    fixture.complete(completion(&lease)).await.granted();
    assert_eq!(fixture.state(&lease.operation).await, State::Succeeded);
}

async fn pause_takes_hold_once_the_worker_suspends_releases_fails_or_loses_the_lease(
    fixture: &Fixture,
) {
    let paused = async |queue: &str| {
        let lease = fixture.running(start(queue)).await;
        fixture.pause(&lease.operation).await.granted();
        lease
    };
    let suspended = paused("suspended").await;
    // If a caller requested the pause, the caller decides when it ends.
    let resume_time = Some(fixture.at(Duration::from_secs(5)));
    let request = pb::SuspendOperationRequest { resume_time, ..suspension(&suspended) };
    fixture.suspend(request).await.granted();
    let released = paused("released").await;
    fixture.release(release(&released)).await.granted();
    let failed = paused("failed").await;
    let reply = fixture.fail(failure(&failed, Code::Unavailable)).await.granted();
    assert!(reply.will_retry && reply.schedule_time.is_none());
    let lost = paused("lost").await;
    fixture.pass(Duration::from_secs(31)).await;
    for lease in [&suspended, &released, &failed, &lost] {
        let record = fixture.record(&lease.operation).await;
        assert_eq!(record.state(), State::Suspended, "{}", record.queue);
        assert_eq!(record.server_metadata.expect("metadata").suspend_reason, "lunch");
        fixture.resume(&lease.operation, None).await.granted();
    }
    let attempts = [("suspended", 1), ("released", 1), ("failed", 2), ("lost", 2)];
    for (queue, attempt) in attempts {
        let lease = fixture.lease(queue).await;
        assert_eq!(lease.attempt, attempt, "{queue}");
        let directive = fixture.report(report(&lease)).await.granted().directive;
        assert!(!directive.expect("a directive").pause_requested);
    }
}

async fn pause_is_refused_while_cancelling_or_done(fixture: &Fixture) {
    let cancelling = fixture.running(start("q")).await;
    fixture.cancel(&cancelling.operation).await.granted();
    let succeeded = fixture.running(start("q")).await;
    fixture.complete(completion(&succeeded)).await.granted();
    let failed = fixture.running(start("q")).await;
    fixture.fail(failure(&failed, Code::Internal)).await.granted();
    let cancelled = fixture.started("q").await;
    fixture.cancel(&cancelled).await.granted();
    for name in [&cancelling.operation, &succeeded.operation, &failed.operation, &cancelled] {
        let before = fixture.record(name).await;
        let refusal = fixture.pause(name).await.refused(Code::FailedPrecondition, "INVALID_STATE");
        assert_eq!((&refusal["verb"][..], &refusal["name"]), ("pause", name));
        assert_eq!(fixture.record(name).await, before);
    }
}

async fn resume_where_nothing_is_paused_changes_nothing(fixture: &Fixture) {
    let pending = fixture.started("pending").await;
    let running = fixture.running(start("running")).await.operation;
    let cancelling = fixture.running(start("cancelling")).await.operation;
    fixture.cancel(&cancelling).await.granted();
    let done = fixture.running(start("done")).await;
    fixture.complete(completion(&done)).await.granted();
    for name in [&pending, &running, &cancelling, &done.operation] {
        let before = fixture.record(name).await;
        fixture.resume(name, None).await.granted();
        assert_eq!(fixture.record(name).await, before, "{name}");
    }
    // Pausing twice is pausing once.
    fixture.pause(&running).await.granted();
    let before = fixture.record(&running).await;
    fixture.pause(&running).await.granted();
    assert_eq!(fixture.record(&running).await, before);
}

async fn pausing_an_operation_that_its_worker_suspended_clears_resume_time(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let request = pb::SuspendOperationRequest {
        resume_time: Some(fixture.at(Duration::from_mins(1))),
        reason: "waits for the tide".to_owned(),
        ..suspension(&lease)
    };
    fixture.suspend(request).await.granted();
    let record = fixture.pause(&lease.operation).await.granted();
    assert_eq!(record.state(), State::Suspended);
    let reason = record.server_metadata.expect("metadata").suspend_reason;
    assert_eq!(reason, "waits for the tide");
    fixture.pass(Duration::from_mins(2)).await;
    assert_eq!(fixture.state(&lease.operation).await, State::Suspended);
    fixture.resume(&lease.operation, None).await.granted();
    assert_eq!(fixture.lease("q").await.attempt, 1);
}

async fn worker_suspends_and_the_next_lease_carries_checkpoint_and_input(fixture: &Fixture) {
    let started = pb::StartOperationRequest { metadata_type: "acme.Step".to_owned(), ..start("q") };
    let lease = fixture.running(started).await;
    let checkpoint = Some(any("acme.Checkpoint", b"\x08\x03"));
    let request = pb::SuspendOperationRequest {
        reason: "needs an approval".to_owned(),
        metadata: Some(any("acme.Step", b"\x08\x02")),
        checkpoint: checkpoint.clone(),
        ..suspension(&lease)
    };
    fixture.suspend(request).await.granted();
    let record = fixture.record(&lease.operation).await;
    assert_eq!((record.state(), record.attempts.len()), (State::Suspended, 0));
    let metadata = record.server_metadata.expect("metadata");
    assert_eq!((&metadata.suspend_reason[..], metadata.attempt_count), ("needs an approval", 0));
    fixture.report(report(&lease)).await.refused(Code::FailedPrecondition, "INVALID_STATE");

    let input = Some(any("acme.Approval", b"\x08\x01"));
    let record = fixture.resume(&lease.operation, input.clone()).await.granted();
    assert_eq!(record.state(), State::Pending, "at once");
    let second = fixture.lease("q").await;
    assert_eq!(
        (second.attempt, &second.checkpoint, &second.resume_input),
        (1, &checkpoint, &input)
    );
    assert_eq!(second.metadata, Some(any("acme.Step", b"\x08\x02")));
    // The next attempt after a failure gets the same request.
    fixture.fail(failure(&second, Code::Unavailable)).await.granted();
    fixture.pass(Duration::from_secs(2)).await;
    let third = fixture.lease("q").await;
    assert_eq!((third.attempt, third.checkpoint, third.resume_input), (2, checkpoint, input));
    let failed = third.last_error.expect("the last error");
    assert_eq!(failed, error(Code::Unavailable));
}

async fn an_input_that_nothing_would_receive_is_refused(fixture: &Fixture) {
    let input = || Some(any("acme.Input", b"\x08\x01"));
    let pending = fixture.started("pending").await;
    let running = fixture.running(start("running")).await.operation;
    let asked_to_pause = fixture.running(start("asked")).await.operation;
    fixture.pause(&asked_to_pause).await.granted();
    let cancelling = fixture.running(start("cancelling")).await.operation;
    fixture.cancel(&cancelling).await.granted();
    let done = fixture.running(start("done")).await;
    fixture.complete(completion(&done)).await.granted();
    let retrying = fixture.running(start("retrying")).await;
    fixture.fail(failure(&retrying, Code::Unavailable)).await.granted();
    // Its suspension has ended by itself.
    let over = fixture.running(start("over")).await;
    let resume_time = Some(fixture.at(Duration::from_millis(1)));
    fixture
        .suspend(pb::SuspendOperationRequest { resume_time, ..suspension(&over) })
        .await
        .granted();
    fixture.pass(Duration::from_millis(1)).await;
    let names = [
        &pending,
        &running,
        &asked_to_pause,
        &cancelling,
        &done.operation,
        &retrying.operation,
        &over.operation,
    ];
    for name in names {
        let before = fixture.record(name).await;
        let answer = fixture.resume(name, input()).await;
        let refusal = answer.refused(Code::FailedPrecondition, "INVALID_STATE");
        assert_eq!((&refusal["verb"][..], &refusal["name"]), ("resume with input", name));
        assert_eq!(fixture.record(name).await, before, "{name}");
    }
    assert_eq!(fixture.lease("pending").await.resume_input, None);
    fixture.resume(&asked_to_pause, None).await.granted();
}

async fn an_input_that_was_accepted_reaches_the_next_lease(fixture: &Fixture) {
    let large = [b"\x08\x01".repeat(2_000), b"\x08\x02".repeat(2_000)];
    for (queue, [first, second]) in [
        ("small", [any("acme.Input", b"\x08\x01"), any("acme.Input", b"\x08\x02")]),
        ("large", [any("acme.Input", &large[0]), any("acme.Input", &large[1])]),
    ] {
        let lease = fixture.running(start(queue)).await;
        let name = &lease.operation;
        fixture.suspend(suspension(&lease)).await.granted();
        fixture.resume(name, Some(first.clone())).await.granted();
        // A repeat, because the reply was lost; a different one is not acknowledged.
        let before = fixture.record(name).await;
        fixture.resume(name, Some(first.clone())).await.granted();
        let refused = fixture.resume(name, Some(second.clone())).await;
        refused.refused(Code::FailedPrecondition, "INVALID_STATE");
        assert_eq!(fixture.record(name).await, before);
        // A pause before the worker has received the lease takes nothing away.
        fixture.pause(name).await.granted();
        let refused = fixture.resume(name, Some(second.clone())).await;
        refused.refused(Code::FailedPrecondition, "INVALID_STATE");
        assert_eq!(fixture.state(name).await, State::Suspended);
        fixture.resume(name, None).await.granted();
        let lease = fixture.lease(queue).await;
        assert_eq!(lease.resume_input.as_ref(), Some(&first), "{queue}");
        // Nor does one that begins when its worker gives it back.
        fixture.pause(name).await.granted();
        fixture.release(release(&lease)).await.granted();
        fixture.resume(name, None).await.granted();
        let lease = fixture.lease(queue).await;
        assert_eq!(lease.resume_input.as_ref(), Some(&first), "{queue}");
        // The next question has an answer of its own.
        fixture.suspend(suspension(&lease)).await.granted();
        fixture.resume(name, Some(second.clone())).await.granted();
        assert_eq!(fixture.lease(queue).await.resume_input, Some(second));
    }
}

async fn suspension_ends_by_itself_at_its_resume_time(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let resume_time = Some(fixture.at(Duration::from_mins(1)));
    let request = pb::SuspendOperationRequest { resume_time, ..suspension(&lease) };
    fixture.suspend(request).await.granted();
    fixture.pass(Duration::from_secs(59)).await;
    fixture.expect_no_lease("q").await;
    fixture.pass(Duration::from_secs(1)).await;
    let again = fixture.lease("q").await;
    assert_eq!((again.attempt, again.resume_input), (1, None));
}

async fn etags_guard_pause_and_resume(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let old = fixture.record(&name).await.etag;
    let pause = |etag: &str| pb::PauseOperationRequest {
        name: name.clone(),
        etag: etag.to_owned(),
        ..Default::default()
    };
    let resume = |etag: &str| pb::ResumeOperationRequest {
        name: name.clone(),
        etag: etag.to_owned(),
        ..Default::default()
    };
    let (mut callers, mut others) = (fixture.callers(), fixture.callers());
    let paused = within("pause", callers.pause_operation(pause(&old))).await.granted().into_inner();
    assert_ne!(paused.etag, old);
    assert!(paused.etag.starts_with('"') && paused.etag.ends_with('"'), "quoted: {}", paused.etag);
    let before = fixture.record(&name).await;
    let refusal = within("resume", others.resume_operation(resume(&old))).await;
    assert_eq!(refusal.refused(Code::Aborted, "ETAG_MISMATCH")["etag"], paused.etag);
    let refusal = within("pause", callers.pause_operation(pause("\"0\""))).await;
    refusal.refused(Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(fixture.record(&name).await, before);
    let resumed = within("resume", others.resume_operation(resume(&paused.etag))).await.granted();
    assert_eq!(resumed.into_inner().state(), State::Pending);
}
