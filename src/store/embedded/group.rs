//! A group of write sets on its way to disk, with its changes so far.
//!
//! Only the writer changes the database, so the database and the changes gathered here together are the state that
//! the next set of the group is checked against.

use std::collections::BTreeMap;

use fjall::Slice;

use super::tables::{
    HighestWritten, Table, Tables, counter_key, decode_counter, encode_record, index_key,
    revision_of, split_index_key, unreadable,
};
use crate::clock::Timestamp;
use crate::store::backend::{Committed, Record};
use crate::store::error::{CommitError, StoreError};
use crate::store::feed::Hint;
use crate::store::key::Key;
use crate::store::write_set::{Check, Counter, Put, WriteSet};

/// The changes of the group so far.
pub(super) struct Group<'a> {
    tables: &'a Tables,
    /// One final state for each key: fjall does not order two changes of one key within a batch.
    changes: BTreeMap<(Table, Slice), Option<Slice>>,
    hints: Vec<Hint>,
    progress: HighestWritten,
    /// Whether new records may be made.
    room: Result<(), String>,
}

impl<'a> Group<'a> {
    pub(super) fn new(
        tables: &'a Tables,
        progress: HighestWritten,
        room: Result<(), String>,
    ) -> Self {
        Self { tables, changes: BTreeMap::new(), hints: Vec::new(), progress, room }
    }

    /// Adds a write set, if its checks hold at that time.
    ///
    /// # Errors
    /// The reason of a refusal. Unreadable data refuses only the set that needs it: the group then has nothing of it.
    pub(super) fn add(
        &mut self,
        set: &WriteSet,
        time: Timestamp,
    ) -> Result<Committed, CommitError> {
        debug_assert!(!set.checks.is_empty(), "a write set must check something");
        if set.partition.0 != 0 {
            return Err(StoreError::Foreign(format!("there is no {:?} here", set.partition)).into());
        }
        let now = time.max(Timestamp::from_micros(self.progress.revision));
        self.check(&set.checks, now)?;
        // Only after the checks: a repeated start must get the result of the first.
        if set.checks.iter().any(|check| matches!(check, Check::Absent(_))) && !set.puts.is_empty()
        {
            self.room.clone().map_err(StoreError::Full)?;
        }
        let counters = self.count(&set.counters)?;
        let revision = (self.progress.revision + 1).max(now.as_micros());
        self.progress.revision = revision;
        self.apply(set, counters, revision);
        Ok(Committed { revision })
    }

    /// Where the database is once the group is written.
    pub(super) const fn progress(&self) -> HighestWritten {
        self.progress
    }

    /// Writes the group, and returns when it is on disk.
    pub(super) fn write(&self) -> fjall::Result<()> {
        let changes = self.changes.iter().map(|((table, key), value)| (*table, key, value));
        self.tables.write(changes, self.progress)
    }

    /// Index name, member, and whether the entry exists now.
    pub(super) fn index_changes(&self) -> impl Iterator<Item = (&str, &[u8], bool)> {
        self.changes.iter().filter_map(|((table, key), value)| {
            let (name, member) = (*table == Table::Index).then(|| split_index_key(key))??;
            Some((name, member, value.is_some()))
        })
    }

    /// Its hints, in the order of their sequences.
    pub(super) fn into_hints(self) -> Vec<Hint> {
        self.hints
    }

    fn check(&self, checks: &[Check], now: Timestamp) -> Result<(), CommitError> {
        let mut early = false;
        for check in checks {
            let holds = match check {
                Check::At(key, revision) => self.revision(*key)? == Some(*revision),
                Check::Absent(key) => self.revision(*key)?.is_none(),
                Check::TimeAtLeast(time) => {
                    early |= now < *time;
                    true
                }
            };
            if !holds {
                return Err(CommitError::Conflict);
            }
        }
        if early { Err(CommitError::Early) } else { Ok(()) }
    }

    /// New values of the counters.
    fn count(&self, changes: &[Counter]) -> Result<BTreeMap<Slice, i64>, StoreError> {
        let mut counters = BTreeMap::new();
        for Counter { family, name, change } in changes {
            let key = Slice::from(counter_key(family, name));
            let before = if let Some(counted) = counters.get(&key) {
                *counted
            } else {
                let stored = self.read(Table::Counters, &key)?;
                // An invalid counter starts again: counters are approximate, and nothing else may fail for one.
                stored.and_then(|stored| decode_counter(&stored)).unwrap_or(0)
            };
            counters.insert(key, before.saturating_add(*change));
        }
        Ok(counters)
    }

    fn apply(&mut self, set: &WriteSet, counters: BTreeMap<Slice, i64>, revision: u64) {
        for entry in &set.removals {
            self.change(Table::Index, index_key(entry.index.as_str(), &entry.member), None);
        }
        for key in &set.deletes {
            self.change(Table::Records, *key.as_bytes(), None);
        }
        for key in &set.body_deletes {
            self.change(Table::Bodies, key.to_bytes(), None);
        }
        for put in &set.puts {
            self.put(put, revision);
        }
        for (key, body) in &set.body_puts {
            self.change(Table::Bodies, key.to_bytes(), Some(Slice::new(body)));
        }
        for entry in &set.additions {
            let key = index_key(entry.index.as_str(), &entry.member);
            self.change(Table::Index, key, Some(Slice::empty()));
        }
        for (key, value) in counters {
            let value = (value != 0).then(|| Slice::from(value.to_be_bytes()));
            self.change(Table::Counters, key, value);
        }
        if let Some((key, note)) = &set.hint {
            self.progress.sequence += 1;
            let sequence = self.progress.sequence;
            let (partition, note) = (set.partition, note.clone());
            self.hints.push(Hint { partition, sequence, revision, key: *key, note });
        }
    }

    fn put(&mut self, put: &Put, revision: u64) {
        let record = Record {
            revision,
            visible_revision: put.visible.resolve(revision),
            fencing_number: put.fencing.resolve(revision),
            value: put.value.clone(),
        };
        self.change(Table::Records, *put.key.as_bytes(), Some(encode_record(&record)));
    }

    fn revision(&self, key: Key) -> Result<Option<u64>, StoreError> {
        let stored = self.read(Table::Records, key.as_bytes())?;
        // A record too short for a revision exists, but at an unknown revision.
        Ok(stored.map(|stored| revision_of(&stored).unwrap_or(0)))
    }

    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        match self.changes.get(&(table, Slice::new(key))) {
            Some(changed) => Ok(changed.clone()),
            None => self.tables.get(table, key).map_err(unreadable),
        }
    }

    fn change(&mut self, table: Table, key: impl Into<Slice>, value: Option<Slice>) {
        self.changes.insert((table, key.into()), value);
    }
}
