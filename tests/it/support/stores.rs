//! The stores that every scenario runs on.

use std::sync::{Arc, LazyLock};

use longhaul::clock::{ManualClock, Timestamp};
use longhaul::record;
use longhaul::store::Store;
use longhaul::store::embedded::{self, EmbeddedStore};
use longhaul::store::redis::{self, RedisStore, StoreTime};
use tempfile::TempDir;
use uuid::Uuid;

use super::clock::TestClock;
use crate::test_server::TestServer;

/// One server for all tests of this process; each has a prefix of its own.
static REDIS: LazyLock<TestServer> = LazyLock::new(|| TestServer::start(&[]));

/// Its URL, for tests that use Redis directly.
pub(crate) fn redis_url() -> String {
    REDIS.url()
}

/// A store in a new directory.
pub(crate) fn embedded(clock: &Arc<TestClock>) -> (Arc<dyn Store>, TempDir) {
    let folder = TempDir::new().expect("a temporary directory");
    let options = embedded::Options {
        reserve_bytes: 0,
        clock: clock.clone(),
        // The result does not depend on how busy the disk of the tests is.
        stopwatch: ManualClock::new(Timestamp::EPOCH),
        ..embedded::Options::new(folder.path().join("store"), record::layout())
    };
    let store = EmbeddedStore::open(options).expect("a new store");
    (store, folder)
}

/// A store in the Redis of this process, under a new prefix.
pub(crate) async fn redis(clock: &Arc<TestClock>) -> Arc<dyn Store> {
    let options = redis::Options {
        prefix: format!("it-{}:", Uuid::new_v4()),
        partitions: 2,
        clock: clock.clone(),
        time: StoreTime::Clock,
        ..redis::Options::new(REDIS.url())
    };
    RedisStore::open(options).await.expect("a new keyspace")
}
