//! Two servers share the partitions of one store while both are known to live.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::{caller, request, wish};
use crate::clock::{ManualClock, Timestamp};
use crate::engine::{Engine, Heartbeat, LeaseRequest, Reaper, Sweep};
use crate::operation::name::Name;
use crate::store::memory::MemoryStore;
use crate::store::{Keyspace, Store};

/// Two servers that know each other, and one unknown to both, through which operations are started.
struct Pair {
    clock: Arc<ManualClock>,
    servers: [Engine; 2],
    starter: Engine,
}

impl Pair {
    async fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
        let store: Arc<dyn Store> = MemoryStore::new(Keyspace::generate(16), clock.clone());
        let engine = || Engine::without_agents(store.clone(), clock.clone());
        let pair = Self { servers: [engine(), engine()], starter: engine(), clock };
        pair.meet().await;
        pair
    }

    /// Each has read the other's record, even after an absence.
    async fn meet(&self) {
        for server in self.servers.iter().chain(&self.servers).chain(&self.servers) {
            Heartbeat.run_once(server).await.expect("a beat");
        }
    }

    async fn start(&self, id: &str) -> Name {
        let started = self.starter.start_operation(&caller(), request(id)).await.expect("start");
        super::name_of(&started)
    }

    /// The first-ranked for an operation, and the other.
    fn ranked(&self, name: &Name) -> [&Engine; 2] {
        let [one, other] = &self.servers;
        let context = &one.rooms.context;
        if one.rank(context.partition(context.key(name))) == 0 {
            [one, other]
        } else {
            [other, one]
        }
    }

    fn shares(&self) -> [usize; 2] {
        self.servers.each_ref().map(|server| {
            server.store().keyspace().all().filter(|partition| server.rank(*partition) == 0).count()
        })
    }
}

#[tokio::test]
async fn live_servers_share_the_partitions_and_a_silent_one_loses_its_share() {
    let pair = Pair::new().await;
    let [one, other] = &pair.servers;
    for partition in one.store().keyspace().all() {
        assert_eq!(one.rank(partition) + other.rank(partition), 1, "{partition:?}");
    }
    pair.clock.advance(Duration::from_secs(5));
    Heartbeat.run_once(one).await.expect("a beat");
    assert_eq!(pair.shares().iter().sum::<usize>(), 16);
    // Stamps run a few microseconds ahead of a clock that stands still.
    pair.clock.advance(Duration::from_millis(1_001));
    Heartbeat.run_once(one).await.expect("a beat");
    assert_eq!(pair.shares()[0], 16);
    assert_eq!(one.rooms.membership.servers().await.expect("servers").len(), 1);

    pair.meet().await;
    assert_eq!(pair.shares().iter().sum::<usize>(), 16);
    // A server that announces its stop is gone at once, without missed refreshes.
    other.rooms.membership.take_leave().await;
    Heartbeat.run_once(one).await.expect("a beat");
    assert_eq!(pair.shares()[0], 16);
}

/// A worker that waits, after its first poll.
async fn waiting(server: &Engine) -> JoinSet<Name> {
    let server_of_worker = server.clone();
    let mut worker = JoinSet::new();
    worker.spawn(async move {
        let request = LeaseRequest { wait: Duration::from_mins(1), ..wish(1) };
        let mut batch = server_of_worker.lease(&caller(), request).await.expect("a batch");
        let mut leased = batch.load(usize::MAX).await.expect("payloads");
        batch.told();
        leased.pop().expect("a lease").operation.name.clone()
    });
    while server.rooms.dispatch.eager("q", "", 1).is_empty() {
        tokio::task::yield_now().await;
    }
    worker
}

/// Lets every task run until none can continue.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_becomes_ready_goes_to_the_first_ranked_server_with_a_waiting_worker() {
    let pair = Pair::new().await;
    for id in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let [first, second] = pair.ranked(&super::name(id));
        let mut late = waiting(second).await;
        let mut soon = waiting(first).await;
        let name = pair.start(id).await;
        assert_eq!(soon.join_next().await.expect("a worker").expect("no panic"), name);
        pair.clock.advance(Duration::from_millis(2));
        settle().await;
        assert!(late.join_next().now_or_never().is_none(), "it got what is taken");

        // No worker waits at the first-ranked server.
        let mut other = (0..).map(|number| format!("{id}-{number}"));
        let other = other.find(|other| std::ptr::eq(pair.ranked(&super::name(other))[0], first));
        let name = pair.start(&other.expect("a name")).await;
        settle().await;
        assert!(late.join_next().now_or_never().is_none(), "it did not hold back");
        pair.clock.advance(Duration::from_millis(2));
        assert_eq!(late.join_next().await.expect("a worker").expect("no panic"), name);
    }
}

#[tokio::test]
async fn a_worker_that_comes_takes_what_is_there_whatever_the_rank() {
    let pair = Pair::new().await;
    let name = pair.start("a").await;
    let [_, second] = pair.ranked(&name);
    let mut batch = second.lease(&caller(), wish(1)).await.expect("a batch");
    assert_eq!(batch.load(usize::MAX).await.expect("payloads").len(), 1);
}

#[tokio::test]
async fn the_second_ranked_reaper_leaves_a_second_to_the_first() {
    for first_is_there in [true, false] {
        let pair = Pair::new().await;
        let name = pair.start("a").await;
        let [first, second] = pair.ranked(&name);
        let mut batch = pair.starter.lease(&caller(), wish(1)).await.expect("a batch");
        assert_eq!(batch.load(usize::MAX).await.expect("payloads").len(), 1);
        batch.told();
        pair.clock.advance(Duration::from_millis(30_001));
        pair.meet().await;
        assert_eq!(Reaper.run_once(second).await.expect("a sweep"), Sweep::default());
        if !first_is_there {
            pair.clock.advance(Duration::from_secs(1));
        }
        let reaper = if first_is_there { first } else { second };
        assert_eq!(Reaper.run_once(reaper).await.expect("a sweep"), Sweep { due: 1, changed: 1 });
    }
}

#[tokio::test]
async fn what_waits_for_its_time_is_let_go_by_the_first_ranked_server_in_time() {
    let pair = Pair::new().await;
    let [one, other] = &pair.servers;
    let wakes = [one, other].map(|server| server.rooms.notifier.scheduler_woken());
    let schedule_time = one.clock().now() + Duration::from_millis(100);
    let mut request = request("a");
    request.spec.options.schedule_time = Some(schedule_time);
    pair.starter.start_operation(&caller(), request).await.expect("start");
    settle().await;
    let woken = wakes.map(|wake| wake.now_or_never().is_some());
    let first = pair.ranked(&super::name("a"))[0];
    assert_eq!(woken, [std::ptr::eq(first, one), std::ptr::eq(first, other)]);
}

#[tokio::test]
async fn a_server_that_cannot_reach_the_store_ranks_first_everywhere_in_the_end() {
    let pair = Pair::new().await;
    let [one, other] = &pair.servers;
    one.store().close().await;
    Heartbeat.run_once(one).await.expect_err("a closed store");
    assert!(pair.shares()[0] < 16);
    pair.clock.advance(Duration::from_secs(6));
    for server in [one, other] {
        Heartbeat.run_once(server).await.expect_err("a closed store");
    }
    assert_eq!(pair.shares(), [16, 16]);
}
