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
mod packed;
mod queue;
mod reading;
mod script;
mod time;
mod trial;
mod writing;

#[cfg(test)]
mod test_server;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::fitness::Fitness;
use self::hints::Hints;
use self::keys::{Keys, Meta};
use self::link::{Dial, Link};
use self::listener::Subscription;
use self::queue::CommitQueue;
use self::time::Timekeeper;
use super::{BodyKey, CommitError, Committed, Durability, Entry, Feed, Key, Keyspace};
use super::{OpenError, Partition, Record, Scan, Store, StoreError, WriteSet};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::throttle::Throttle;

pub use self::time::StoreTime;

/// How to open the store.
#[derive(Clone)]
pub struct Options {
    /// Where it is, with credentials: `redis://user:password@host:port/database`.
    pub url: String,
    /// The prefix of all keys; without braces, which mark the part that decides a key's cluster slot.
    pub prefix: String,
    /// Creates a keyspace if there is none.
    pub create: bool,
    /// Open this keyspace or none.
    pub keyspace: Option<Uuid>,
    /// The least durability to accept; if the server hides its settings, the operator states it.
    pub durability: Option<Durability>,
    /// Partitions of a keyspace that is yet to be made.
    pub partitions: u16,
    /// How long to wait for a connection or an answer.
    pub response_timeout: Duration,
    /// Counts elapsed time and sleeps; with [`StoreTime::Clock`] also the store's time.
    pub clock: Arc<dyn Clock>,
    /// The clock of the store's time.
    pub time: StoreTime,
    /// Tells which of the process's runtimes the calling task runs on, as a small number. Each has connections and a queue of
    /// its own: a connection that is driven by the runtime that uses it wakes no other thread. Under
    /// `Server::serve_on_cores` this is `server::lane::current`.
    pub lane: fn() -> usize,
}

impl Options {
    /// The defaults for a Redis at `url`, used from one runtime.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "lh:".to_owned(),
            create: true,
            keyspace: None,
            durability: None,
            partitions: 16,
            response_timeout: Duration::from_secs(2),
            clock: SystemClock::new(),
            time: StoreTime::Server,
            lane: || 0,
        }
    }
}

/// The URL may hold a password and stays out of logs.
impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("prefix", &self.prefix)
            .field("keyspace", &self.keyspace)
            .finish_non_exhaustive()
    }
}

/// The store in Redis.
pub struct RedisStore {
    shared: Arc<SharedLink>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The parts shared by requests and the listener.
struct SharedLink {
    keyspace: Keyspace,
    keys: Keys,
    dial: Dial,
    link: Link,
    /// For bodies, so that small requests do not wait behind them.
    bulk: Link,
    time: Timekeeper,
    hints: Arc<Hints>,
    fitness: Fitness,
    throttle: Throttle,
    /// Write sets on their way.
    queue: Arc<CommitQueue>,
    /// See [`Options::lane`].
    lane: fn() -> usize,
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

impl SharedLink {
    fn new(
        keyspace: Keyspace,
        dial: Dial,
        link: Link,
        (queue, fitness): (Arc<CommitQueue>, Fitness),
        options: &Options,
    ) -> Self {
        let partitions = keyspace.partitions();
        Self {
            keys: Keys::new(&options.prefix, &keyspace),
            bulk: Link::new(dial.clone(), options.lane),
            time: Timekeeper::new(
                Arc::clone(&options.clock),
                options.time,
                dial.place(),
                partitions,
            ),
            hints: Arc::new(Hints::new(keyspace.id(), partitions)),
            fitness,
            throttle: Throttle::new(Arc::clone(&options.clock)),
            queue,
            lane: options.lane,
            keyspace,
            dial,
            link,
        }
    }

    /// The meta, if it is one of this keyspace.
    fn own_meta(&self, value: &Value) -> Option<Meta> {
        let Value::BulkString(bytes) = value else { return None };
        Meta::decode(bytes).filter(|meta| meta.keyspace == self.keyspace.id())
    }

    /// Refuses the reply of a partition whose meta is not this keyspace's.
    fn check_meta(&self, partition: Partition, value: &Value) -> Result<(), StoreError> {
        if self.own_meta(value).is_some() {
            return Ok(());
        }
        self.time.away(partition);
        Err(self.foreign())
    }

    /// Learns from the root record whether this longhaul may still write.
    fn take_in_root(&self, root: &[u8]) {
        self.keyspace.observe(root);
        self.fitness.outdated(self.keyspace.outdated(self.dial.place()));
    }

    fn foreign(&self) -> StoreError {
        StoreError::Foreign(format!(
            "{} no longer holds keyspace {}: it lost its data; restore it, or restart longhaul to begin a new keyspace",
            self.dial.place(),
            self.keyspace.id(),
        ))
    }

    /// The store's error for one of the client; meanwhile no worker could renew a lease.
    fn away(&self, error: &redis::RedisError) -> StoreError {
        if self.time.all_away()
            && let Some(left_out) = self.throttle.admit("away")
        {
            tracing::warn!(store = self.dial.place(), cause = %error, left_out, "the store does not answer");
        }
        link::away(self.dial.place(), error)
    }

    fn unexpected(&self) -> StoreError {
        StoreError::Damaged(format!(
            "{} holds a value of another kind than expected",
            self.dial.place()
        ))
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
            Ok(_) => self.hand_in(sets).await,
            Err(closed) => vec![Err(closed.into()); sets.len()],
        }
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Entry>, StoreError> {
        self.open_shared()?.scan(&scan).await
    }

    async fn counter(&self, name: &[u8]) -> Result<i64, StoreError> {
        self.open_shared()?.counter(name).await
    }

    fn feed(&self) -> Feed {
        self.shared.hints.feed()
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
        let mut request = redis::cmd("EVAL");
        request.arg(RAISE).arg(1).arg(shared.keys.root());
        request.arg(shared.keyspace.encode()).arg(&root[..]);
        match shared.link.command(&request).await.map_err(|error| shared.away(&error))? {
            Value::Okay => {}
            _ => {
                return Err(StoreError::Unfit(format!(
                    "the root record of {} has changed meanwhile; try again",
                    shared.dial.place()
                )));
            }
        }
        shared.take_in_root(&root);
        Ok(())
    }

    async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.shared.hints.close();
        self.shared.link.close();
        self.shared.bulk.close();
    }
}

/// Replaces the root record, if it still is as it was read.
const RAISE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('SET', KEYS[1], ARGV[2]) end return false";
