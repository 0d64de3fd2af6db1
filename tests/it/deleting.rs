//! Deleted and expired operations: what remains of them, and for how long.

use crate::support::*;

scenarios! {
    over every face;
    delete_while_unfinished_hides_it_at_once_while_the_work_goes_on,
    delete_while_running_is_still_retried_and_runs_into_its_deadline,
    deleting_a_finished_operation_leaves_a_tombstone_for_a_day,
    deleting_a_suspended_operation_that_no_caller_could_resume_leaves_no_work,
    deleted_before_it_was_leased_is_still_done,
    expire_time_before_the_end_is_raised_to_an_hour_after_it,
    expired_is_said_for_a_day_and_then_the_name_is_free,
    ttl_counts_from_the_end,
}

async fn delete_while_unfinished_hides_it_at_once_while_the_work_goes_on(fixture: &Fixture) {
    let named = pb::StartOperationRequest { operation_id: "one".to_owned(), ..start("q") };
    let lease = fixture.running(named.clone()).await;
    let name = &lease.operation;
    let mut watcher = fixture.watch(watch(name)).await;
    watcher.expect(EventType::Snapshot).await;
    let wait = fixture.wait(name, seconds(77));
    fixture.clock.asked_for(Duration::from_secs(77), 1).await;

    fixture.delete(name).await.granted();
    let deleted = watcher.expect(EventType::Deleted).await;
    assert!(deleted.operation.is_none());
    watcher.expect_end().await;
    wait.end().await.refused(Code::NotFound, "OPERATION_DELETED");
    assert_gone(fixture, name, "OPERATION_DELETED").await;
    assert!(fixture.list("", 10, "").await.granted().operations.is_empty());
    let again = fixture.start(named.clone()).await;
    again.refused(Code::AlreadyExists, "OPERATION_DELETED");

    // Its worker notices nothing until the end.
    let half = Some(pb::Progress { fraction: Some(0.5), ..Default::default() });
    let halfway = pb::ReportProgressRequest { progress: half, ..report(&lease) };
    assert!(
        !fixture.report(halfway).await.granted().directive.expect("directive").cancel_requested
    );
    fixture.renew(vec![renewal(&lease)]).await.granted();
    fixture.pass(Duration::from_secs(20)).await;
    assert!(fixture.complete(completion(&lease)).await.granted().discarded);
    assert!(fixture.complete(completion(&lease)).await.granted().discarded, "a repeat");

    // The tombstone's day counts from the end of the work.
    fixture.pass(Duration::from_secs(24 * 3_600 - 5)).await;
    assert_gone(fixture, name, "OPERATION_DELETED").await;
    fixture.start(named.clone()).await.refused(Code::AlreadyExists, "OPERATION_DELETED");
    fixture.pass(Duration::from_secs(10)).await;
    assert_gone(fixture, name, "OPERATION_NOT_FOUND").await;
    assert_eq!(fixture.start(named).await.granted().name, *name);
}

async fn delete_while_running_is_still_retried_and_runs_into_its_deadline(fixture: &Fixture) {
    let deadline = pb::OperationOptions {
        deadline_time: Some(fixture.at(Duration::from_secs(100))),
        ..Default::default()
    };
    let first = fixture.running(start_with("q", deadline)).await;
    fixture.delete(&first.operation).await.granted();
    let reply = fixture.fail(failure(&first, Code::Unavailable)).await.granted();
    assert!(reply.will_retry && reply.discarded);
    fixture.pass(Duration::from_secs(2)).await;
    let second = fixture.lease("q").await;
    assert_eq!((&second.operation, second.attempt), (&first.operation, 2));
    fixture.pass(Duration::from_secs(30)).await;
    let third = fixture.lease("q").await;
    assert_eq!(third.attempt, 3);
    for _ in 0..7 {
        fixture.pass(Duration::from_secs(10)).await;
        fixture.renew(vec![renewal(&third)]).await.granted();
    }
    let late = fixture.complete(completion(&third)).await;
    late.refused(Code::NotFound, "OPERATION_DELETED");
    assert_gone(fixture, &first.operation, "OPERATION_DELETED").await;
}

async fn deleting_a_finished_operation_leaves_a_tombstone_for_a_day(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    fixture.complete(completion(&lease)).await.granted();
    fixture.delete(&lease.operation).await.granted();
    fixture.delete(&lease.operation).await.refused(Code::NotFound, "OPERATION_DELETED");
    assert_gone(fixture, &lease.operation, "OPERATION_DELETED").await;
    // A worker that repeats its call gets the same answer as before.
    assert!(!fixture.complete(completion(&lease)).await.granted().discarded);
    fixture.pass(Duration::from_secs(24 * 3_600 + 1)).await;
    assert_gone(fixture, &lease.operation, "OPERATION_NOT_FOUND").await;
    fixture.complete(completion(&lease)).await.refused(Code::NotFound, "OPERATION_NOT_FOUND");
}

async fn deleting_a_suspended_operation_that_no_caller_could_resume_leaves_no_work(
    fixture: &Fixture,
) {
    let paused = fixture.started("q").await;
    fixture.pause(&paused).await.granted();
    let suspended = fixture.running(start("q")).await;
    fixture.suspend(suspension(&suspended)).await.granted();
    for name in [&paused, &suspended.operation] {
        fixture.delete(name).await.granted();
        assert_gone(fixture, name, "OPERATION_DELETED").await;
    }
    fixture.pass(Duration::from_secs(24 * 3_600 + 1)).await;
    fixture.expect_no_lease("q").await;
    for name in [&paused, &suspended.operation] {
        assert_gone(fixture, name, "OPERATION_NOT_FOUND").await;
    }
}

async fn deleted_before_it_was_leased_is_still_done(fixture: &Fixture) {
    let name = fixture.started("q").await;
    fixture.delete(&name).await.granted();
    let lease = fixture.lease("q").await;
    assert_eq!(lease.operation, name);
    assert!(fixture.complete(completion(&lease)).await.granted().discarded);
    fixture.expect_no_lease("q").await;
}

async fn expire_time_before_the_end_is_raised_to_an_hour_after_it(fixture: &Fixture) {
    let soon = fixture.at(Duration::from_mins(1));
    let expiration = Some(pb::operation_options::Expiration::ExpireTime(soon));
    let options = pb::OperationOptions { expiration, ..Default::default() };
    let name = fixture.start(start_with("q", options)).await.granted().name;
    let shown = async || {
        let metadata = fixture.record(&name).await.server_metadata.expect("metadata");
        metadata.expire_time
    };
    assert_eq!(shown().await, Some(soon));
    fixture.pass(Duration::from_mins(10)).await;
    let lease = fixture.lease("q").await;
    fixture.complete(completion(&lease)).await.granted();
    let raised = fixture.at(Duration::from_hours(1));
    assert_at(shown().await, raised);
    fixture.pass(Duration::from_secs(3_590)).await;
    assert!(fixture.get(&name).await.granted().done);
    fixture.pass(Duration::from_secs(10)).await;
    assert_gone(fixture, &name, "OPERATION_EXPIRED").await;
}

async fn expired_is_said_for_a_day_and_then_the_name_is_free(fixture: &Fixture) {
    let named = pb::StartOperationRequest { operation_id: "one".to_owned(), ..start("q") };
    let lease = fixture.running(named.clone()).await;
    fixture.complete(completion(&lease)).await.granted();
    let mut watcher = fixture.watch(watch(&lease.operation)).await;
    watcher.expect(EventType::Done).await;
    watcher.expect_end().await;
    let days = |days: u64| Duration::from_secs(days * 24 * 3_600);
    fixture.pass(days(30).saturating_sub(Duration::from_secs(1))).await;
    assert_eq!(fixture.get(&lease.operation).await.granted().name, lease.operation);
    fixture.pass(Duration::from_secs(1)).await;
    assert_gone(fixture, &lease.operation, "OPERATION_EXPIRED").await;
    assert!(fixture.list("", 10, "").await.granted().operations.is_empty());
    fixture.start(named.clone()).await.refused(Code::AlreadyExists, "OPERATION_EXPIRED");
    fixture.delete(&lease.operation).await.refused(Code::NotFound, "OPERATION_EXPIRED");
    fixture.cancel(&lease.operation).await.refused(Code::NotFound, "OPERATION_EXPIRED");
    fixture.pass(days(1).saturating_sub(Duration::from_secs(2))).await;
    fixture.start(named.clone()).await.refused(Code::AlreadyExists, "OPERATION_EXPIRED");
    fixture.pass(Duration::from_secs(3)).await;
    assert_gone(fixture, &lease.operation, "OPERATION_NOT_FOUND").await;
    let renamed = fixture.start(named).await.granted();
    assert!(!renamed.done);
    let again = fixture.lease("q").await;
    assert_eq!((again.operation, again.attempt), (lease.operation, 1));
}

async fn ttl_counts_from_the_end(fixture: &Fixture) {
    let expiration = pb::operation_options::Expiration::Ttl(seconds(7_200).expect("a ttl"));
    let options = pb::OperationOptions { expiration: Some(expiration), ..Default::default() };
    let lease = fixture.running(start_with("q", options)).await;
    let expires = async || {
        let metadata = fixture.record(&lease.operation).await.server_metadata.expect("metadata");
        metadata.expire_time
    };
    assert_eq!(expires().await, None);
    fixture.let_pass(Duration::from_secs(10));
    fixture.fail(failure(&lease, Code::Internal)).await.granted();
    assert_at(expires().await, fixture.at(Duration::from_hours(2)));
    fixture.pass(Duration::from_hours(2)).await;
    assert_gone(fixture, &lease.operation, "OPERATION_EXPIRED").await;
}

/// Every read reports it.
async fn assert_gone(fixture: &Fixture, name: &str, reason: &str) {
    fixture.get(name).await.refused(Code::NotFound, reason);
    fixture.wait(name, seconds(1)).end().await.refused(Code::NotFound, reason);
    fixture.try_watch(watch(name)).await.map(drop).refused(Code::NotFound, reason);
    fixture.try_record(name).await.refused(Code::NotFound, reason);
    fixture.pause(name).await.refused(Code::NotFound, reason);
    fixture.resume(name, None).await.refused(Code::NotFound, reason);
    fixture.cancel(name).await.refused(Code::NotFound, reason);
}
