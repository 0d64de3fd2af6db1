//! What a kind of record is.

use std::fmt::Debug;

use bytes::Bytes;

use super::due::DueIndex;
use super::note::Note;
use crate::operation::Stamps;
use crate::store::{BodyKey, Counter, IndexEntry, Key, Keyspace};

/// A kind of record. Every function is pure.
pub trait Kind: Clone + Debug + Send + Sync + 'static {
    /// The kind's name in messages.
    const NAME: &'static str;
    /// The field numbers of its messages in `longhaul.store.v1.Record`.
    const NUMBERS: &'static [u32];
    /// The due indexes in which it has entries.
    const DUE: &'static [DueIndex];
    /// What the names of other indexes begin with whose entries are removed again long before the record is. The embedded
    /// store mirrors them in memory.
    const PASSING: &'static [&'static str] = &[];

    /// Whether a copy of the store has its records. Those that tell about running processes mean nothing there.
    const IS_COPIED: bool = true;

    /// The kind's name in messages.
    fn name(&self) -> String;

    /// Whether it belongs under that key.
    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool;

    /// The record of a stored value; `None` where the value is damaged or of another kind.
    fn decode(value: &Bytes, stamps: Stamps) -> Option<Self>;

    /// The value to store.
    fn encode(&self) -> Bytes;

    /// All its index entries. A write set holds the difference between those before and after.
    fn entries(&self, key: Key) -> Vec<IndexEntry>;

    /// How a commit that replaces one record by another changes the counters.
    fn counters(_before: Option<&Self>, _after: Option<&Self>) -> Vec<Counter> {
        Vec::new()
    }

    /// The bodies that it names.
    fn bodies(&self, _key: Key) -> Vec<BodyKey> {
        Vec::new()
    }

    /// Whether [`Kind::detach`] would change anything.
    fn must_detach(&self) -> bool {
        false
    }

    /// Takes payloads that are too large for the record out of it, and names them as bodies.
    fn detach(&mut self, _key: Key) -> Vec<(BodyKey, Bytes)> {
        Vec::new()
    }

    /// The note of a change's hint; `None` sends no hint. `visible`: callers can see the change.
    fn hint(_before: Option<&Self>, _after: Option<&Self>, visible: bool) -> Option<Note> {
        visible.then_some(Note::Changed)
    }
}

/// What follows from a record of any kind.
#[derive(Clone, Debug)]
pub struct Derived {
    /// The record's name in messages.
    pub name: String,
    /// See [`Kind::IS_COPIED`].
    pub is_copied: bool,
    /// The bodies that it names.
    pub bodies: Vec<BodyKey>,
    /// Its index entries.
    pub entries: Vec<IndexEntry>,
    /// What it adds to counters.
    pub counters: Vec<Counter>,
}

impl Derived {
    /// What follows from `record` under `key`.
    pub(super) fn of<K: Kind>(record: &K, key: Key) -> Self {
        Self {
            name: record.name(),
            is_copied: K::IS_COPIED,
            bodies: record.bodies(key),
            entries: record.entries(key),
            counters: K::counters(None, Some(record)),
        }
    }
}

/// A record as it was read, with the stamps that the store put on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Before<K> {
    /// The record that was read.
    pub record: K,
    /// Its stamps.
    pub stamps: Stamps,
}
