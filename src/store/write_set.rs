//! One atomic write: checks first, then removals, puts, additions, counters, and a hint.

use bytes::Bytes;

use super::index::Index;
use super::key::{BodyKey, Key, Partition};
use crate::clock::Timestamp;

/// A condition; all conditions of a write set are checked before its first write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The record exists and has this revision.
    At(Key, u64),
    /// The record does not exist.
    Absent(Key),
    /// The store's clock has reached this.
    TimeAtLeast(Timestamp),
}

/// A stamp in the new record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The revision of this commit.
    New,
    /// Unchanged.
    Keep(u64),
}

impl Mark {
    /// The number to stamp, for a commit of `revision`.
    pub const fn resolve(self, revision: u64) -> u64 {
        match self {
            Self::New => revision,
            Self::Keep(number) => number,
        }
    }
}

/// A record to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Where.
    pub key: Key,
    /// The new visible revision.
    pub visible: Mark,
    /// The new fencing number.
    pub fencing: Mark,
    /// The value.
    pub value: Bytes,
}

/// An entry to add to an index or to remove from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexEntry {
    /// Which index.
    pub index: Index,
    /// The member; ends in the record's key.
    pub member: Bytes,
}

/// A change of a counter; one that reaches zero is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The counters that it belongs to; no zero byte.
    pub family: &'static str,
    /// Its name among them.
    pub name: Bytes,
    /// The amount to add.
    pub change: i64,
}

/// Everything that one commit changes, in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteSet {
    /// The partition of every key below.
    pub partition: Partition,
    /// Never empty: a write set without a check could undo another writer's. Their order does not matter.
    pub checks: Vec<Check>,
    /// Index entries that go; one that is not there is no error.
    pub removals: Vec<IndexEntry>,
    /// Records that go.
    pub deletes: Vec<Key>,
    /// Bodies that go.
    pub body_deletes: Vec<BodyKey>,
    /// Records to write.
    pub puts: Vec<Put>,
    /// Bodies to write.
    pub body_puts: Vec<(BodyKey, Bytes)>,
    /// Index entries to add; an existing one stays.
    pub additions: Vec<IndexEntry>,
    /// Counters to change.
    pub counters: Vec<Counter>,
    /// The record to send a hint about, with a note that the store passes on unread.
    pub hint: Option<(Key, Bytes)>,
}

impl WriteSet {
    /// A write set that so far only checks.
    pub fn new(partition: Partition, check: Check) -> Self {
        Self {
            partition,
            checks: vec![check],
            removals: Vec::new(),
            deletes: Vec::new(),
            body_deletes: Vec::new(),
            puts: Vec::new(),
            body_puts: Vec::new(),
            additions: Vec::new(),
            counters: Vec::new(),
            hint: None,
        }
    }
}
