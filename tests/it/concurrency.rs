//! Concurrency keys: how many operations with the same key run at the same time, as callers and workers see it.

use longhaul::proto::google::longrunning as lro;
use longhaul::proto::longhaul::v1::batch_start_operations_response::Result as BatchResult;
use longhaul::proto::longhaul::v1::batch_start_operations_response::result::Outcome;
use longhaul::proto::longhaul::v1::concurrency::Policy;
use tonic_types::StatusExt;

use crate::queues;
use crate::support::*;

scenarios! {
    over every face;
    an_operation_beyond_the_limit_waits_for_its_slot,
    a_start_beyond_the_limit_is_refused_with_key_and_limit,
    the_oldest_operation_ends_where_a_newer_one_preempts,
    keys_count_within_their_parent,
    a_concurrency_that_cannot_be_is_refused_by_its_field,
    a_worker_that_starts_its_own_operation_is_refused_rather_than_queued,
    a_batch_of_starts_fills_the_slots_in_their_order;
    over grpc;
    a_queue_runs_no_more_than_its_limit_on_two_servers,
    a_lower_limit_of_a_queue_drains_and_none_lets_all_run,
}

/// Limits how many operations of the queue `q` run.
async fn limit(fixture: &Fixture, max_running: i32) {
    let queue = pb::Queue { max_running, ..queues::queue("queues/q") };
    queues::update(fixture, queue, &["max_running"]).await.granted();
}

/// Leases that a worker gets at once.
async fn leased(fixture: &Fixture, most: i32) -> Vec<pb::Lease> {
    let request = pb::LeaseOperationsRequest { max_operations: most, ..leasing("q") };
    fixture.leases(request).await.granted()
}

async fn a_queue_runs_no_more_than_its_limit_on_two_servers(fixture: &Fixture) {
    let other = fixture.beside().await;
    limit(fixture, 3).await;
    for _ in 0..6 {
        fixture.started("q").await;
    }
    let first = leased(fixture, 2).await;
    // The other server knows the limit by its hint.
    let get = async || queues::get(&other, "queues/q").await.granted().max_running;
    assert_eq!(get().await, 3);
    let second = leased(&other, 10).await;
    assert_eq!((first.len(), second.len()), (2, 1));
    assert!(leased(fixture, 10).await.is_empty() && leased(&other, 10).await.is_empty());
    // A worker that waits on either server is woken when one ends: a retry in a while frees the slot, too.
    let request = pb::LeaseOperationsRequest { wait_duration: seconds(41), ..leasing("q") };
    let waiting = other.leasing(request);
    let so_far = other.clock.count(Duration::from_secs(41));
    fixture.clock.asked_for(Duration::from_secs(41), so_far + 1).await;
    fixture.fail(failure(&first[0], Code::Unavailable)).await.granted();
    let third = waiting.end().await.granted();
    assert_eq!(third.len(), 1);
    // What a worker starts for itself counts, too.
    let refusal = fixture.start_leased(start("q")).await;
    let metadata = refusal.refused(Code::Aborted, "CONCURRENCY_CONFLICT");
    assert_eq!((&metadata["queue"][..], &metadata["limit"][..]), ("q", "3"));
    // A worker that is lost gives its slot back.
    fixture.pass(Duration::from_secs(31)).await;
    fixture.pass(Duration::from_secs(10)).await;
    let mut later = Vec::new();
    while later.len() < 3 {
        later.extend(leased(fixture, 10).await);
        assert!(later.len() <= 3);
    }
    assert!(leased(&other, 10).await.is_empty());
}

async fn a_lower_limit_of_a_queue_drains_and_none_lets_all_run(fixture: &Fixture) {
    for _ in 0..6 {
        fixture.started("q").await;
    }
    limit(fixture, 3).await;
    let running = leased(fixture, 10).await;
    assert_eq!(running.len(), 3);
    limit(fixture, 1).await;
    for lease in &running[..2] {
        fixture.complete(completion(lease)).await.granted();
        assert!(leased(fixture, 10).await.is_empty(), "it drains");
    }
    fixture.complete(completion(&running[2])).await.granted();
    let request = pb::LeaseOperationsRequest {
        wait_duration: seconds(30),
        max_operations: 10,
        ..leasing("q")
    };
    assert_eq!(fixture.leasing(request).end().await.granted().len(), 1);
    limit(fixture, 0).await;
    assert_eq!(leased(fixture, 10).await.len(), 2);
}

fn keyed(limit: i32, policy: Policy) -> pb::StartOperationRequest {
    let concurrency = Some(pb::Concurrency { key: "k".to_owned(), limit, policy: policy.into() });
    start_with("q", pb::OperationOptions { concurrency, ..Default::default() })
}

async fn an_operation_beyond_the_limit_waits_for_its_slot(fixture: &Fixture) {
    let other = fixture.with_agents().await;
    let first = fixture.start(keyed(0, Policy::Unspecified)).await.granted().name;
    let second = other.start(keyed(1, Policy::Queue)).await.granted().name;
    let record = fixture.record(&second).await;
    assert_eq!(record.state(), State::Pending);
    let concurrency = record.options.expect("options").concurrency.expect("its key");
    assert_eq!((&concurrency.key[..], concurrency.limit), ("k", 1));
    let request = lro::ListOperationsRequest {
        filter: "state() = PENDING AND queue() = q".to_owned(),
        ..lro::ListOperationsRequest::default()
    };
    let waiting = fixture.operations().list_operations(request).await.granted().into_inner();
    assert_eq!(waiting.operations.len(), 2, "a list shows it, too");
    let lease = fixture.lease("q").await;
    assert_eq!(lease.operation, first);
    fixture.expect_no_lease("q").await;
    // A worker that waits gets it as soon as the first one ends.
    let request = pb::LeaseOperationsRequest { wait_duration: seconds(41), ..leasing("q") };
    let waiting = other.leasing(request);
    let so_far = other.clock.count(Duration::from_secs(41));
    fixture.clock.asked_for(Duration::from_secs(41), so_far + 1).await;
    fixture.complete(completion(&lease)).await.granted();
    let leases = waiting.end().await.granted();
    assert_eq!(leases[0].operation, second);
}

async fn a_start_beyond_the_limit_is_refused_with_key_and_limit(fixture: &Fixture) {
    for _ in 0..2 {
        fixture.start(keyed(2, Policy::Reject)).await.granted();
    }
    let metadata = fixture
        .start(keyed(2, Policy::Reject))
        .await
        .refused(Code::Aborted, "CONCURRENCY_CONFLICT");
    assert_eq!((&metadata["key"][..], &metadata["limit"][..]), ("k", "2"));
    assert_eq!(fixture.list("", 10, "").await.granted().operations.len(), 2);
}

async fn the_oldest_operation_ends_where_a_newer_one_preempts(fixture: &Fixture) {
    let first = fixture.start(keyed(1, Policy::Preempt)).await.granted().name;
    let lease = fixture.lease("q").await;
    fixture.let_pass(Duration::from_secs(1));
    let second = fixture.start(keyed(1, Policy::Preempt)).await.granted().name;
    let request = pb::LeaseOperationsRequest { wait_duration: seconds(30), ..leasing("q") };
    let leases = fixture.leasing(request).end().await.granted();
    assert_eq!(leases[0].operation, second);
    let error = error_of(&fixture.get(&first).await.granted());
    assert_eq!(error.code, Code::Aborted as i32);
    let info = error_info(&error);
    assert_eq!((&info.reason[..], &info.metadata["by"]), ("PREEMPTED", &second));
    fixture.complete(completion(&lease)).await.refused(Code::FailedPrecondition, "LEASE_LOST");
}

async fn keys_count_within_their_parent(fixture: &Fixture) {
    for parent in ["", "projects/a", "projects/b"] {
        let request =
            pb::StartOperationRequest { parent: parent.to_owned(), ..keyed(1, Policy::Reject) };
        fixture.start(request.clone()).await.granted();
        fixture.start(request).await.refused(Code::Aborted, "CONCURRENCY_CONFLICT");
    }
}

async fn a_concurrency_that_cannot_be_is_refused_by_its_field(fixture: &Fixture) {
    let with = |key: &str, limit, policy| {
        let concurrency = Some(pb::Concurrency { key: key.to_owned(), limit, policy });
        start_with("q", pb::OperationOptions { concurrency, ..Default::default() })
    };
    let long = "k".repeat(257);
    for (request, field) in [
        (with("", 1, 0), "options.concurrency.key"),
        (with("a\0b", 1, 0), "options.concurrency.key"),
        (with(&long, 1, 0), "options.concurrency.key"),
        (with("k", -1, 0), "options.concurrency.limit"),
        (with("k", 1_001, 0), "options.concurrency.limit"),
        (with("k", 1, 9), "options.concurrency.policy"),
    ] {
        let refusal = fixture.start(request).await.expect_err(field);
        let info = refusal.get_details_error_info().expect("ErrorInfo");
        assert_eq!(info.metadata["field"], field, "{refusal:?}");
    }
    fixture.start(with(&long[1..], 1_000, 3)).await.granted();
}

async fn a_worker_that_starts_its_own_operation_is_refused_rather_than_queued(fixture: &Fixture) {
    fixture.start_leased(keyed(1, Policy::Queue)).await.granted();
    let refusal = fixture.start_leased(keyed(1, Policy::Queue)).await;
    refusal.refused(Code::Aborted, "CONCURRENCY_CONFLICT");
}

async fn a_batch_of_starts_fills_the_slots_in_their_order(fixture: &Fixture) {
    let mut starts = vec![keyed(2, Policy::Reject); 3];
    starts.insert(1, start("q"));
    let request = pb::BatchStartOperationsRequest { requests: starts, ..Default::default() };
    let reply = fixture.producers().batch_start_operations(request).await.granted().into_inner();
    let is_error = |result: &BatchResult| matches!(result.outcome, Some(Outcome::Error(_)));
    let failed: Vec<bool> = reply.results.iter().map(is_error).collect();
    assert_eq!(failed, [false, false, false, true]);
}
