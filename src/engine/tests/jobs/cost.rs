//! What firings read from the store.

use super::*;
use crate::store::Keyspace;
use crate::store::memory::MemoryStore;

/// The reads of a sweep without due jobs, of one that fires all jobs, and of one in which all runs end.
async fn reads(jobs: usize) -> [u64; 3] {
    let clock = super::super::clock();
    let memory = MemoryStore::new(Keyspace::generate(1), clock.clone());
    let store = Faulty::new(memory, FaultPlan::default());
    let harness = Harness::new(store.clone(), clock.clone(), None);
    let engine = Engine::without_agents(store.clone(), clock);
    let fixture = Fixture { store_name: "counted", harness, engine };
    for number in 0..jobs {
        fixture.create(&format!("j{number}"), config(Overlap::Skip)).await;
    }
    let sweep = async || {
        // The tasks that the clock has woken read, too.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        let before = store.reads();
        let swept = Scheduler.run_once(&fixture.engine).await.expect("a sweep");
        (store.reads() - before, swept.due)
    };
    let idle = sweep().await;
    fixture.harness.clock.advance(MINUTE + Duration::from_secs(1));
    let fired = sweep().await;
    let mut worked = 0;
    while worked < jobs {
        worked += fixture.work(&large("t.Response")).await;
    }
    let ended = sweep().await;
    assert_eq!((idle.1, fired.1, ended.1), (0, jobs, jobs));
    [idle.0, fired.0, ended.0]
}

#[tokio::test]
async fn a_sweep_reads_as_often_for_many_jobs_as_for_one() {
    assert_eq!(reads(60).await, reads(1).await);
}
