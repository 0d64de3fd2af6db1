//! What is left of deleted and expired operations, and for how long.

use crate::support::*;

scenarios! {
    over every face;
    delete_while_unfinished_hides_it_at_once_while_the_work_goes_on,
    delete_while_running_is_still_retried_and_runs_into_its_deadline,
    delete_of_what_is_done_leaves_a_tombstone_for_a_day,
    delete_of_what_nobody_could_resume_leaves_no_work,
    deleted_before_it_was_leased_is_still_done,
    expire_time_before_the_end_is_raised_to_an_hour_after_it,
    expired_is_said_for_a_day_and_then_the_name_is_free,
    ttl_counts_from_the_end,
}

async fn delete_while_unfinished_hides_it_at_once_while_the_work_goes_on(world: &World) {
    let named = pb::StartOperationRequest { operation_id: "one".to_owned(), ..start("q") };
    let lease = world.running(named.clone()).await;
    let name = &lease.operation;
    let mut watcher = world.watch(watch(name)).await;
    watcher.expect(EventType::Snapshot).await;
    let wait = world.wait(name, seconds(77));
    world.clock.asked_for(Duration::from_secs(77), 1).await;

    world.delete(name).await.granted();
    let deleted = watcher.expect(EventType::Deleted).await;
    assert!(deleted.operation.is_none());
    watcher.expect_end().await;
    wait.end().await.refused(Code::NotFound, "OPERATION_DELETED");
    assert_gone(world, name, "OPERATION_DELETED").await;
    assert!(world.list("", 10, "").await.granted().operations.is_empty());
    let again = world.start(named.clone()).await;
    again.refused(Code::AlreadyExists, "OPERATION_DELETED");

    // Its worker notices nothing until the end.
    let half = Some(pb::Progress { fraction: Some(0.5), ..Default::default() });
    let halfway = pb::ReportProgressRequest { progress: half, ..report(&lease) };
    assert!(!world.report(halfway).await.granted().directive.expect("directive").cancel_requested);
    world.renew(vec![renewal(&lease)]).await.granted();
    world.pass(Duration::from_secs(20)).await;
    assert!(world.complete(completion(&lease)).await.granted().discarded);
    assert!(world.complete(completion(&lease)).await.granted().discarded, "a repeat");

    // The tombstone's day counts from the end of the work.
    world.pass(Duration::from_secs(24 * 3_600 - 5)).await;
    assert_gone(world, name, "OPERATION_DELETED").await;
    world.start(named.clone()).await.refused(Code::AlreadyExists, "OPERATION_DELETED");
    world.pass(Duration::from_secs(10)).await;
    assert_gone(world, name, "OPERATION_NOT_FOUND").await;
    assert_eq!(world.start(named).await.granted().name, *name);
}

async fn delete_while_running_is_still_retried_and_runs_into_its_deadline(world: &World) {
    let deadline = pb::OperationOptions {
        deadline_time: Some(world.at(Duration::from_secs(100))),
        ..Default::default()
    };
    let first = world.running(start_with("q", deadline)).await;
    world.delete(&first.operation).await.granted();
    let reply = world.fail(failure(&first, Code::Unavailable)).await.granted();
    assert!(reply.will_retry && reply.discarded);
    world.pass(Duration::from_secs(2)).await;
    let second = world.lease("q").await;
    assert_eq!((&second.operation, second.attempt), (&first.operation, 2));
    world.pass(Duration::from_secs(30)).await;
    let third = world.lease("q").await;
    assert_eq!(third.attempt, 3);
    for _ in 0..7 {
        world.pass(Duration::from_secs(10)).await;
        world.renew(vec![renewal(&third)]).await.granted();
    }
    let late = world.complete(completion(&third)).await;
    late.refused(Code::NotFound, "OPERATION_DELETED");
    assert_gone(world, &first.operation, "OPERATION_DELETED").await;
}

async fn delete_of_what_is_done_leaves_a_tombstone_for_a_day(world: &World) {
    let lease = world.running(start("q")).await;
    world.complete(completion(&lease)).await.granted();
    world.delete(&lease.operation).await.granted();
    world.delete(&lease.operation).await.refused(Code::NotFound, "OPERATION_DELETED");
    assert_gone(world, &lease.operation, "OPERATION_DELETED").await;
    // A worker that repeats its call hears the same as before.
    assert!(!world.complete(completion(&lease)).await.granted().discarded);
    world.pass(Duration::from_secs(24 * 3_600 + 1)).await;
    assert_gone(world, &lease.operation, "OPERATION_NOT_FOUND").await;
    world.complete(completion(&lease)).await.refused(Code::NotFound, "OPERATION_NOT_FOUND");
}

async fn delete_of_what_nobody_could_resume_leaves_no_work(world: &World) {
    let paused = world.started("q").await;
    world.pause(&paused).await.granted();
    let suspended = world.running(start("q")).await;
    world.suspend(suspension(&suspended)).await.granted();
    for name in [&paused, &suspended.operation] {
        world.delete(name).await.granted();
        assert_gone(world, name, "OPERATION_DELETED").await;
    }
    world.pass(Duration::from_secs(24 * 3_600 + 1)).await;
    world.expect_no_lease("q").await;
    for name in [&paused, &suspended.operation] {
        assert_gone(world, name, "OPERATION_NOT_FOUND").await;
    }
}

async fn deleted_before_it_was_leased_is_still_done(world: &World) {
    let name = world.started("q").await;
    world.delete(&name).await.granted();
    let lease = world.lease("q").await;
    assert_eq!(lease.operation, name);
    assert!(world.complete(completion(&lease)).await.granted().discarded);
    world.expect_no_lease("q").await;
}

async fn expire_time_before_the_end_is_raised_to_an_hour_after_it(world: &World) {
    let soon = world.at(Duration::from_mins(1));
    let expiration = Some(pb::operation_options::Expiration::ExpireTime(soon));
    let options = pb::OperationOptions { expiration, ..Default::default() };
    let name = world.start(start_with("q", options)).await.granted().name;
    let shown = async || {
        let metadata = world.record(&name).await.server_metadata.expect("metadata");
        metadata.expire_time
    };
    assert_eq!(shown().await, Some(soon));
    world.pass(Duration::from_mins(10)).await;
    let lease = world.lease("q").await;
    world.complete(completion(&lease)).await.granted();
    let raised = world.at(Duration::from_hours(1));
    assert_at(shown().await, raised);
    world.pass(Duration::from_secs(3_590)).await;
    assert!(world.get(&name).await.granted().done);
    world.pass(Duration::from_secs(10)).await;
    assert_gone(world, &name, "OPERATION_EXPIRED").await;
}

async fn expired_is_said_for_a_day_and_then_the_name_is_free(world: &World) {
    let named = pb::StartOperationRequest { operation_id: "one".to_owned(), ..start("q") };
    let lease = world.running(named.clone()).await;
    world.complete(completion(&lease)).await.granted();
    let mut watcher = world.watch(watch(&lease.operation)).await;
    watcher.expect(EventType::Done).await;
    watcher.expect_end().await;
    let days = |days: u64| Duration::from_secs(days * 24 * 3_600);
    world.pass(days(30).saturating_sub(Duration::from_secs(1))).await;
    assert_eq!(world.get(&lease.operation).await.granted().name, lease.operation);
    world.pass(Duration::from_secs(1)).await;
    assert_gone(world, &lease.operation, "OPERATION_EXPIRED").await;
    assert!(world.list("", 10, "").await.granted().operations.is_empty());
    world.start(named.clone()).await.refused(Code::AlreadyExists, "OPERATION_EXPIRED");
    world.delete(&lease.operation).await.refused(Code::NotFound, "OPERATION_EXPIRED");
    world.cancel(&lease.operation).await.refused(Code::NotFound, "OPERATION_EXPIRED");
    world.pass(days(1).saturating_sub(Duration::from_secs(2))).await;
    world.start(named.clone()).await.refused(Code::AlreadyExists, "OPERATION_EXPIRED");
    world.pass(Duration::from_secs(3)).await;
    assert_gone(world, &lease.operation, "OPERATION_NOT_FOUND").await;
    let renamed = world.start(named).await.granted();
    assert!(!renamed.done);
    let again = world.lease("q").await;
    assert_eq!((again.operation, again.attempt), (lease.operation, 1));
}

async fn ttl_counts_from_the_end(world: &World) {
    let expiration = pb::operation_options::Expiration::Ttl(seconds(7_200).expect("a ttl"));
    let options = pb::OperationOptions { expiration: Some(expiration), ..Default::default() };
    let lease = world.running(start_with("q", options)).await;
    let expires = async || {
        let metadata = world.record(&lease.operation).await.server_metadata.expect("metadata");
        metadata.expire_time
    };
    assert_eq!(expires().await, None);
    world.let_pass(Duration::from_secs(10));
    world.fail(failure(&lease, Code::Internal)).await.granted();
    assert_at(expires().await, world.at(Duration::from_hours(2)));
    world.pass(Duration::from_hours(2)).await;
    assert_gone(world, &lease.operation, "OPERATION_EXPIRED").await;
}

/// Every way to look at it says so.
async fn assert_gone(world: &World, name: &str, reason: &str) {
    world.get(name).await.refused(Code::NotFound, reason);
    world.wait(name, seconds(1)).end().await.refused(Code::NotFound, reason);
    world.try_watch(watch(name)).await.map(drop).refused(Code::NotFound, reason);
    world.try_record(name).await.refused(Code::NotFound, reason);
    world.pause(name).await.refused(Code::NotFound, reason);
    world.resume(name, None).await.refused(Code::NotFound, reason);
    world.cancel(name).await.refused(Code::NotFound, reason);
}
