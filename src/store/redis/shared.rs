//! What requests and the listener share.

use std::sync::Arc;

use redis::Value;

use super::fitness::Fitness;
use super::hints::Hints;
use super::keys::{Keys, Meta};
use super::link::{self, Dial, Link};
use super::options::Options;
use super::queue::CommitQueue;
use super::time::Timekeeper;
use crate::store::error::StoreError;
use crate::store::key::Partition;
use crate::store::keyspace::Keyspace;
use crate::throttle::Throttle;

/// The parts shared by requests and the listener.
pub(super) struct SharedLink {
    pub(super) keyspace: Keyspace,
    pub(super) keys: Keys,
    pub(super) dial: Dial,
    pub(super) link: Link,
    /// For bodies, so that small requests do not wait behind them.
    pub(super) bulk: Link,
    pub(super) time: Timekeeper,
    pub(super) hints: Arc<Hints>,
    pub(super) fitness: Fitness,
    pub(super) throttle: Throttle,
    /// Write sets on their way.
    pub(super) queue: Arc<CommitQueue>,
    /// See [`Options::lane`].
    pub(super) lane: fn() -> usize,
}

impl SharedLink {
    pub(super) fn new(
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
    pub(super) fn own_meta(&self, value: &Value) -> Option<Meta> {
        let Value::BulkString(bytes) = value else { return None };
        Meta::decode(bytes).filter(|meta| meta.keyspace == self.keyspace.id())
    }

    /// Refuses the reply of a partition whose meta is not this keyspace's.
    pub(super) fn check_meta(&self, partition: Partition, value: &Value) -> Result<(), StoreError> {
        if self.own_meta(value).is_some() {
            return Ok(());
        }
        self.time.away(partition);
        Err(self.foreign())
    }

    /// Learns from the root record whether this longhaul may still write.
    pub(super) fn take_in_root(&self, root: &[u8]) {
        self.keyspace.observe(root);
        self.fitness.outdated(self.keyspace.outdated(self.dial.place()));
    }

    /// Replaces the root record, if it still is as it was read.
    pub(super) async fn replace_root(&self, root: &[u8]) -> Result<(), StoreError> {
        let mut request = redis::cmd("EVAL");
        request.arg(REPLACE_ROOT).arg(1).arg(self.keys.root());
        request.arg(self.keyspace.encode()).arg(root);
        match self.link.command(&request).await.map_err(|error| self.away(&error))? {
            Value::Okay => Ok(()),
            _ => Err(StoreError::Unfit(format!(
                "the root record of {} has changed meanwhile; try again",
                self.dial.place()
            ))),
        }
    }

    pub(super) fn foreign(&self) -> StoreError {
        StoreError::Foreign(format!(
            "{} no longer holds keyspace {}: it lost its data; restore it, or restart longhaul to begin a new keyspace",
            self.dial.place(),
            self.keyspace.id(),
        ))
    }

    /// The store's error for one of the client; meanwhile no worker could renew a lease.
    pub(super) fn away(&self, error: &redis::RedisError) -> StoreError {
        if self.time.all_away()
            && let Some(left_out) = self.throttle.admit("away")
        {
            tracing::warn!(store = self.dial.place(), cause = %error, left_out, "the store does not answer");
        }
        link::away(self.dial.place(), error)
    }

    pub(super) fn unexpected(&self) -> StoreError {
        StoreError::Damaged(format!(
            "{} holds a value of another kind than expected",
            self.dial.place()
        ))
    }
}

const REPLACE_ROOT: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('SET', KEYS[1], ARGV[2]) end return false";
