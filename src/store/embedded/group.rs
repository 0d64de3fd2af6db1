//! A group of write sets on its way to disk: what it will change, as far as it has been decided.
//!
//! The writer is alone in changing the database, so the database and the changes gathered here are together the truth that
//! the next set of the group is checked against.

use std::collections::BTreeMap;

use fjall::Slice;

use super::tables::{
    Progress, Table, Tables, counter_key, decode_counter, encode_record, index_key, revision_of,
    split_index_key,
};
use crate::clock::Timestamp;
use crate::store::{
    Check, CommitError, Committed, Counter, Hint, Key, Put, Record, StoreError, WriteSet,
};

/// What the group has come to.
pub(super) struct Group<'a> {
    tables: &'a Tables,
    /// One final state for each key: fjall does not order two changes of one key within a batch.
    changes: BTreeMap<(Table, Slice), Option<Slice>>,
    hints: Vec<Hint>,
    progress: Progress,
}

impl<'a> Group<'a> {
    pub(super) fn new(tables: &'a Tables, progress: Progress) -> Self {
        Self { tables, changes: BTreeMap::new(), hints: Vec::new(), progress }
    }

    /// Adds a write set, if its checks hold at that time.
    ///
    /// # Errors
    /// The outer one when the database cannot be read: then nothing is known and the group must not be written.
    pub(super) fn add(
        &mut self,
        set: &WriteSet,
        wall: Timestamp,
    ) -> fjall::Result<Result<Committed, CommitError>> {
        debug_assert!(!set.checks.is_empty(), "a write set must check something");
        if set.partition.0 != 0 {
            let unknown = StoreError::Foreign(format!("there is no {:?} here", set.partition));
            return Ok(Err(unknown.into()));
        }
        let now = wall.max(Timestamp::from_micros(self.progress.revision));
        for check in &set.checks {
            if let Err(refusal) = self.check(check, now)? {
                return Ok(Err(refusal));
            }
        }
        let revision = (self.progress.revision + 1).max(now.as_micros());
        self.progress.revision = revision;
        self.apply(set, revision)?;
        Ok(Ok(Committed { revision }))
    }

    /// Where the database is once the group is written.
    pub(super) const fn progress(&self) -> Progress {
        self.progress
    }

    /// Writes the group, and returns when it is on disk.
    pub(super) fn write(&self) -> fjall::Result<()> {
        let changes = self.changes.iter().map(|((table, key), value)| (*table, key, value));
        self.tables.write(changes, self.progress)
    }

    /// Index name, member, and whether the entry is there now.
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

    fn check(&self, check: &Check, now: Timestamp) -> fjall::Result<Result<(), CommitError>> {
        let holds = match check {
            Check::At(key, revision) => self.revision(*key)? == Some(*revision),
            Check::Absent(key) => self.revision(*key)?.is_none(),
            Check::TimeAtLeast(time) if now < *time => return Ok(Err(CommitError::Early)),
            Check::TimeAtLeast(_) => true,
        };
        Ok(if holds { Ok(()) } else { Err(CommitError::Conflict) })
    }

    fn apply(&mut self, set: &WriteSet, revision: u64) -> fjall::Result<()> {
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
        for counter in &set.counters {
            self.count(counter)?;
        }
        if let Some((key, note)) = &set.hint {
            self.progress.sequence += 1;
            let sequence = self.progress.sequence;
            let (partition, note) = (set.partition, note.clone());
            self.hints.push(Hint { partition, sequence, revision, key: *key, note });
        }
        Ok(())
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

    fn count(&mut self, counter: &Counter) -> fjall::Result<()> {
        let key = counter_key(&counter.name);
        // A counter that cannot be read starts anew: counts are soft, and nothing else may fail for one.
        let before = self.read(Table::Counters, &key)?.and_then(|stored| decode_counter(&stored));
        let after = before.unwrap_or(0).saturating_add(counter.change);
        let value = (after != 0).then(|| Slice::from(after.to_be_bytes()));
        self.change(Table::Counters, key, value);
        Ok(())
    }

    fn revision(&self, key: Key) -> fjall::Result<Option<u64>> {
        let stored = self.read(Table::Records, key.as_bytes())?;
        // A record that is too short for a revision is there, but at none that anybody can name.
        Ok(stored.map(|stored| revision_of(&stored).unwrap_or(0)))
    }

    fn read(&self, table: Table, key: &[u8]) -> fjall::Result<Option<Slice>> {
        match self.changes.get(&(table, Slice::new(key))) {
            Some(changed) => Ok(changed.clone()),
            None => self.tables.get(table, key),
        }
    }

    fn change(&mut self, table: Table, key: impl Into<Slice>, value: Option<Slice>) {
        self.changes.insert((table, key.into()), value);
    }
}
