//! Many operations that wait for one key.

use crate::engine::tests::servers::{Ground, Servers, finish, keyed, lease};
use crate::engine::tests::{caller, name};
use crate::proto::longhaul::v1::concurrency::Policy;

#[tokio::test]
async fn hundreds_that_wait_on_one_key_are_let_in_one_after_the_other() {
    const MANY: usize = 400;
    let servers = Servers::on(Ground::Memory).await;
    let engine = servers.engine();
    for number in 0..MANY {
        let wanted = keyed(&format!("n{number}"), 2, Policy::Queue);
        servers.all[number % 2].0.start_operation(&caller(), wanted).await.expect("started");
        servers.clock.advance(std::time::Duration::from_micros(50));
    }
    for number in (2..MANY).step_by(2) {
        engine.cancel(&caller(), &name(&format!("n{number}"))).await.expect("cancelled");
    }
    for number in [0].into_iter().chain((1..MANY).step_by(2)) {
        let mut leased = None;
        servers
            .until("a lease", async || {
                leased = lease(engine).await;
                leased.is_some()
            })
            .await;
        let leased = leased.expect("a lease");
        let lies = servers.gate().await.expect("a gate").slots.len();
        assert!(lies <= 2, "{number}: {lies}");
        finish(engine, &leased).await;
    }
    servers.pass(0, 40).await;
    assert!(servers.gate().await.is_none());
}

/// How much the store does for each operation that ends and lets in the next, with so many that wait.
async fn work_of_a_release(line: usize) -> u64 {
    let servers = Servers::on(Ground::Memory).await;
    let (engine, faulty) = &servers.all[0];
    for first in (0..line).step_by(BATCH) {
        let starts = first..line.min(first + BATCH);
        let starts = starts.map(|number| Ok(keyed(&format!("n{number}"), 1, Policy::Queue)));
        for started in engine.start_batch(&caller(), starts.collect()).await {
            started.expect("started");
        }
    }
    servers.settled(0).await;
    let before = faulty.work();
    for _ in 0..RELEASES {
        let leased = lease(engine).await.expect("the next one");
        finish(engine, &leased).await;
        servers.settled(0).await;
    }
    (faulty.work() - before) / RELEASES
}

#[tokio::test]
async fn a_release_costs_the_same_however_many_wait() {
    let (short, long) = (work_of_a_release(200).await, work_of_a_release(10_000).await);
    assert!(long * 10 <= short * 11, "{long} for each of 10,000, {short} for each of 200");
}

const BATCH: usize = 200;
const RELEASES: u64 = 50;
