//! The store in Redis: records are strings, indexes are sorted sets, a commit is one script, hints are messages.
//!
//! Owns every key under its prefix (see `docs/redis.md`), its connections and the task that listens. Invariants:
//! - every read includes the partition's meta, so a Redis that lost its data never reports a record as absent;
//! - every problem with Redis is [`StoreError::Away`], except a refusal with a reason of its own,
//!   [`StoreError::Unfit`], and a wrong meta: [`StoreError::Foreign`];
//! - only the scripts write, except at the first opening;
//! - nothing is written while a setting or a missing permission could lose it, or a part of it: [`StoreError::Unfit`];
//! - a read on a lost connection is tried once more, a commit never: its caller knows how to repeat it.

mod call;
mod fitness;
mod hints;
mod keys;
mod link;
mod listener;
mod opening;
mod options;
mod packed;
mod queue;
mod reading;
mod script;
mod shared;
mod time;
mod trial;
mod writing;

#[cfg(test)]
mod test_server;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::link::{Dial, Link};
use self::listener::Subscription;
use self::queue::CommitQueue;
use self::shared::SharedLink;
use super::backend::{Committed, Durability, Record, Store};
use super::error::{CommitError, OpenError, StoreError};
use super::feed::Feed;
use super::index::{Entry, Scan};
use super::key::{BodyKey, Key, Partition};
use super::keyspace::Keyspace;
use super::write_set::WriteSet;
use crate::clock::Timestamp;

pub use self::options::Options;
pub use self::time::StoreTime;

/// The store in Redis.
pub struct RedisStore {
    shared: Arc<SharedLink>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl RedisStore {
    /// Opens the keyspace under the prefix, or creates one. When it returns, hints arrive.
    ///
    /// # Errors
    /// [`OpenError`]; only after [`OpenError::Unreachable`] can a later attempt succeed.
    pub async fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        if options.prefix.contains(['{', '}']) {
            return Err(OpenError::Address(format!(
                "the prefix {:?} contains a brace; choose one without",
                options.prefix
            )));
        }
        let dial = Dial::new(&options.url, &options.prefix, options.response_timeout)?;
        let link = Link::new(dial.clone(), options.lane);
        let fitness = opening::inspect(&link, &dial, &options).await?;
        let keyspace = opening::keyspace(&link, &dial, &options).await?;
        let calls_at_once = if fitness.durability() == Durability::Fsync { 2 } else { 1 };
        let queue = CommitQueue::new(calls_at_once);
        let shared = Arc::new(SharedLink::new(keyspace, dial, link, (queue, fitness), &options));
        opening::permissions(&shared.link, &shared.dial, &shared.keys).await?;
        let subscription = Subscription::open(&shared).await;
        let subscription =
            subscription.map_err(|error| opening::unreachable(&shared.dial, &error))?;

        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(listener::run(Arc::clone(&shared), subscription, stop.clone()));
        tasks.close();
        Ok(Arc::new(Self { shared, tasks, stop }))
    }

    fn open_shared(&self) -> Result<&SharedLink, StoreError> {
        if self.stop.is_cancelled() { Err(StoreError::Closed) } else { Ok(&self.shared) }
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[async_trait]
impl Store for RedisStore {
    fn keyspace(&self) -> &Keyspace {
        &self.shared.keyspace
    }

    fn durability(&self) -> Durability {
        self.shared.fitness.durability()
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        self.open_shared()?.get(keys).await
    }

    async fn bodies(&self, keys: &[BodyKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.open_shared()?.bodies(keys).await
    }

    async fn commit(&self, sets: Vec<WriteSet>) -> Vec<Result<Committed, CommitError>> {
        match self.open_shared() {
            Ok(_) => self.shared.hand_in(&self.tasks, sets).await,
            Err(closed) => vec![Err(closed.into()); sets.len()],
        }
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Entry>, StoreError> {
        self.open_shared()?.scan(&scan).await
    }

    async fn keys(
        &self,
        partition: Partition,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Vec<Key>, StoreError> {
        self.open_shared()?.record_keys(partition, after, limit).await
    }
    async fn counters(&self, family: &str, names: &[Bytes]) -> Result<Vec<i64>, StoreError> {
        self.open_shared()?.counters(family, names).await
    }

    async fn counter_names(&self, family: &str, limit: usize) -> Result<Vec<Bytes>, StoreError> {
        self.open_shared()?.counter_names(family, limit).await
    }

    fn feed(&self) -> Feed {
        self.shared.hints.feed()
    }

    async fn hint_positions(&self) -> Result<Vec<u64>, StoreError> {
        self.open_shared()?.hint_positions().await
    }

    fn now(&self, _partition: Partition) -> Timestamp {
        self.shared.time.now()
    }

    fn answering_since(&self, partition: Partition) -> Option<Timestamp> {
        self.open_shared().ok()?.time.since(partition)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.open_shared()?.ping().await
    }

    fn remark(&self) -> Option<String> {
        self.shared.time.remark()
    }

    async fn raise_min_writer(&self, format: u32) -> Result<(), StoreError> {
        let shared = self.open_shared()?;
        let root = shared.keyspace.encode_raised(format);
        shared.replace_root(&root).await?;
        shared.take_in_root(&root);
        Ok(())
    }

    async fn finish_import(&self) -> Result<(), StoreError> {
        let shared = self.open_shared()?;
        shared.replace_root(&shared.keyspace.encode_complete()).await
    }

    async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.shared.hints.close();
        self.shared.link.close();
        self.shared.bulk.close();
    }
}
