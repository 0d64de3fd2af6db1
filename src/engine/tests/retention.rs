use std::time::Duration;

use super::super::{Caller, Janitor, Reaper};
use super::{Bench, caller, name, request, wish};
use crate::limits::{DEFAULT_TTL, MAX_REPLY_BYTES, TOMBSTONE};
use crate::operation::command::{Command, Complete, Proof};
use crate::operation::counters::{OF_PARENTS, OF_QUEUES};
use crate::operation::name::{ParentPattern, Queue};
use crate::proto::google::protobuf::Any;
use crate::store::differential::emptiable;
use crate::store::{Index, Scan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_has_expired_only_tombstones_remain_and_then_nothing() {
    for (store, (harness, left)) in emptiable().await {
        let bench = Bench::on(harness.store.clone(), harness.clock.clone());
        assert_eq!(left().await, 0, "{store}");
        let count = finish_some(&bench).await;
        let every = ParentPattern::parse("-").expect("a pattern");
        let counted = async || {
            let stats = bench.engine.stats(&caller(), &every).await.expect("counts");
            stats.states.iter().map(|(_, count)| count).sum::<u64>()
        };
        assert_eq!(counted().await, count as u64, "{store}");
        let ended = bench.engine.stats(&caller(), &every).await.expect("counts").states;
        assert!(ended[..4].iter().all(|(_, count)| *count == 0), "{store}: {ended:?}");

        harness.clock.advance(DEFAULT_TTL + Duration::from_mins(1));
        assert_eq!(counted().await, 0, "{store}: expired, though no janitor came");
        sweep(&bench).await;
        assert_eq!(counted().await, 0, "{store}");
        for index in [
            "list",
            "failed",
            "unfinished",
            "ready/q",
            "ready/unserved",
            "due/retention",
            "due/lease",
        ] {
            let entries = harness.store.scan(Scan::first(Index::new(index), 9)).await;
            assert_eq!(entries.expect("entries"), [], "{store}: {index}");
        }
        for family in [OF_PARENTS, OF_QUEUES] {
            let names = harness.store.counter_names(family, 9).await.expect("names");
            assert!(names.is_empty(), "{store}: {names:?}");
        }
        let tombstones = Scan::first(Index::new("due/tombstone"), 2 * count);
        assert_eq!(harness.store.scan(tombstones).await.expect("entries").len(), count, "{store}");
        assert!(left().await <= 2 * count, "{store}: a record and an entry for each");

        harness.clock.advance(TOMBSTONE + Duration::from_mins(1));
        sweep(&bench).await;
        assert_eq!(left().await, 0, "{store}");
    }
}

/// Starts operations and brings them to every end; returns how many.
async fn finish_some(bench: &Bench) -> usize {
    const EACH: usize = 30;
    for number in 0..EACH {
        bench.start(&format!("done-{number}")).await;
        complete_one(bench).await;
        let mut late = request(&format!("failed-{number}"));
        late.spec.options.queue_timeout = Some(Duration::from_secs(1));
        late.spec.queue = Queue::parse("unserved").expect("a queue");
        bench.engine.start_operation(&caller(), late).await.expect("start");
        let cancelled = format!("cancelled-{number}");
        bench.start(&cancelled).await;
        bench.engine.cancel(&caller(), &name(&cancelled)).await.expect("cancel");
    }
    bench.clock.advance(Duration::from_mins(1));
    Reaper.run_once(&bench.engine).await.expect("a sweep");
    3 * EACH
}

/// With a response that is stored beside its record.
async fn complete_one(bench: &Bench) {
    let mut batch = bench.engine.lease(&Caller::default(), wish(1)).await.expect("a lease");
    let leased = batch.load(MAX_REPLY_BYTES).await.expect("leases").remove(0);
    batch.told();
    let token = leased.lease().expect("a lease").token;
    let complete = Command::Complete(Box::new(Complete {
        proof: Proof { token, fingerprint: [7; 16] },
        response: Some(Any { type_url: "t/large".to_owned(), value: vec![7; 3_000].into() }),
        metadata: None,
        related_resources: Vec::new(),
        progress: None,
    }));
    let name = leased.operation.name.clone();
    bench.engine.work(&caller(), &name, complete).await.expect("completed");
}

async fn sweep(bench: &Bench) {
    while Janitor.run_once(&bench.engine).await.expect("a sweep").due > 0 {}
}
