//! Copies of the settings of queues, and of gates.

use std::sync::Arc;

use longhaul::proto::longhaul::v1::concurrency::Policy;
use longhaul::store::Store;

use crate::exporting::{Place, content, exported, exported_from, followed, lines};
use crate::queues;
use crate::support::*;

scenarios! {
    a_copy_has_the_settings_of_queues_and_who_waits_at_gates,
}

async fn a_copy_has_the_settings_of_queues_and_who_waits_at_gates(fixture: &Fixture) {
    let limited = pb::Queue {
        max_running: 3,
        max_leases_per_second: 50.0,
        aging_interval: seconds(7),
        ..queues::queue("q")
    };
    // One is leased before the limit is set, and has no slot.
    let early = fixture.running(start("q")).await;
    queues::update(fixture, limited, &["*"]).await.granted();
    queues::pause(fixture, "held").await.granted();
    let concurrency =
        Some(pb::Concurrency { key: "k".to_owned(), limit: 1, policy: Policy::Queue.into() });
    let keyed = pb::OperationOptions { concurrency, ..Default::default() };
    let mut names = Vec::new();
    for options in
        [keyed.clone(), keyed, pb::OperationOptions::default(), pb::OperationOptions::default()]
    {
        fixture.let_pass(Duration::from_millis(30));
        names.push(fixture.start(start_with("q", options)).await.granted().name);
    }
    let all = pb::LeaseOperationsRequest { max_operations: 10, ..leasing("q") };
    let mut leases = fixture.leases(all.clone()).await.granted();
    assert_eq!(leases.len(), 2, "three run");
    leases.push(early);

    let store: Arc<dyn Store> = fixture.store.clone();
    let text = exported(fixture).await;
    let said = lines(&text);
    let count = |kind| said.iter().filter(|line| line["record"]["kind"] == kind).count();
    assert_eq!(["queue", "gate", "operation"].map(count), [2, 2, 5]);
    for place in [Place::embedded(), Place::redis()] {
        let (_, copy) = place.copy(fixture, &text).await;
        assert_eq!(followed(&copy).await, followed(&store).await);
        assert_eq!(content(&exported_from(&copy).await), content(&text));
        let copied = Fixture::over(copy, fixture.clock.clone()).await;
        for queue in ["q", "held"] {
            let settings = async |of: &Fixture| {
                let queue = queues::get(of, queue).await.granted();
                let counts = (queue.pending_operations, queue.running_operations);
                let limits = (queue.max_running, queue.max_leases_per_second.to_string());
                (queue.state, counts, limits, queue.aging_interval, queue.oldest_pending_time)
            };
            assert_eq!(settings(&copied).await, settings(fixture).await, "{queue}");
        }
        // The limits hold there, and what waits is let in when its time has come.
        assert!(copied.leases(all.clone()).await.granted().is_empty());
        for lease in &leases {
            copied.complete(completion(lease)).await.granted();
        }
        let mut last = Vec::new();
        while last.len() < 2 {
            let request = pb::LeaseOperationsRequest { wait_duration: seconds(60), ..all.clone() };
            let waiting = copied.leasing(request);
            last.extend(copied.passing("the leases", waiting.end()).await.granted());
        }
        for lease in last {
            assert!(names.contains(&lease.operation));
            copied.complete(completion(&lease)).await.granted();
        }
        copied.stop().await;
    }
}
