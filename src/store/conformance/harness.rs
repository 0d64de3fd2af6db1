//! A store to try, and what the promises do with it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::clock::ManualClock;
use crate::store::backend::{Committed, Record, Store};
use crate::store::error::CommitError;
use crate::store::index::{Index, Scan};
use crate::store::key::{Key, Partition};
use crate::store::write_set::{Check, Counter, IndexEntry, Mark, Put, WriteSet};

/// Opens the same data again, after it was closed.
pub(crate) type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Store>> + Send + Sync>;

/// An empty store to try, and the clock that it runs on.
pub(crate) struct Harness {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<ManualClock>,
    reopen: Option<Reopen>,
}

impl Harness {
    /// `reopen` also keeps the directory or server of the data alive; `None` for a store without persistence.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<ManualClock>,
        reopen: Option<Reopen>,
    ) -> Self {
        Self { store, clock, reopen }
    }

    /// The same data, opened while the store is open; `None` if the store is not persistent. The embedded store refuses.
    pub(crate) async fn beside(&self) -> Option<Arc<dyn Store>> {
        Some(self.reopen.as_ref()?().await)
    }

    /// Closes the store and opens it again; returns false and does nothing if the store is not persistent.
    pub(crate) async fn reopen(&mut self) -> bool {
        let Some(reopen) = &self.reopen else { return false };
        self.store.close().await;
        self.store = reopen().await;
        true
    }
}

/// The `number`th of some keys of that partition.
pub(super) fn key(store: &dyn Store, partition: Partition, number: usize) -> Key {
    let keyspace = store.keyspace();
    (0..)
        .map(|name: u64| keyspace.key(&name.to_string()))
        .filter(|key| keyspace.partition(*key) == partition)
        .nth(number)
        .expect("endless names")
}

/// A set that creates a record.
pub(super) fn create(store: &dyn Store, key: Key, value: impl Into<Bytes>) -> WriteSet {
    let mut set = WriteSet::new(store.keyspace().partition(key), Check::Absent(key));
    set.puts.push(put(key, value));
    set
}

/// A set that replaces a record of that revision.
pub(super) fn replace(
    store: &dyn Store,
    key: Key,
    revision: u64,
    value: impl Into<Bytes>,
) -> WriteSet {
    let mut set = WriteSet::new(store.keyspace().partition(key), Check::At(key, revision));
    set.puts.push(put(key, value));
    set
}

pub(super) fn put(key: Key, value: impl Into<Bytes>) -> Put {
    Put { key, visible: Mark::New, fencing: Mark::Keep(0), value: value.into() }
}

/// A set that is never refused and changes nothing yet.
pub(super) fn unconditional(partition: Partition) -> WriteSet {
    WriteSet::new(partition, Check::TimeAtLeast(crate::clock::Timestamp::EPOCH))
}

pub(super) fn entry(index: &'static str, member: impl Into<Bytes>) -> IndexEntry {
    IndexEntry { index: Index::new(index), member: member.into() }
}

/// A change of a counter of the tests.
pub(crate) fn count(name: impl Into<Bytes>, change: i64) -> Counter {
    Counter { family: "test", name: name.into(), change }
}

/// The value of a counter of the tests.
pub(crate) async fn counted(store: &dyn Store, name: &'static [u8]) -> i64 {
    let names = [Bytes::from_static(name)];
    store.counters("test", &names).await.expect("the store answers").remove(0)
}

pub(super) async fn commit(store: &dyn Store, set: WriteSet) -> Result<Committed, CommitError> {
    let mut outcomes = store.commit(vec![set]).await;
    assert_eq!(outcomes.len(), 1, "one outcome for each set");
    outcomes.remove(0)
}

/// Commits a set that must succeed, and returns its revision.
pub(super) async fn commit_ok(store: &dyn Store, set: WriteSet) -> u64 {
    commit(store, set).await.expect("nothing stands against it").revision
}

pub(super) async fn get(store: &dyn Store, key: Key) -> Option<Record> {
    let mut records = store.get(&[key]).await.expect("the store answers");
    assert_eq!(records.len(), 1, "one answer for each key");
    records.remove(0)
}

pub(super) async fn members(store: &dyn Store, scan: Scan) -> Vec<Bytes> {
    let entries = store.scan(scan).await.expect("the store answers");
    entries.into_iter().map(|entry| entry.member).collect()
}

/// All of an index, of any size used in these tests.
pub(super) fn all(index: &'static str) -> Scan {
    Scan::first(Index::new(index), 100_000)
}

/// Names of indexes of every kind that a backend may treat in its own way.
pub(super) const INDEXES: [&str; 6] =
    ["list", "failed", "ready/default", "due/lease", "due/retention", "due/tombstone"];
