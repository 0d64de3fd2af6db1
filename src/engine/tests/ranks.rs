//! Two servers share the partitions of one store while both are known to live.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{ManualClock, Timestamp};
use crate::engine::{Engine, Herald};
use crate::store::memory::MemoryStore;
use crate::store::{Keyspace, Store};

/// Two servers that know of each other.
struct Pair {
    clock: Arc<ManualClock>,
    servers: [Engine; 2],
}

impl Pair {
    async fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
        let store: Arc<dyn Store> = MemoryStore::new(Keyspace::generate(16), clock.clone());
        let engine = || Engine::without_agents(store.clone(), clock.clone());
        let pair = Self { servers: [engine(), engine()], clock };
        pair.meet().await;
        pair
    }

    /// Both have heard of each other, whoever was away before.
    async fn meet(&self) {
        for server in self.servers.iter().chain(&self.servers).chain(&self.servers) {
            Herald.run_once(server).await.expect("a beat");
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
    Herald.run_once(one).await.expect("a beat");
    assert_eq!(pair.shares().iter().sum::<usize>(), 16);
    // Stamps run a few microseconds ahead of a clock that stands.
    pair.clock.advance(Duration::from_millis(1_001));
    Herald.run_once(one).await.expect("a beat");
    assert_eq!(pair.shares()[0], 16);
    assert_eq!(one.servers().await.expect("servers").len(), 1);

    pair.meet().await;
    assert_eq!(pair.shares().iter().sum::<usize>(), 16);
    // Others need not miss the beats of one that says that it goes.
    other.take_leave().await;
    Herald.run_once(one).await.expect("a beat");
    assert_eq!(pair.shares()[0], 16);
}
