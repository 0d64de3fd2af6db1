//! Settings of queues, as servers learn of them.

use std::sync::Arc;

use super::{Bench, caller, clock, request, wish};
use crate::clock::ManualClock;
use crate::engine::{Engine, QueueUpdate};
use crate::limits::{MAX_REPLY_BYTES, QUEUES_REREAD};
use crate::operation::State;
use crate::operation::name::Queue;
use crate::store::memory::MemoryStore;
use crate::store::{Keyspace, Store};

fn paused(paused: bool) -> QueueUpdate {
    let queue = Queue::parse("q").expect("a queue");
    QueueUpdate { queue, paused: Some(paused), ..QueueUpdate::default() }
}

async fn leased(engine: &Engine) -> usize {
    let mut batch = engine.lease(&caller(), wish(10)).await.expect("a batch");
    let leased = batch.load(MAX_REPLY_BYTES).await.expect("leases");
    batch.told();
    leased.len()
}

/// Resolves once the server knows whether the queue is paused.
async fn known(engine: &Engine, paused: bool) {
    let known = || engine.rooms.known_queues.of("q").is_some_and(|terms| terms.settings.paused);
    while known() != paused {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_pause_whose_hint_is_lost_is_known_a_moment_later() {
    let bench = Bench::new();
    let shared: Arc<dyn Store> = bench.store.clone();
    let other = Engine::without_agents(shared, bench.clock.clone());
    known(&other, false).await;
    bench.store.set_hints_lost(true);
    for is_paused in [true, false] {
        bench.engine.update_queue(&caller(), paused(is_paused)).await.expect("a change");
        known(&bench.engine, is_paused).await;
        bench.clock.advance(QUEUES_REREAD);
        known(&other, is_paused).await;
        other.start_operation(&caller(), request(&format!("o-{is_paused}"))).await.expect("start");
        assert_eq!(leased(&other).await, if is_paused { 0 } else { 2 });
    }
}

#[tokio::test]
async fn a_server_that_starts_while_a_queue_is_paused_gives_nothing() {
    let clock: Arc<ManualClock> = clock();
    let store: Arc<dyn Store> = MemoryStore::new(Keyspace::generate(4), clock.clone());
    let first = Engine::without_agents(store.clone(), clock.clone());
    first.update_queue(&caller(), paused(true)).await.expect("a pause");
    let second = Engine::without_agents(store, clock);
    // No task of it has run yet.
    let started = second.start_operation(&caller(), request("a")).await.expect("start");
    assert_eq!(leased(&second).await, 0);
    let view = second.get(&caller(), &super::name_of(&started)).await.expect("view");
    assert!(matches!(view.operation.state, State::Pending(_)));
}
