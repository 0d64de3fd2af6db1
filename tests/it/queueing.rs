//! How operations get from a queue to workers.

use tonic::Request;

use crate::support::*;

scenarios! {
    over every face;
    higher_priority_comes_first_and_waiting_makes_up_for_it,
    a_scheduled_start_is_not_leased_before_its_time,
    retries_back_off_as_the_policy_says,
    a_worker_that_waits_is_woken_by_a_start,
    a_worker_that_waits_is_woken_by_whatever_makes_work_ready,
    waiting_workers_are_served_in_the_order_in_which_they_came,
    max_operations_is_kept_and_brought_into_its_bounds,
    a_lease_reply_stays_under_its_bytes,
    a_wait_for_leases_ends_with_none,
    a_lease_that_its_worker_never_saw_goes_back_and_is_no_attempt,
    queues_are_apart_and_named_in_two_ways,
    a_lease_says_all_that_a_worker_needs,
    background_agents_process_due_operations_by_themselves,
    a_worker_that_asks_for_one_at_a_time_meets_newcomers_soon,
}

async fn higher_priority_comes_first_and_waiting_makes_up_for_it(fixture: &Fixture) {
    let start = async |priority: i32| {
        fixture.let_pass(Duration::from_millis(10));
        let options = pb::OperationOptions { priority, ..Default::default() };
        fixture.start(start_with("q", options)).await.granted().name
    };
    let (low, middle, also, high) =
        (start(-5).await, start(0).await, start(0).await, start(5).await);
    for name in [&high, &middle, &also, &low] {
        assert_eq!(fixture.lease("q").await.operation, *name);
    }
    // A step of priority is worth a minute.
    let old = start(0).await;
    fixture.let_pass(Duration::from_secs(130));
    let (two_steps, three_steps) = (start(2).await, start(3).await);
    for name in [three_steps, old, two_steps] {
        assert_eq!(fixture.lease("q").await.operation, name);
    }
}

async fn a_scheduled_start_is_not_leased_before_its_time(fixture: &Fixture) {
    let schedule_time = Some(fixture.at(Duration::from_mins(1)));
    let options = pb::OperationOptions { schedule_time, ..Default::default() };
    let name = fixture.start(start_with("q", options)).await.granted().name;
    assert_eq!(fixture.state(&name).await, State::Pending);
    fixture.pass(Duration::from_secs(59)).await;
    fixture.expect_no_lease("q").await;
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(fixture.lease("q").await.operation, name);
    let schedule_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    let past = pb::OperationOptions { schedule_time, ..Default::default() };
    let name = fixture.start(start_with("q", past)).await.granted().name;
    assert_eq!(fixture.lease("q").await.operation, name, "at once");
}

async fn retries_back_off_as_the_policy_says(fixture: &Fixture) {
    let policy = pb::RetryPolicy {
        max_attempts: 5,
        initial_backoff: seconds(10),
        max_backoff: seconds(30),
        backoff_multiplier: 2.0,
        retryable_codes: vec![Code::Aborted as i32],
    };
    let options = pb::OperationOptions { retry_policy: Some(policy), ..Default::default() };
    let mut lease = fixture.running(start_with("q", options)).await;
    for pause in [10.0, 20.0, 30.0_f64] {
        let reply = fixture.fail(failure(&lease, Code::Aborted)).await.granted();
        assert!(reply.will_retry);
        let due = reply.schedule_time.expect("a time");
        let now = fixture.at(Duration::ZERO);
        let seconds = (due.seconds - now.seconds) as f64 + f64::from(due.nanos - now.nanos) / 1e9;
        assert!((pause * 0.79..=pause * 1.21).contains(&seconds), "{seconds} s for {pause} s");
        fixture.pass(Duration::from_secs_f64(seconds - 0.1)).await;
        fixture.expect_no_lease("q").await;
        fixture.pass(Duration::from_millis(100)).await;
        lease = fixture.lease("q").await;
    }
    assert_eq!(lease.attempt, 4);
    // The worker's own delay takes precedence over the policy's.
    let request =
        pb::FailOperationRequest { retry_delay: seconds(100), ..failure(&lease, Code::Aborted) };
    let reply = fixture.fail(request).await.granted();
    assert_at(reply.schedule_time, fixture.at(Duration::from_secs(100)));
    fixture.pass(Duration::from_secs(99)).await;
    fixture.expect_no_lease("q").await;
    fixture.pass(Duration::from_secs(1)).await;
    let last = fixture.lease("q").await;
    // A code that the policy does not list is final, and so is a worker's FINAL; its RETRY is only a request.
    let final_code = fixture.running(start("final")).await;
    assert!(!fixture.fail(failure(&final_code, Code::Aborted)).await.granted().will_retry);
    let refused = fixture.running(start("refused")).await;
    let request = pb::FailOperationRequest {
        retry_decision: pb::fail_operation_request::RetryDecision::DoNotRetry.into(),
        ..failure(&refused, Code::Unavailable)
    };
    assert!(!fixture.fail(request).await.granted().will_retry);
    let wanted = fixture.running(start("wanted")).await;
    let request = |lease: &pb::Lease| pb::FailOperationRequest {
        retry_decision: pb::fail_operation_request::RetryDecision::Retry.into(),
        ..failure(lease, Code::InvalidArgument)
    };
    assert!(fixture.fail(request(&wanted)).await.granted().will_retry);
    assert!(!fixture.fail(request(&last)).await.granted().will_retry, "attempts are used up");
}

async fn a_worker_that_waits_is_woken_by_a_start(fixture: &Fixture) {
    let other = fixture.with_agents().await;
    for (workers, producers) in [(fixture, fixture), (fixture, &other), (&other, fixture)] {
        let request = pb::LeaseOperationsRequest { wait_duration: seconds(41), ..leasing("q") };
        let waiting = workers.leasing(request);
        let so_far = workers.clock.count(Duration::from_secs(41));
        fixture.clock.asked_for(Duration::from_secs(41), so_far + 1).await;
        // No time passes: a hint wakes it.
        let name = producers.started("q").await;
        let leases = waiting.end().await.granted();
        assert_eq!(leases.len(), 1);
        assert_eq!(leases[0].operation, name);
    }
}

async fn a_worker_that_waits_is_woken_by_whatever_makes_work_ready(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let wait = async |number: usize| {
        let request = pb::LeaseOperationsRequest { wait_duration: seconds(60), ..leasing("q") };
        let waiting = fixture.leasing(request);
        fixture.clock.asked_for(Duration::from_mins(1), number).await;
        waiting
    };
    let waiting = wait(1).await;
    fixture.release(release(&lease)).await.granted();
    let lease = waiting.end().await.granted().remove(0);
    fixture.pause(&lease.operation).await.granted();
    fixture.release(release(&lease)).await.granted();
    let waiting = wait(2).await;
    fixture.resume(&lease.operation, None).await.granted();
    let lease = waiting.end().await.granted().remove(0);
    let waiting = wait(3).await;
    fixture.pass(Duration::from_secs(31)).await;
    let again = waiting.end().await.granted().remove(0);
    assert_eq!((again.operation, again.attempt), (lease.operation, 2));
}

async fn waiting_workers_are_served_in_the_order_in_which_they_came(fixture: &Fixture) {
    let mut waiting = Vec::new();
    for number in 0..4_u64 {
        let wait_duration = seconds(50 + number);
        let worker = format!("worker-{number}");
        waiting.push(fixture.leasing(pb::LeaseOperationsRequest {
            worker,
            wait_duration,
            ..leasing("q")
        }));
        fixture.clock.asked_for(Duration::from_secs(50 + number), 1).await;
    }
    let mut last = waiting.pop().expect("the last");
    for (number, waiting) in waiting.into_iter().enumerate() {
        // One by one: operations that become ready at the same instant, as under this clock, have no order.
        let name = fixture.started("q").await;
        let leases = waiting.end().await.granted();
        assert_eq!(leases[0].operation, name, "first come, first served");
        let attempts = fixture.record(&name).await.attempts;
        assert_eq!(attempts[0].worker, format!("worker-{number}"));
    }
    assert!(last.runs());
    fixture.let_pass(Duration::from_secs(53));
    assert!(last.end().await.granted().is_empty());
}

async fn max_operations_is_kept_and_brought_into_its_bounds(fixture: &Fixture) {
    for _ in 0..110 {
        fixture.started("q").await;
    }
    let lease = async |max_operations: i32| {
        fixture.leases(pb::LeaseOperationsRequest { max_operations, ..leasing("q") }).await
    };
    lease(-1).await.refused_field("INVALID_ARGUMENT", "max_operations");
    assert_eq!(lease(0).await.granted().len(), 1);
    assert_eq!(lease(5).await.granted().len(), 5);
    let many = lease(i32::MAX).await.granted();
    assert_eq!(many.len(), 100);
    let mut names: Vec<_> = many.iter().map(|lease| &lease.operation).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 100);
    assert_eq!(lease(100).await.granted().len(), 4, "what is there");
}

async fn a_lease_reply_stays_under_its_bytes(fixture: &Fixture) {
    for _ in 0..5 {
        let request = Some(large("acme.Blob", 1 << 20));
        fixture.start(pb::StartOperationRequest { request, ..start("q") }).await.granted();
    }
    let request = || pb::LeaseOperationsRequest { max_operations: 10, ..leasing("q") };
    let first = fixture.leases(request()).await.granted();
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|lease| lease.request == Some(large("acme.Blob", 1 << 20))));
    // The others were released, which does not count as attempts.
    let mut left = 3;
    while left > 0 {
        let more = pb::LeaseOperationsRequest { wait_duration: seconds(60), ..request() };
        let leases = fixture.leases(more).await.granted();
        assert!(!leases.is_empty() && leases.iter().all(|lease| lease.attempt == 1));
        left -= leases.len();
    }
}

async fn a_wait_for_leases_ends_with_none(fixture: &Fixture) {
    let request = |wait| pb::LeaseOperationsRequest { wait_duration: wait, ..leasing("q") };
    let waiting = fixture.leasing(request(seconds(20)));
    fixture.clock.asked_for(Duration::from_secs(20), 1).await;
    fixture.let_pass(Duration::from_secs(20));
    assert!(waiting.end().await.granted().is_empty());
    let coerced = fixture.leasing(request(seconds(100_000)));
    fixture.clock.asked_for(Duration::from_mins(1), 1).await;
    fixture.let_pass(Duration::from_mins(1));
    assert!(coerced.end().await.granted().is_empty());
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    fixture.leases(request(negative)).await.refused_field("INVALID_ARGUMENT", "wait_duration");
    // Never to the call's own deadline.
    let mut deadline = Request::new(request(seconds(50)));
    deadline.set_timeout(Duration::from_secs(28));
    let mut workers = fixture.workers();
    let waiting =
        Call::begin(
            "a lease with a deadline",
            async move { workers.lease_operations(deadline).await },
        );
    fixture.clock.asked_for(Duration::from_millis(27_900), 1).await;
    fixture.let_pass(Duration::from_millis(27_900));
    assert!(waiting.end().await.granted().into_inner().leases.is_empty());
}

async fn a_lease_that_its_worker_never_saw_goes_back_and_is_no_attempt(fixture: &Fixture) {
    // A worker that leaves while it waits takes no operation with it.
    let wait_duration = seconds(43);
    let gone = fixture.leasing(pb::LeaseOperationsRequest { wait_duration, ..leasing("q") });
    fixture.clock.asked_for(Duration::from_secs(43), 1).await;
    gone.give_up().await;
    let name = fixture.started("q").await;
    let waits = pb::LeaseOperationsRequest { wait_duration: seconds(60), ..leasing("q") };
    let lease = fixture.leases(waits.clone()).await.granted().remove(0);
    assert_eq!((&lease.operation, lease.attempt), (&name, 1));
    fixture.release(release(&lease)).await.granted();

    // Three leases that no worker received are not attempts, a fourth in a row is one.
    for attempt in [1, 1, 1, 2] {
        let engine = fixture.server.engine();
        let request = longhaul::engine::LeaseRequest {
            queue: longhaul::operation::name::Queue::parse("q").expect("a queue"),
            worker: "gone".to_owned(),
            max: 1,
            duration: Duration::from_secs(30),
            wait: Duration::from_mins(1),
            process: longhaul::operation::worker::WorkerProcess::default(),
            scope: longhaul::engine::LeaseScope::default(),
        };
        let caller = longhaul::engine::Caller::default();
        drop(within("leases", engine.lease(&caller, request)).await.expect("a batch"));
        let mut watcher = fixture.watch(watch(&name)).await;
        loop {
            let event = watcher.message().await.granted().expect("an event");
            if event.server_metadata.expect("metadata").state() == State::Pending {
                break;
            }
        }
        let attempts = fixture.record(&name).await.attempts.len();
        assert_eq!(attempts, usize::from(attempt == 2));
    }
    let lease = fixture.leases(waits).await.granted().remove(0);
    assert_eq!(lease.attempt, 2);
}

async fn queues_are_apart_and_named_in_two_ways(fixture: &Fixture) {
    let one = fixture.start(start("queues/one")).await.granted().name;
    let two = fixture.started("two").await;
    assert_eq!(fixture.record(&one).await.queue, "queues/one");
    assert_eq!(fixture.record(&two).await.queue, "queues/two");
    fixture.expect_no_lease("three").await;
    assert_eq!(fixture.lease("queues/two").await.operation, two);
    assert_eq!(fixture.lease("one").await.operation, one);
    for queue in ["queues/", "a/b", "a b", "queues/a/b"] {
        fixture.leases(leasing(queue)).await.refused_field("INVALID_ARGUMENT", "queue");
        fixture.start(start(queue)).await.refused_field("INVALID_ARGUMENT", "queue");
    }
}

async fn a_lease_says_all_that_a_worker_needs(fixture: &Fixture) {
    let options = pb::OperationOptions {
        deadline_time: Some(fixture.at(Duration::from_secs(500))),
        labels: [("team".to_owned(), "blue".to_owned())].into(),
        target: "vms/one".to_owned(),
        ..Default::default()
    };
    let request = pb::StartOperationRequest {
        parent: "projects/p".to_owned(),
        operation_id: "one".to_owned(),
        method: "resize".to_owned(),
        request: Some(any("acme.Resize", b"\x08\x01")),
        metadata_type: "type.googleapis.com/acme.Step".to_owned(),
        response_type: "acme.Done".to_owned(),
        initial_metadata: Some(any("acme.Step", b"\x08\x02")),
        options: Some(options.clone()),
        ..start("q")
    };
    let lease = fixture.running(request.clone()).await;
    let wanted = pb::Lease {
        operation: "projects/p/operations/one".to_owned(),
        attempt: 1,
        method: "resize".to_owned(),
        request: request.request,
        metadata_type: "acme.Step".to_owned(),
        response_type: "acme.Done".to_owned(),
        metadata: request.initial_metadata,
        deadline_time: options.deadline_time,
        labels: options.labels.clone(),
        target: options.target.clone(),
        lease_duration: seconds(30),
        lease_token: lease.lease_token.clone(),
        fencing_number: lease.fencing_number,
        expire_time: lease.expire_time,
        ..Default::default()
    };
    assert_eq!(lease, wanted);
    assert_at(lease.expire_time, fixture.at(Duration::from_secs(30)));
    assert!(lease.lease_token.len() == 32 && lease.fencing_number > 0);
    assert_eq!(fixture.record(&lease.operation).await.options, Some(options));
}

async fn background_agents_process_due_operations_by_themselves(fixture: &Fixture) {
    let other = fixture.with_agents().await;
    let lease = other.running(start("q")).await;
    let schedule_time = Some(fixture.at(Duration::from_secs(10)));
    let options = pb::OperationOptions { schedule_time, ..Default::default() };
    let scheduled = other.start(start_with("later", options)).await.granted().name;
    let mut watcher = other.watch(watch(&lease.operation)).await;
    watcher.expect(EventType::Snapshot).await;
    let later = pb::LeaseOperationsRequest { wait_duration: seconds(60), ..leasing("later") };
    let waiting = other.leasing(later);
    other.clock.asked_for(Duration::from_mins(1), 1).await;
    let taken = other.passing("the scheduler", waiting.end()).await.granted();
    assert_eq!(taken[0].operation, scheduled);
    let lost =
        other.passing("the reaper", watcher.until(EventType::Update, EventType::Heartbeat)).await;
    assert_eq!(lost.server_metadata.expect("metadata").state(), State::Pending);
}

/// Between two of its calls no worker waits, and the parents' turns go on all the same.
async fn a_worker_that_asks_for_one_at_a_time_meets_newcomers_soon(fixture: &Fixture) {
    let start_at = async |parent: &str| {
        let request = pb::StartOperationRequest { parent: parent.to_owned(), ..start("q") };
        fixture.start(request).await.granted().name
    };
    for _ in 0..400 {
        start_at("projects/crowd").await;
    }
    for number in 0..4 {
        fixture.lease("q").await;
        let newcomer = start_at(&format!("projects/newcomer-{number}")).await;
        let mut leases = 1;
        while fixture.lease("q").await.operation != newcomer {
            leases += 1;
            assert!(leases <= 64 + 4, "newcomer {number} waits behind the crowd");
        }
    }
}
