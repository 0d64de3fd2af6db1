//! What a backend is: one trait, and what its methods return.

use async_trait::async_trait;
use bytes::Bytes;

use super::error::{CommitError, StoreError};
use super::feed::Feed;
use super::index::{Entry, Scan};
use super::key::{BodyKey, Key, Partition};
use super::keyspace::Keyspace;
use super::write_set::WriteSet;
use crate::clock::Timestamp;

/// A stored record: the stamps of its commit, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The commit that wrote it: the compare-and-set token.
    pub revision: u64,
    /// The last commit that callers can tell from the one before it.
    pub visible_revision: u64,
    /// The last commit that made a lease; 0 before the first.
    pub fencing_number: u64,
    /// The value.
    pub value: Bytes,
}

/// The result of an acknowledged commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The revision that its puts carry.
    pub revision: u64,
}

/// How far an acknowledged commit is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// In the store's memory, on disk some time later.
    Memory,
    /// On disk before the acknowledgement.
    Fsync,
}

impl Durability {
    /// The word that the configuration and the logs use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Fsync => "fsync",
        }
    }
}

/// The store. Every method may be called from any task, concurrently.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The identity of the store, and the mapping from names to keys and from keys to partitions.
    fn keyspace(&self) -> &Keyspace;

    /// How far an acknowledged commit is safe.
    fn durability(&self) -> Durability;

    /// Reads the newest records, in the order of `keys`. Keys of one call may lie in several partitions.
    ///
    /// # Errors
    /// [`StoreError`] if a partition is unavailable or does not belong to this keyspace: a store that lost its data never
    /// reports a record as absent.
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError>;

    /// Reads bodies, in the order of `keys`. A body that its record no longer names may be gone: re-read the record.
    async fn bodies(&self, keys: &[BodyKey]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// Applies write sets, each atomic on its own and independent of the others; results in their order.
    async fn commit(&self, sets: Vec<WriteSet>) -> Vec<Result<Committed, CommitError>>;

    /// Reads index entries in the order of their members, the partitions merged.
    async fn scan(&self, scan: Scan) -> Result<Vec<Entry>, StoreError>;

    /// Keys of the records of a partition that come after `after`, the smallest ones, in ascending order.
    ///
    /// It may return a key whose record was just deleted, and leave out one whose record was just made. Redis reads its whole
    /// database for each call: ask for many.
    async fn keys(
        &self,
        partition: Partition,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Vec<Key>, StoreError>;
    /// The sums of counters over all partitions, in the order of `names`; 0 for one that was never added to.
    async fn counters(&self, family: &str, names: &[Bytes]) -> Result<Vec<i64>, StoreError>;

    /// The names of the counters of a family, in their order. If there are more than `limit`, any `limit` of them.
    async fn counter_names(&self, family: &str, limit: usize) -> Result<Vec<Bytes>, StoreError>;

    /// Hints from now on.
    fn feed(&self) -> Feed;

    /// The sequence of the last hint of each partition. A feed that began before this call gets all later ones.
    ///
    /// # Errors
    /// [`StoreError`] if a partition is unavailable.
    async fn hint_positions(&self) -> Result<Vec<u64>, StoreError>;

    /// The store's clock, as this process last knew it.
    fn now(&self, partition: Partition) -> Timestamp;

    /// Since when the partition has responded without a break or a step of its clock; `None` while it is unavailable.
    ///
    /// A lease that no worker could renew meanwhile must not expire as soon as the store is back.
    fn answering_since(&self, partition: Partition) -> Option<Timestamp>;

    /// Whether reads and writes succeed now, found out by trying; for health.
    ///
    /// # Errors
    /// The text has the cause and the remedy: `/readyz`, the log and operators see it unchanged.
    async fn ping(&self) -> Result<(), StoreError>;

    /// A warning while everything works, with the remedy; `/readyz` shows the same line as the log.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Raises the oldest format whose writers may write here; lower ones change nothing. Servers that write only older
    /// formats refuse writes within seconds, and do not start again.
    ///
    /// # Errors
    /// [`StoreError`] if the root record was not written, or is not known to be.
    async fn raise_min_writer(&self, format: u32) -> Result<(), StoreError>;

    /// Marks an import as complete: from now on servers may open the store.
    ///
    /// # Errors
    /// As [`Self::raise_min_writer`].
    async fn finish_import(&self) -> Result<(), StoreError>;

    /// Ends background work and makes everything acknowledged durable. Calls after this fail.
    async fn close(&self);
}
