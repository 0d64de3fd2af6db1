//! Settings of queues, as servers learn of them.

use std::sync::Arc;
use std::time::Duration;

use super::{Bench, caller, clock, request, wish};
use crate::clock::ManualClock;
use crate::engine::{Engine, Heartbeat, LeaseRequest, QueueUpdate};
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

/// Servers that share a store and a clock, and lease all that they can get from a queue with a limit.
struct Limited {
    clock: Arc<ManualClock>,
    store: Arc<dyn Store>,
    servers: Vec<Engine>,
    /// Operations that were started and not leased yet.
    waiting: usize,
    started: usize,
}

impl Limited {
    async fn new(rate: f64) -> Self {
        let clock: Arc<ManualClock> = clock();
        let store: Arc<dyn Store> = MemoryStore::new(Keyspace::generate(4), clock.clone());
        let mut limited = Self { clock, store, servers: Vec::new(), waiting: 0, started: 0 };
        limited.add_server().await;
        let queue = Queue::parse("q").expect("a queue");
        let update =
            QueueUpdate { queue, max_leases_per_second: Some(rate), ..QueueUpdate::default() };
        limited.servers[0].update_queue(&caller(), update).await.expect("a limit");
        limited
    }

    async fn add_server(&mut self) {
        let server = Engine::without_agents(self.store.clone(), self.clock.clone());
        Heartbeat.run_once(&server).await.expect("a beat");
        self.servers.push(server);
    }

    /// Leases for so many seconds on these servers; returns how many there were.
    async fn lease(&mut self, seconds: u64, servers: std::ops::Range<usize>) -> usize {
        let mut given = 0;
        for step in 0..seconds * STEPS {
            if step % (2 * STEPS) == 0 {
                for server in &self.servers {
                    Heartbeat.run_once(server).await.expect("a beat");
                }
            }
            while self.waiting < 50 {
                let id = format!("o-{}", self.started);
                self.servers[0].start_operation(&caller(), request(&id)).await.expect("a start");
                (self.started, self.waiting) = (self.started + 1, self.waiting + 1);
            }
            for server in &self.servers[servers.clone()] {
                let leases = leased(server).await;
                (given, self.waiting) = (given + leases, self.waiting - leases);
            }
            self.clock.advance(Duration::from_secs(1) / STEPS as u32);
        }
        given
    }
}

/// Polls in a second.
const STEPS: u64 = 40;

fn is_within(leases: usize, least: f64, most: f64) {
    assert!((least..=most).contains(&(leases as f64)), "{leases} are not {least} to {most}");
}

#[tokio::test]
async fn a_limit_holds_over_servers_that_lease_by_the_stated_bound() {
    let rate = 20.0;
    let mut limited = Limited::new(rate).await;
    limited.add_server().await;
    // Alone, although another server runs: its workers want nothing.
    is_within(limited.lease(10, 0..1).await, 0.95 * 10.0 * rate, 10.0 * rate + 2.0);
    // For up to 4 s the sum may be half as much again.
    is_within(limited.lease(4, 0..2).await, 0.9 * 4.0 * rate, 1.5 * 4.0 * rate + 4.0);
    is_within(limited.lease(20, 0..2).await, 0.95 * 20.0 * rate, 20.0 * rate + 4.0);
    limited.add_server().await;
    is_within(limited.lease(4, 0..3).await, 0.9 * 4.0 * rate, 1.34 * 4.0 * rate + 6.0);
    is_within(limited.lease(20, 0..3).await, 0.95 * 20.0 * rate, 20.0 * rate + 6.0);
    // Those that want nothing any more leave their shares within 8 s.
    limited.lease(8, 2..3).await;
    is_within(limited.lease(10, 2..3).await, 0.95 * 10.0 * rate, 10.0 * rate + 2.0);
}

#[tokio::test]
async fn a_limited_queue_is_leased_in_order_one_by_one() {
    let mut limited = Limited::new(1.0).await;
    let server = limited.servers.remove(0);
    let wait = LeaseRequest { wait: Duration::from_mins(1), ..wish(1) };
    let mut taken = Vec::new();
    for id in ["a", "b", "c"] {
        server.start_operation(&caller(), request(id)).await.expect("a start");
        limited.clock.advance(Duration::from_millis(1));
    }
    for id in ["a", "b", "c"] {
        let caller = caller();
        let mut leasing = std::pin::pin!(server.lease(&caller, wait.clone()));
        let mut batch = loop {
            tokio::select! {
                biased;
                batch = &mut leasing => break batch.expect("a batch"),
                () = tokio::task::yield_now() => limited.clock.advance(Duration::from_millis(5)),
            }
        };
        let leased = batch.load(MAX_REPLY_BYTES).await.expect("leases");
        batch.told();
        taken.extend(leased.into_iter().map(|leased| leased.operation.name.to_string()));
        assert_eq!(taken.last(), Some(&super::name(id).to_string()));
    }
}

/// The dispatcher has not noticed the drain yet.
#[tokio::test]
async fn a_start_right_after_a_drain_does_not_go_to_the_drained_worker() {
    let bench = Bench::new();
    let (caller, queue) = (caller(), Queue::parse("q").expect("a queue"));
    known(&bench.engine, false).await;
    let wait = LeaseRequest { wait: Duration::from_mins(1), ..wish(1) };
    let mut leasing = std::pin::pin!(bench.engine.lease(&caller, wait));
    while !bench.engine.rooms.dispatch.is_quiet("q") {
        tokio::select! {
            biased;
            _ = &mut leasing => panic!("nothing is there to lease"),
            () = tokio::task::yield_now() => {}
        }
    }
    bench.engine.drain_worker(&caller, queue, "w").await.expect("a drain");
    let started = bench.start("a").await;
    let view = bench.engine.get(&caller, &started).await.expect("view");
    assert!(matches!(view.operation.state, State::Pending(_)), "{:?}", view.operation.state);
}
