//! Pauses by callers and suspensions by workers.

use crate::support::*;

scenarios! {
    over every face;
    pause_while_pending_suspends_and_resume_goes_on,
    pause_while_running_asks_its_worker_and_complete_is_still_accepted,
    pause_takes_hold_once_the_worker_suspends_releases_fails_or_loses_the_lease,
    pause_is_refused_while_cancelling_or_done,
    resume_where_nothing_is_paused_changes_nothing,
    pause_of_what_its_worker_suspended_clears_resume_time,
    worker_suspends_and_the_next_lease_carries_checkpoint_and_input,
    an_input_that_nothing_would_receive_is_refused,
    an_input_that_was_accepted_reaches_the_next_lease,
    suspension_ends_by_itself_at_its_resume_time,
    etags_guard_pause_and_resume,
}

async fn pause_while_pending_suspends_and_resume_goes_on(world: &World) {
    let name = world.started("q").await;
    let record = world.pause(&name).await.granted();
    assert_eq!(record.state(), State::Suspended);
    let metadata = record.server_metadata.expect("metadata");
    assert_eq!((metadata.state(), &metadata.suspend_reason[..]), (State::Suspended, "lunch"));
    world.pass(Duration::from_hours(1)).await;
    world.expect_no_lease("q").await;
    let record = world.resume(&name, None).await.granted();
    assert_eq!(record.state(), State::Pending);
    assert!(record.server_metadata.expect("metadata").suspend_reason.is_empty());
    assert_eq!(world.lease("q").await.operation, name);

    // Also between two attempts, and before its time.
    let lease = world.running(start("retrying")).await;
    world.fail(failure(&lease, Code::Unavailable)).await.granted();
    world.pause(&lease.operation).await.granted();
    world.pass(Duration::from_mins(1)).await;
    world.expect_no_lease("retrying").await;
    world.resume(&lease.operation, None).await.granted();
    assert_eq!(world.lease("retrying").await.attempt, 2);
}

async fn pause_while_running_asks_its_worker_and_complete_is_still_accepted(world: &World) {
    let lease = world.running(start("q")).await;
    let record = world.pause(&lease.operation).await.granted();
    assert_eq!(record.state(), State::Running);
    let directive = world.report(report(&lease)).await.granted().directive.expect("a directive");
    assert!(directive.pause_requested && !directive.cancel_requested);
    let resumed = world.resume(&lease.operation, None).await.granted();
    assert_eq!(resumed.state(), State::Running);
    let directive = world.report(report(&lease)).await.granted().directive.expect("a directive");
    assert!(!directive.pause_requested, "resume clears it");
    world.pause(&lease.operation).await.granted();
    world.complete(completion(&lease)).await.granted();
    assert_eq!(world.state(&lease.operation).await, State::Succeeded);
}

async fn pause_takes_hold_once_the_worker_suspends_releases_fails_or_loses_the_lease(
    world: &World,
) {
    let paused = async |queue: &str| {
        let lease = world.running(start(queue)).await;
        world.pause(&lease.operation).await.granted();
        lease
    };
    let suspended = paused("suspended").await;
    // A caller who asked for the pause decides when it ends.
    let resume_time = Some(world.at(Duration::from_secs(5)));
    let request = pb::SuspendOperationRequest { resume_time, ..suspension(&suspended) };
    world.suspend(request).await.granted();
    let released = paused("released").await;
    world.release(release(&released)).await.granted();
    let failed = paused("failed").await;
    let reply = world.fail(failure(&failed, Code::Unavailable)).await.granted();
    assert!(reply.will_retry && reply.schedule_time.is_none());
    let lost = paused("lost").await;
    world.pass(Duration::from_secs(31)).await;
    for lease in [&suspended, &released, &failed, &lost] {
        let record = world.record(&lease.operation).await;
        assert_eq!(record.state(), State::Suspended, "{}", record.queue);
        assert_eq!(record.server_metadata.expect("metadata").suspend_reason, "lunch");
        world.resume(&lease.operation, None).await.granted();
    }
    let attempts = [("suspended", 1), ("released", 1), ("failed", 2), ("lost", 2)];
    for (queue, attempt) in attempts {
        let lease = world.lease(queue).await;
        assert_eq!(lease.attempt, attempt, "{queue}");
        let directive = world.report(report(&lease)).await.granted().directive;
        assert!(!directive.expect("a directive").pause_requested);
    }
}

async fn pause_is_refused_while_cancelling_or_done(world: &World) {
    let cancelling = world.running(start("q")).await;
    world.cancel(&cancelling.operation).await.granted();
    let succeeded = world.running(start("q")).await;
    world.complete(completion(&succeeded)).await.granted();
    let failed = world.running(start("q")).await;
    world.fail(failure(&failed, Code::Internal)).await.granted();
    let cancelled = world.started("q").await;
    world.cancel(&cancelled).await.granted();
    for name in [&cancelling.operation, &succeeded.operation, &failed.operation, &cancelled] {
        let before = world.record(name).await;
        let refusal = world.pause(name).await.refused(Code::FailedPrecondition, "INVALID_STATE");
        assert_eq!((&refusal["verb"][..], &refusal["name"]), ("pause", name));
        assert_eq!(world.record(name).await, before);
    }
}

async fn resume_where_nothing_is_paused_changes_nothing(world: &World) {
    let pending = world.started("pending").await;
    let running = world.running(start("running")).await.operation;
    let cancelling = world.running(start("cancelling")).await.operation;
    world.cancel(&cancelling).await.granted();
    let done = world.running(start("done")).await;
    world.complete(completion(&done)).await.granted();
    for name in [&pending, &running, &cancelling, &done.operation] {
        let before = world.record(name).await;
        world.resume(name, None).await.granted();
        assert_eq!(world.record(name).await, before, "{name}");
    }
    // Pausing twice is pausing once.
    world.pause(&running).await.granted();
    let before = world.record(&running).await;
    world.pause(&running).await.granted();
    assert_eq!(world.record(&running).await, before);
}

async fn pause_of_what_its_worker_suspended_clears_resume_time(world: &World) {
    let lease = world.running(start("q")).await;
    let request = pb::SuspendOperationRequest {
        resume_time: Some(world.at(Duration::from_mins(1))),
        reason: "waits for the tide".to_owned(),
        ..suspension(&lease)
    };
    world.suspend(request).await.granted();
    let record = world.pause(&lease.operation).await.granted();
    assert_eq!(record.state(), State::Suspended);
    let reason = record.server_metadata.expect("metadata").suspend_reason;
    assert_eq!(reason, "waits for the tide");
    world.pass(Duration::from_mins(2)).await;
    assert_eq!(world.state(&lease.operation).await, State::Suspended);
    world.resume(&lease.operation, None).await.granted();
    assert_eq!(world.lease("q").await.attempt, 1);
}

async fn worker_suspends_and_the_next_lease_carries_checkpoint_and_input(world: &World) {
    let started = pb::StartOperationRequest { metadata_type: "acme.Step".to_owned(), ..start("q") };
    let lease = world.running(started).await;
    let checkpoint = Some(any("acme.Checkpoint", b"\x08\x03"));
    let request = pb::SuspendOperationRequest {
        reason: "needs an approval".to_owned(),
        metadata: Some(any("acme.Step", b"\x08\x02")),
        checkpoint: checkpoint.clone(),
        ..suspension(&lease)
    };
    world.suspend(request).await.granted();
    let record = world.record(&lease.operation).await;
    assert_eq!((record.state(), record.attempts.len()), (State::Suspended, 0));
    let metadata = record.server_metadata.expect("metadata");
    assert_eq!((&metadata.suspend_reason[..], metadata.attempt_count), ("needs an approval", 0));
    world.report(report(&lease)).await.refused(Code::FailedPrecondition, "INVALID_STATE");

    let input = Some(any("acme.Approval", b"\x08\x01"));
    let record = world.resume(&lease.operation, input.clone()).await.granted();
    assert_eq!(record.state(), State::Pending, "at once");
    let second = world.lease("q").await;
    assert_eq!(
        (second.attempt, &second.checkpoint, &second.resume_input),
        (1, &checkpoint, &input)
    );
    assert_eq!(second.metadata, Some(any("acme.Step", b"\x08\x02")));
    // The next attempt after a failure is told the same.
    world.fail(failure(&second, Code::Unavailable)).await.granted();
    world.pass(Duration::from_secs(2)).await;
    let third = world.lease("q").await;
    assert_eq!((third.attempt, third.checkpoint, third.resume_input), (2, checkpoint, input));
    let failed = third.last_error.expect("the last error");
    assert_eq!(failed, error(Code::Unavailable));
}

async fn an_input_that_nothing_would_receive_is_refused(world: &World) {
    let input = || Some(any("acme.Input", b"\x08\x01"));
    let pending = world.started("pending").await;
    let running = world.running(start("running")).await.operation;
    let asked_to_pause = world.running(start("asked")).await.operation;
    world.pause(&asked_to_pause).await.granted();
    let cancelling = world.running(start("cancelling")).await.operation;
    world.cancel(&cancelling).await.granted();
    let done = world.running(start("done")).await;
    world.complete(completion(&done)).await.granted();
    let retrying = world.running(start("retrying")).await;
    world.fail(failure(&retrying, Code::Unavailable)).await.granted();
    // Its suspension has ended by itself.
    let over = world.running(start("over")).await;
    let resume_time = Some(world.at(Duration::from_millis(1)));
    world.suspend(pb::SuspendOperationRequest { resume_time, ..suspension(&over) }).await.granted();
    world.pass(Duration::from_millis(1)).await;
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
        let before = world.record(name).await;
        let answer = world.resume(name, input()).await;
        let refusal = answer.refused(Code::FailedPrecondition, "INVALID_STATE");
        assert_eq!((&refusal["verb"][..], &refusal["name"]), ("resume with input", name));
        assert_eq!(world.record(name).await, before, "{name}");
    }
    assert_eq!(world.lease("pending").await.resume_input, None);
    world.resume(&asked_to_pause, None).await.granted();
}

async fn an_input_that_was_accepted_reaches_the_next_lease(world: &World) {
    let large = [b"\x08\x01".repeat(2_000), b"\x08\x02".repeat(2_000)];
    for (queue, [first, second]) in [
        ("small", [any("acme.Input", b"\x08\x01"), any("acme.Input", b"\x08\x02")]),
        ("large", [any("acme.Input", &large[0]), any("acme.Input", &large[1])]),
    ] {
        let lease = world.running(start(queue)).await;
        let name = &lease.operation;
        world.suspend(suspension(&lease)).await.granted();
        world.resume(name, Some(first.clone())).await.granted();
        // Said again, because the reply was lost; another one is not acknowledged.
        let before = world.record(name).await;
        world.resume(name, Some(first.clone())).await.granted();
        let refused = world.resume(name, Some(second.clone())).await;
        refused.refused(Code::FailedPrecondition, "INVALID_STATE");
        assert_eq!(world.record(name).await, before);
        // A pause before the worker has seen it takes nothing away.
        world.pause(name).await.granted();
        let refused = world.resume(name, Some(second.clone())).await;
        refused.refused(Code::FailedPrecondition, "INVALID_STATE");
        assert_eq!(world.state(name).await, State::Suspended);
        world.resume(name, None).await.granted();
        let lease = world.lease(queue).await;
        assert_eq!(lease.resume_input.as_ref(), Some(&first), "{queue}");
        // Nor does one that begins when its worker gives it back.
        world.pause(name).await.granted();
        world.release(release(&lease)).await.granted();
        world.resume(name, None).await.granted();
        let lease = world.lease(queue).await;
        assert_eq!(lease.resume_input.as_ref(), Some(&first), "{queue}");
        // The next question has an answer of its own.
        world.suspend(suspension(&lease)).await.granted();
        world.resume(name, Some(second.clone())).await.granted();
        assert_eq!(world.lease(queue).await.resume_input, Some(second));
    }
}

async fn suspension_ends_by_itself_at_its_resume_time(world: &World) {
    let lease = world.running(start("q")).await;
    let resume_time = Some(world.at(Duration::from_mins(1)));
    let request = pb::SuspendOperationRequest { resume_time, ..suspension(&lease) };
    world.suspend(request).await.granted();
    world.pass(Duration::from_secs(59)).await;
    world.expect_no_lease("q").await;
    world.pass(Duration::from_secs(1)).await;
    let again = world.lease("q").await;
    assert_eq!((again.attempt, again.resume_input), (1, None));
}

async fn etags_guard_pause_and_resume(world: &World) {
    let name = world.started("q").await;
    let old = world.record(&name).await.etag;
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
    let (mut callers, mut others) = (world.callers(), world.callers());
    let paused = within("pause", callers.pause_operation(pause(&old))).await.granted().into_inner();
    assert_ne!(paused.etag, old);
    assert!(paused.etag.starts_with('"') && paused.etag.ends_with('"'), "quoted: {}", paused.etag);
    let before = world.record(&name).await;
    let refusal = within("resume", others.resume_operation(resume(&old))).await;
    assert_eq!(refusal.refused(Code::Aborted, "ETAG_MISMATCH")["etag"], paused.etag);
    let refusal = within("pause", callers.pause_operation(pause("\"0\""))).await;
    refusal.refused(Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(world.record(&name).await, before);
    let resumed = within("resume", others.resume_operation(resume(&paused.etag))).await.granted();
    assert_eq!(resumed.into_inner().state(), State::Pending);
}
