//! A store that fails during calls: with every fault, each call ends with exactly one effect.

use longhaul::store::faulty::Fault;
use tonic::Status;

use crate::support::*;

scenarios! {
    a_start_under_each_fault_starts_exactly_one,
    a_lease_under_each_fault_is_given_once,
    a_report_under_each_fault_appends_once_where_it_is_numbered,
    a_completion_under_each_fault_completes_once,
    a_failure_under_each_fault_is_one_attempt,
    cancel_delete_and_resume_under_each_fault_act_once,
    a_store_that_is_away_is_said_so_and_nothing_is_half_done,
    lost_hints_cost_a_moment_and_nothing_else,
}

/// Faults of the commits of one call.
const FAULTS: [&[Fault]; 6] = [
    &[Fault::AppliedUnknown],
    &[Fault::LostUnknown],
    &[Fault::Conflict],
    &[Fault::LostUnknown, Fault::AppliedUnknown],
    &[Fault::Conflict, Fault::LostUnknown, Fault::AppliedUnknown],
    &[Fault::Conflict, Fault::Conflict, Fault::Conflict],
];

async fn a_start_under_each_fault_starts_exactly_one(fixture: &Fixture) {
    for (number, faults) in FAULTS.into_iter().enumerate() {
        let parent = format!("projects/p{number}");
        let plain = pb::StartOperationRequest { parent: parent.clone(), ..start("q") };
        let with_id = pb::StartOperationRequest { operation_id: "one".to_owned(), ..plain.clone() };
        let replayed = pb::StartOperationRequest { request_id: "two".to_owned(), ..plain.clone() };
        for request in [plain, with_id, replayed] {
            fixture.store.inject(faults.iter().copied());
            let operation = fixture.start(request).await.granted();
            assert_eq!(fixture.get(&operation.name).await.granted(), operation, "{faults:?}");
        }
        let listed = fixture.list(&parent, 10, "").await.granted().operations;
        assert_eq!(listed.len(), 3, "{faults:?}");
    }
    let started = FAULTS.len() as i32 * 3;
    let all = pb::LeaseOperationsRequest { max_operations: 100, ..leasing("q") };
    assert_eq!(fixture.leases(all).await.granted().len() as i32, started);
}

async fn a_lease_under_each_fault_is_given_once(fixture: &Fixture) {
    for faults in FAULTS {
        let name = fixture.started("q").await;
        fixture.store.inject(faults.iter().copied());
        let mut leases = fixture.leases(leasing("q")).await.granted();
        // A lease that its worker did not receive expires like any other.
        for _ in 0..3 {
            if leases.is_empty() {
                fixture.pass(Duration::from_secs(40)).await;
                leases = fixture.leases(leasing("q")).await.granted();
            }
        }
        let lease = leases.pop().expect("a lease");
        assert_eq!(lease.operation, name, "{faults:?}");
        fixture.expect_no_lease("q").await;
        fixture.complete(completion(&lease)).await.granted();
        assert_eq!(fixture.state(&name).await, State::Succeeded, "{faults:?}");
    }
}

async fn a_report_under_each_fault_appends_once_where_it_is_numbered(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    for (number, faults) in FAULTS.into_iter().enumerate() {
        fixture.store.inject(faults.iter().copied());
        let request = pb::ReportProgressRequest {
            report_number: number as i64 + 1,
            partial_errors: vec![error(Code::Internal)],
            ..report(&lease)
        };
        fixture.report(request).await.granted();
        let metadata = fixture.record(&lease.operation).await.server_metadata.expect("metadata");
        assert_eq!(metadata.partial_errors.len(), number + 1, "{faults:?}");
    }
}

async fn a_completion_under_each_fault_completes_once(fixture: &Fixture) {
    for faults in FAULTS {
        let lease = fixture.running(start("q")).await;
        let mut watcher = fixture.watch(watch(&lease.operation)).await;
        watcher.expect(EventType::Snapshot).await;
        fixture.store.inject(faults.iter().copied());
        let response = Some(large("acme.Done", 5_000));
        let request = pb::CompleteOperationRequest { response, ..completion(&lease) };
        assert!(!fixture.complete(request).await.granted().discarded);
        let record = fixture.record(&lease.operation).await;
        assert_eq!((record.state(), record.attempts.len()), (State::Succeeded, 1), "{faults:?}");
        assert_eq!(response_of(&record.operation.expect("operation")), large("acme.Done", 5_000));
        watcher.expect(EventType::Done).await;
        watcher.expect_end().await;
    }
}

async fn a_failure_under_each_fault_is_one_attempt(fixture: &Fixture) {
    for faults in FAULTS {
        let lease = fixture.running(start("q")).await;
        fixture.store.inject(faults.iter().copied());
        assert!(fixture.fail(failure(&lease, Code::Unavailable)).await.granted().will_retry);
        let record = fixture.record(&lease.operation).await;
        assert_eq!((record.state(), record.attempts.len()), (State::Pending, 1), "{faults:?}");
        fixture.pass(Duration::from_secs(2)).await;
        let lease = fixture.lease("q").await;
        assert_eq!(lease.attempt, 2);
        fixture.store.inject(faults.iter().copied());
        assert!(!fixture.fail(failure(&lease, Code::Internal)).await.granted().will_retry);
        let record = fixture.record(&lease.operation).await;
        assert_eq!((record.state(), record.attempts.len()), (State::Failed, 2), "{faults:?}");
    }
}

async fn cancel_delete_and_resume_under_each_fault_act_once(fixture: &Fixture) {
    for faults in FAULTS {
        let lease = fixture.running(start("q")).await;
        let inject = || fixture.store.inject(faults.iter().copied());
        inject();
        assert_eq!(fixture.pause(&lease.operation).await.granted().state(), State::Running);
        inject();
        fixture.suspend(suspension(&lease)).await.granted();
        assert_eq!(fixture.state(&lease.operation).await, State::Suspended, "{faults:?}");
        inject();
        let input = Some(any("acme.Input", b"\x08\x01"));
        let resumed = fixture.resume(&lease.operation, input.clone()).await.granted();
        assert_eq!(resumed.state(), State::Pending, "{faults:?}");
        let lease = fixture.lease("q").await;
        assert_eq!((lease.attempt, &lease.resume_input), (1, &input));
        inject();
        fixture.release(release(&lease)).await.granted();
        let lease = fixture.lease("q").await;
        inject();
        fixture.cancel(&lease.operation).await.granted();
        assert_eq!(fixture.state(&lease.operation).await, State::Cancelling, "{faults:?}");
        inject();
        fixture.delete(&lease.operation).await.granted();
        fixture.get(&lease.operation).await.refused(Code::NotFound, "OPERATION_DELETED");
        fixture.fail(failure(&lease, Code::Cancelled)).await.granted();

        let done = fixture.running(start("q")).await;
        fixture.complete(completion(&done)).await.granted();
        inject();
        fixture.delete(&done.operation).await.granted();
        fixture.get(&done.operation).await.refused(Code::NotFound, "OPERATION_DELETED");
    }
    assert!(fixture.list("", 100, "").await.granted().operations.is_empty());
}

async fn a_store_that_is_away_is_said_so_and_nothing_is_half_done(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let name = &lease.operation;
    let before = fixture.record(name).await;
    let mut watcher = fixture.watch(watch(name)).await;
    watcher.expect(EventType::Snapshot).await;
    let renewals = vec![renewal(&lease)];
    fixture.store.set_away(true);
    let refusals: Vec<Result<(), Status>> = vec![
        fixture.start(start("q")).await.map(drop),
        fixture.get(name).await.map(drop),
        fixture.list("", 10, "").await.map(drop),
        fixture.cancel(name).await,
        fixture.delete(name).await,
        fixture.wait(name, seconds(5)).end().await.map(drop),
        fixture.try_watch(watch(name)).await.map(drop),
        fixture.try_record(name).await.map(drop),
        fixture.pause(name).await.map(drop),
        fixture.resume(name, None).await.map(drop),
        fixture.leases(leasing("q")).await.map(drop),
        fixture.report(report(&lease)).await.map(drop),
        fixture.complete(completion(&lease)).await.map(drop),
        fixture.fail(failure(&lease, Code::Internal)).await.map(drop),
        fixture.release(release(&lease)).await.map(drop),
        fixture.suspend(suspension(&lease)).await.map(drop),
    ];
    for refusal in refusals {
        refusal.refused(Code::Unavailable, "STORE_UNAVAILABLE");
    }
    let renewed = fixture.renew(renewals).await.granted();
    let info = error_info(renewed[0].error.as_ref().expect("an error"));
    assert_eq!(info.reason, "STORE_UNAVAILABLE");
    fixture.store.set_away(false);
    assert_eq!(fixture.record(name).await, before);
    assert_eq!(fixture.list("", 10, "").await.granted().operations.len(), 1);
    // A watcher that stayed connected sees the end.
    fixture.complete(completion(&lease)).await.granted();
    watcher.expect(EventType::Done).await;
}

async fn lost_hints_cost_a_moment_and_nothing_else(fixture: &Fixture) {
    let other = fixture.with_agents().await;
    fixture.store.set_hints_lost(true);
    let name = fixture.started("q").await;
    // A later call is served even if hints were lost.
    let lease = other.lease("q").await;
    assert_eq!(lease.operation, name);
    assert!(!other.wait(&name, seconds(0)).end().await.granted().done);
    other.complete(completion(&lease)).await.granted();
    assert!(fixture.wait(&name, seconds(60)).end().await.granted().done);
    // Nor does the server that commits need a hint to tell its own watchers.
    let lease = fixture.running(start("q")).await;
    let mut watcher = fixture.watch(watch(&lease.operation)).await;
    watcher.expect(EventType::Snapshot).await;
    fixture.complete(completion(&lease)).await.granted();
    watcher.expect(EventType::Done).await;
    let wait_duration = seconds(60);
    let waiting = fixture.leasing(pb::LeaseOperationsRequest { wait_duration, ..leasing("q") });
    fixture.clock.asked_for(Duration::from_mins(1), 1).await;
    let started = fixture.started("q").await;
    assert_eq!(waiting.end().await.granted()[0].operation, started);
}
