//! Reading records. One that cannot be read costs only itself: it is noted here, and everybody else goes on without it.
//!
//! It is never removed because it cannot be read. Only `delete` removes it, unless a newer longhaul wrote it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::engine::error::{Error, Result};
use crate::engine::transact::Observed;
use crate::operation::Record;
use crate::operation::name::Name;
use crate::record::{self, AnyRecord, Before};
use crate::store::{
    Check, CommitError, Entry, Index, IndexEntry, Key, Keyspace, Record as Stored, StoreError,
    WriteSet,
};

/// The records that this server met and could not read.
#[derive(Default)]
pub(in crate::engine) struct Unreadable(Mutex<Known>);

#[derive(Default)]
struct Known {
    keys: HashSet<Key>,
    /// When the log last named one.
    said: Option<Duration>,
}

/// A record that cannot be read.
#[derive(Debug)]
pub(in crate::engine) struct Damage {
    /// Its visible revision, as far as that is known.
    pub(in crate::engine) revision: u64,
    /// What it is compared by before it is removed.
    check: Check,
    /// A newer longhaul wrote it: this one leaves it alone.
    newer: bool,
}

/// What is stored under a key.
pub(in crate::engine) type Found<T> = std::result::Result<Option<T>, Damage>;

/// How a stored record is read.
type Parse<T> = fn(&Keyspace, Key, &Stored) -> std::result::Result<T, StoreError>;

impl Unreadable {
    /// How many there are; whoever takes the first of an index takes so many more, to get past them.
    pub(in crate::engine) fn count(&self) -> usize {
        self.lock().keys.len()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Reads records of one kind, each on its own: damage to one does not hide the others.
    pub(in crate::engine) async fn read_each<K: Observed>(
        &self,
        keys: &[Key],
    ) -> std::result::Result<Vec<Found<Before<K>>>, StoreError> {
        self.read_as(keys, record::read_at::<K>).await
    }

    /// Reads records of whichever kinds, each on its own.
    pub(in crate::engine) async fn read_any(
        &self,
        keys: &[Key],
    ) -> std::result::Result<Vec<Found<AnyRecord>>, StoreError> {
        self.read_as(keys, AnyRecord::read_at).await
    }

    async fn read_as<T>(
        &self,
        keys: &[Key],
        parse: Parse<T>,
    ) -> std::result::Result<Vec<Found<T>>, StoreError> {
        match self.inner.store.get(keys).await {
            Ok(records) => Ok(keys
                .iter()
                .zip(records)
                .map(|(key, record)| self.take_apart(*key, record, parse))
                .collect()),
            Err(StoreError::Damaged(_)) => {
                let mut found = Vec::with_capacity(keys.len());
                for key in keys {
                    found.push(match self.inner.store.get(&[*key]).await {
                        Ok(mut records) => self.take_apart(*key, records.pop().flatten(), parse),
                        Err(StoreError::Damaged(cause)) => {
                            self.note_unreadable(*key, &cause);
                            // Its revision cannot be compared. Nobody writes over what they cannot read.
                            let check = Check::TimeAtLeast(Timestamp::EPOCH);
                            Err(Damage { revision: 0, check, newer: false })
                        }
                        Err(away) => return Err(away),
                    });
                }
                Ok(found)
            }
            Err(away) => Err(away),
        }
    }

    /// Reads a record.
    pub(in crate::engine) async fn read<K: Observed>(&self, key: Key) -> Result<Option<Before<K>>> {
        let found = self.read_each(&[key]).await?.pop();
        found.map_or(Ok(None), |found| found.map_err(|_| Error::unreadable()))
    }

    fn take_apart<T>(&self, key: Key, record: Option<Stored>, parse: Parse<T>) -> Found<T> {
        let Some(record) = record else { return Ok(None) };
        match parse(self.inner.store.keyspace(), key, &record) {
            Ok(found) => {
                self.note_readable(key);
                Ok(Some(found))
            }
            Err(error) => {
                self.note_unreadable(key, &error.to_string());
                let check = Check::At(key, record.revision);
                let newer = matches!(error, StoreError::Newer(_));
                Err(Damage { revision: record.visible_revision, check, newer })
            }
        }
    }

    /// Removes a record that cannot be read; whether there was one.
    ///
    /// Which entries lead to it is not known. Whoever meets one of them removes it.
    pub(in crate::engine) async fn delete_unreadable(&self, name: &Name) -> Result<bool> {
        let key = self.key(name);
        let Some(Err(damage)) = self.read_each::<Record>(&[key]).await?.pop() else {
            return Ok(false);
        };
        if damage.newer {
            return Err(Error::newer());
        }
        let mut set = WriteSet::new(self.partition(key), damage.check);
        set.deletes.push(key);
        set.hint = Some((key, bytes::Bytes::new()));
        let deleted = self.inner.store.commit(vec![set]).await.pop();
        deleted.unwrap_or(Err(CommitError::Conflict)).map_err(|error| match error {
            CommitError::Unavailable(error) => Box::<Error>::from(error),
            _ => Error::busy(name),
        })?;
        tracing::warn!(%name, "a record that cannot be read was deleted, as a caller asked");
        self.note_readable(key);
        self.inner.hub.refresh(key);
        Ok(true)
    }

    /// Removes entries that lead nowhere, unless there is a record by then.
    pub(in crate::engine) async fn drop_orphans(&self, index: &Index, orphans: Vec<Entry>) {
        let sets: Vec<WriteSet> = orphans
            .into_iter()
            .filter_map(|entry| {
                let mut set = WriteSet::new(entry.partition, Check::Absent(entry.key()?));
                set.removals.push(IndexEntry { index: index.clone(), member: entry.member });
                Some(set)
            })
            .collect();
        if !sets.is_empty() {
            // Where that fails, whoever meets them next tries again.
            drop(self.inner.store.commit(sets).await);
        }
    }

    /// Counts it, and says so in the log: the first at once, others at most once in ten seconds.
    pub(in crate::engine) fn note_unreadable(&self, key: Key, cause: &str) {
        let now = self.inner.clock.elapsed();
        let mut known = self.inner.unreadable.lock();
        if known.keys.len() >= MOST_KNOWN || !known.keys.insert(key) {
            return;
        }
        let count = known.keys.len();
        self.inner.metrics.unreadable.set(count as i64);
        if known.said.is_some_and(|said| now.saturating_sub(said) < QUIET) {
            return;
        }
        known.said = Some(now);
        drop(known);
        tracing::error!(
            ?key,
            cause,
            count,
            "a record cannot be read; everything else goes on without it, and deleting its operation removes it"
        );
    }

    fn note_readable(&self, key: Key) {
        let mut known = self.inner.unreadable.lock();
        if known.keys.remove(&key) {
            self.inner.metrics.unreadable.set(known.keys.len() as i64);
        }
    }
}

/// Beyond so many they are no longer told apart.
const MOST_KNOWN: usize = 10_000;
/// How long the log says nothing of further ones.
const QUIET: Duration = Duration::from_secs(10);
