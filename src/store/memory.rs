//! The reference implementation for tests; not persistent.
//!
//! As simple as possible, so that it can be checked by reading: one lock, ordered maps, no background work.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::backend::{Committed, Durability, Record, Store};
use super::error::{CommitError, StoreError};
use super::feed::{Event, Feed, Hint, Publisher};
use super::index::{Entry, Index, Scan};
use super::key::{BodyKey, Key, Partition};
use super::keyspace::Keyspace;
use super::write_set::{Check, WriteSet};
use crate::clock::{Clock, Timestamp};

/// A store that lives as long as its process.
#[derive(Debug)]
pub struct MemoryStore {
    keyspace: Keyspace,
    clock: Arc<dyn Clock>,
    opened: Timestamp,
    /// `None` once closed.
    state: Mutex<Option<Contents>>,
}

#[derive(Debug)]
struct Contents {
    parts: Vec<MemoryPartition>,
    publisher: Publisher,
}

/// One partition.
#[derive(Debug, Default)]
struct MemoryPartition {
    revision: u64,
    sequence: u64,
    records: BTreeMap<Key, Record>,
    bodies: BTreeMap<BodyKey, Bytes>,
    indexes: BTreeMap<Index, BTreeSet<Bytes>>,
    counters: BTreeMap<(&'static str, Bytes), i64>,
}

impl MemoryStore {
    /// An empty store of that keyspace.
    pub fn new(keyspace: Keyspace, clock: Arc<dyn Clock>) -> Arc<Self> {
        let parts = keyspace.all().map(|_| MemoryPartition::default()).collect();
        let publisher = Publisher::new(keyspace.partitions());
        let state = Mutex::new(Some(Contents { parts, publisher }));
        Arc::new(Self { opened: clock.now(), keyspace, clock, state })
    }

    /// Tells every feed that hints of all partitions may be missing, as after a lost connection.
    pub fn announce_gap(&self) {
        if let Some(state) = self.lock().as_ref() {
            state.publisher.send(Event::Gap(self.keyspace.all().collect()));
        }
    }

    fn read<T>(&self, read: impl FnOnce(&[MemoryPartition]) -> T) -> Result<T, StoreError> {
        self.lock().as_ref().map(|state| read(&state.parts)).ok_or(StoreError::Closed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Contents>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part_of(&self, key: Key) -> usize {
        usize::from(self.keyspace.partition(key).0)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        self.read(|parts| {
            keys.iter().map(|key| parts[self.part_of(*key)].records.get(key).cloned()).collect()
        })
    }

    async fn bodies(&self, keys: &[BodyKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.read(|parts| {
            keys.iter()
                .map(|key| parts[self.part_of(key.record)].bodies.get(key).cloned())
                .collect()
        })
    }

    async fn commit(&self, sets: Vec<WriteSet>) -> Vec<Result<Committed, CommitError>> {
        if let Some(why) = self.keyspace.outdated("the store in memory") {
            return vec![Err(StoreError::Unfit(why).into()); sets.len()];
        }
        let mut state = self.lock();
        let Some(Contents { parts, publisher }) = state.as_mut() else {
            return vec![Err(StoreError::Closed.into()); sets.len()];
        };
        sets.into_iter()
            .map(|set| {
                let Some(part) = parts.get_mut(usize::from(set.partition.0)) else {
                    return Err(StoreError::Foreign(format!(
                        "there is no {:?} here",
                        set.partition
                    ))
                    .into());
                };
                let (revision, hint) = part.apply(set, self.clock.now())?;
                if let Some(hint) = hint {
                    publisher.send(Event::Hint(hint));
                }
                Ok(Committed { revision })
            })
            .collect()
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Entry>, StoreError> {
        let found = self.read(|parts| {
            let wanted =
                |partition: &Partition| scan.partition.is_none_or(|only| only == *partition);
            let entries = |partition: Partition| {
                let members = parts[usize::from(partition.0)].indexes.get(&scan.index);
                let members = members.into_iter().flatten().filter(|member| scan.contains(member));
                members.map(move |member| Entry { member: member.clone(), partition })
            };
            self.keyspace.all().filter(wanted).flat_map(entries).collect()
        })?;
        Ok(scan.merge(found))
    }

    async fn keys(
        &self,
        partition: Partition,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Vec<Key>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.read(|parts| {
            let records = parts.get(usize::from(partition.0)).map(|part| &part.records);
            let keys =
                records.into_iter().flat_map(|records| records.range((from, Bound::Unbounded)));
            keys.map(|(key, _)| *key).take(limit).collect()
        })
    }
    async fn counters(&self, family: &str, names: &[Bytes]) -> Result<Vec<i64>, StoreError> {
        let share = |part: &MemoryPartition, name: &Bytes| {
            let wanted =
                |((of, called), _): &(&(&str, Bytes), &i64)| *of == family && called == name;
            part.counters.iter().find(wanted).map_or(0, |(_, value)| *value)
        };
        self.read(|parts| {
            names.iter().map(|name| parts.iter().map(|part| share(part, name)).sum()).collect()
        })
    }

    async fn counter_names(&self, family: &str, limit: usize) -> Result<Vec<Bytes>, StoreError> {
        let names: BTreeSet<Bytes> = self.read(|parts| {
            let all = parts.iter().flat_map(|part| part.counters.keys());
            all.filter(|(of, _)| *of == family).map(|(_, name)| name.clone()).collect()
        })?;
        Ok(names.into_iter().take(limit).collect())
    }

    fn feed(&self) -> Feed {
        let state = self.lock();
        // A closed store's feed ends at once.
        state
            .as_ref()
            .map_or_else(|| Publisher::new(1).subscribe(), |state| state.publisher.subscribe())
    }

    async fn hint_positions(&self) -> Result<Vec<u64>, StoreError> {
        self.read(|parts| parts.iter().map(|part| part.sequence).collect())
    }

    fn now(&self, partition: Partition) -> Timestamp {
        let state = self.lock();
        let part = state.as_ref().and_then(|state| state.parts.get(usize::from(partition.0)));
        part.map_or_else(|| self.clock.now(), |part| part.now(self.clock.now()))
    }

    fn answering_since(&self, _: Partition) -> Option<Timestamp> {
        self.lock().as_ref().map(|_| self.opened)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.read(|_| ())
    }

    async fn raise_min_writer(&self, format: u32) -> Result<(), StoreError> {
        self.keyspace.observe(&self.keyspace.encode_raised(format));
        Ok(())
    }

    async fn finish_import(&self) -> Result<(), StoreError> {
        self.read(|_| ())
    }

    async fn close(&self) {
        *self.lock() = None;
    }
}

impl MemoryPartition {
    /// Never before the last revision.
    fn now(&self, wall: Timestamp) -> Timestamp {
        wall.max(Timestamp::from_micros(self.revision))
    }

    fn apply(
        &mut self,
        set: WriteSet,
        wall: Timestamp,
    ) -> Result<(u64, Option<Hint>), CommitError> {
        let now = self.now(wall);
        let mut early = false;
        for check in &set.checks {
            match check {
                Check::At(key, revision) if self.revision_of(*key) == Some(*revision) => {}
                Check::Absent(key) if self.revision_of(*key).is_none() => {}
                Check::At(..) | Check::Absent(_) => return Err(CommitError::Conflict),
                Check::TimeAtLeast(time) => early |= now < *time,
            }
        }
        if early {
            return Err(CommitError::Early);
        }
        let revision = now.as_micros().max(self.revision + 1);
        self.revision = revision;
        let hint = set.hint.clone().map(|(key, note)| {
            self.sequence += 1;
            Hint { partition: set.partition, sequence: self.sequence, revision, key, note }
        });
        self.write(set, revision);
        Ok((revision, hint))
    }

    fn write(&mut self, set: WriteSet, revision: u64) {
        for entry in set.removals {
            self.indexes.entry(entry.index).or_default().remove(&entry.member);
        }
        set.deletes.iter().for_each(|key| drop(self.records.remove(key)));
        set.body_deletes.iter().for_each(|key| drop(self.bodies.remove(key)));
        for put in set.puts {
            let visible_revision = put.visible.resolve(revision);
            let fencing_number = put.fencing.resolve(revision);
            let record = Record { revision, visible_revision, fencing_number, value: put.value };
            self.records.insert(put.key, record);
        }
        self.bodies.extend(set.body_puts);
        for entry in set.additions {
            self.indexes.entry(entry.index).or_default().insert(entry.member);
        }
        for counter in set.counters {
            let key = (counter.family, counter.name);
            let value = self.counters.get(&key).unwrap_or(&0).saturating_add(counter.change);
            if value == 0 {
                self.counters.remove(&key);
            } else {
                self.counters.insert(key, value);
            }
        }
    }

    fn revision_of(&self, key: Key) -> Option<u64> {
        self.records.get(&key).map(|record| record.revision)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::future::{Ready, ready};

    use uuid::Uuid;

    use super::*;
    use crate::clock::ManualClock;
    use crate::store::conformance::{Harness, suite};

    mod one_partition {
        use super::*;
        suite!(|| fresh(1));
    }

    mod several_partitions {
        use super::*;
        suite!(|| fresh(16));
    }

    pub(crate) fn fresh(partitions: u16) -> Ready<Harness> {
        let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
        let keyspace = Keyspace::new(Uuid::from_u128(7), partitions, [7; 32]);
        ready(Harness::new(MemoryStore::new(keyspace, clock.clone()), clock, None))
    }
}
