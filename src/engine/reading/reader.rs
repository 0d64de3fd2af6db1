//! Reads records. One unreadable record affects only itself: it is noted here, and all others still work.
//!
//! It is not removed for being unreadable. Only `delete` removes it, unless a newer longhaul wrote it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::error::{Error, Result};
use crate::engine::reading::recent::Recent;
use crate::engine::reading::view::View;
use crate::operation::name::Name;
use crate::operation::{Operation, Record, Rejection};
use crate::record::{self, AnyRecord, Before, Kind};
use crate::store::{
    Check, CommitError, Entry, Index, IndexEntry, Key, Keyspace, Partition, Record as Stored,
    StoreError, WriteSet,
};

/// Reads records for all rooms.
pub(in crate::engine) struct Reader {
    context: Arc<Context>,
    /// This server's last writes to leased operations.
    pub(in crate::engine) recent: Recent,
    unreadable: Mutex<Unreadable>,
    /// By partition: how often the store may have gone back.
    generations: Vec<AtomicU64>,
}

/// The records that this server met and could not read.
#[derive(Default)]
struct Unreadable {
    keys: HashSet<Key>,
    /// When the log last named one.
    said: Option<Duration>,
}

/// A record that cannot be read.
#[derive(Debug)]
pub(in crate::engine) struct Damage {
    /// Its visible revision, if known.
    pub(in crate::engine) revision: u64,
    /// The bytes to compare before it is removed.
    check: Check,
    /// A newer longhaul wrote it: this one leaves it alone.
    newer: bool,
}

impl Damage {
    /// The error for callers.
    pub(in crate::engine) fn error(&self) -> Box<Error> {
        if self.newer { Error::newer() } else { Error::unreadable() }
    }

    /// Leaves it out of what was read, unless a newer longhaul wrote it: servers of that version can read it.
    pub(in crate::engine) fn left_out(self) -> Result<()> {
        if self.newer { Err(Error::newer()) } else { Ok(()) }
    }
}

/// The content of a key.
pub(in crate::engine) type Lookup<T> = std::result::Result<Option<T>, Damage>;

/// How a stored record is read.
type Parse<T> = fn(&Keyspace, Key, &Stored) -> std::result::Result<T, StoreError>;

impl Reader {
    pub(in crate::engine) fn new(context: Arc<Context>) -> Self {
        let partitions = context.store.keyspace().partitions();
        Self {
            context,
            recent: Recent::default(),
            unreadable: Mutex::default(),
            generations: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The generation that a read or commit begun now belongs to.
    pub(in crate::engine) fn generation(&self, partition: Partition) -> u64 {
        self.generations[usize::from(partition.0)].load(Ordering::Acquire)
    }

    /// The store may have gone back in these partitions: earlier reads no longer count.
    pub(in crate::engine) fn went_back(&self, partitions: &[Partition]) {
        self.recent.clear();
        for partition in partitions {
            self.generations[usize::from(partition.0)].fetch_add(1, Ordering::AcqRel);
        }
    }

    /// How many records cannot be read; a scan from the head of an index reads so many more, to get past them.
    pub(in crate::engine) fn unreadable_count(&self) -> usize {
        self.unreadable().keys.len()
    }

    /// Reads records of one kind, each on its own: damage to one does not affect the others.
    pub(in crate::engine) async fn read_each<K: Kind>(
        &self,
        keys: &[Key],
    ) -> std::result::Result<Vec<Lookup<Before<K>>>, StoreError> {
        self.read_as(keys, record::read_at::<K>).await
    }

    /// Reads records of whichever kinds, each on its own.
    pub(in crate::engine) async fn read_any(
        &self,
        keys: &[Key],
    ) -> std::result::Result<Vec<Lookup<AnyRecord>>, StoreError> {
        self.read_as(keys, AnyRecord::read_at).await
    }

    async fn read_as<T>(
        &self,
        keys: &[Key],
        parse: Parse<T>,
    ) -> std::result::Result<Vec<Lookup<T>>, StoreError> {
        match self.context.store.get(keys).await {
            Ok(records) => Ok(keys
                .iter()
                .zip(records)
                .map(|(key, record)| self.take_apart(*key, record, parse))
                .collect()),
            Err(StoreError::Damaged(_)) => {
                let mut found = Vec::with_capacity(keys.len());
                for key in keys {
                    found.push(match self.context.store.get(&[*key]).await {
                        Ok(mut records) => self.take_apart(*key, records.pop().flatten(), parse),
                        Err(StoreError::Damaged(cause)) => {
                            self.note_unreadable(*key, &cause);
                            // Its revision cannot be compared. An unreadable record is never overwritten.
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
    pub(in crate::engine) async fn read<K: Kind>(&self, key: Key) -> Result<Option<Before<K>>> {
        let found = self.read_each(&[key]).await?.pop();
        found.map_or(Ok(None), |found| found.map_err(|damage| damage.error()))
    }

    /// Reads an operation with its payloads.
    pub(in crate::engine) async fn view(&self, name: &Name) -> Result<Arc<View>> {
        let key = self.context.key(name);
        let mut missed = None;
        for _ in 0..READS {
            let (operation, revision) = self.head(name).await?;
            if let Some(view) = View::load(&*self.context.store, key, *operation).await? {
                return Ok(view);
            }
            // Read twice without a write in between: the payload is not being replaced, it is lost.
            if missed.replace(revision) == Some(revision) {
                return Err(Error::internal(&format!("a payload of {name} is missing")));
            }
        }
        Err(Error::busy(name))
    }

    /// Reads the operation without its large payloads, and the revision of its record.
    pub(in crate::engine) async fn head(&self, name: &Name) -> Result<(Box<Operation>, u64)> {
        let key = self.context.key(name);
        let before = self.read::<Record>(key).await?.ok_or_else(|| Error::not_found(name))?;
        if let Some(gone) = before.record.gone(self.context.now(key)) {
            return Err(gone.into());
        }
        let revision = before.stamps.revision;
        match before.record {
            Record::Operation(operation) => Ok((operation, revision)),
            Record::Tombstone(_) => Err(Rejection::Expired(name.clone()).into()),
        }
    }

    fn take_apart<T>(&self, key: Key, record: Option<Stored>, parse: Parse<T>) -> Lookup<T> {
        let Some(record) = record else { return Ok(None) };
        match parse(self.context.store.keyspace(), key, &record) {
            Ok(found) => {
                self.note_readable(key);
                Ok(Some(found))
            }
            Err(error) => {
                let check = Check::At(key, record.revision);
                let newer = matches!(error, StoreError::Newer(_));
                self.note(key, &error.to_string(), newer);
                Err(Damage { revision: record.visible_revision, check, newer })
            }
        }
    }

    /// Removes an unreadable record; returns whether there was one.
    ///
    /// Its index entries are not known. A later scan that finds one of them removes it.
    pub(in crate::engine) async fn delete_unreadable(&self, name: &Name) -> Result<bool> {
        let key = self.context.key(name);
        let Some(Err(damage)) = self.read_each::<Record>(&[key]).await?.pop() else {
            return Ok(false);
        };
        if damage.newer {
            return Err(damage.error());
        }
        let mut set = WriteSet::new(self.context.partition(key), damage.check);
        set.deletes.push(key);
        set.hint = Some((key, bytes::Bytes::new()));
        let deleted = self.context.store.commit(vec![set]).await.pop();
        deleted.unwrap_or(Err(CommitError::Conflict)).map_err(|error| match error {
            CommitError::Unavailable(error) => Box::<Error>::from(error),
            _ => Error::busy(name),
        })?;
        tracing::warn!(%name, "a record that cannot be read was deleted, as a caller asked");
        self.note_readable(key);
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
            // If this fails, the next scan that finds them tries again.
            drop(self.context.store.commit(sets).await);
        }
    }

    /// Counts a damaged record, and logs it.
    pub(in crate::engine) fn note_unreadable(&self, key: Key, cause: &str) {
        self.note(key, cause, false);
    }

    /// Counts a record that cannot be read, and logs it: the first at once, others at most once in ten seconds.
    fn note(&self, key: Key, cause: &str, newer: bool) {
        let now = self.context.clock.elapsed();
        let mut unreadable = self.unreadable();
        if unreadable.keys.len() >= MOST_KNOWN || !unreadable.keys.insert(key) {
            return;
        }
        let count = unreadable.keys.len();
        self.context.metrics.unreadable.set(count as i64);
        if unreadable.said.is_some_and(|said| now.saturating_sub(said) < QUIET) {
            return;
        }
        unreadable.said = Some(now);
        drop(unreadable);
        if newer {
            tracing::error!(
                ?key,
                cause,
                count,
                "a record was written by a newer longhaul; this server leaves it alone, replace it with one of that version"
            );
        } else {
            tracing::error!(
                ?key,
                cause,
                count,
                "a record cannot be read; all others still work, and deleting its operation removes it"
            );
        }
    }

    fn note_readable(&self, key: Key) {
        let mut unreadable = self.unreadable();
        if unreadable.keys.remove(&key) {
            self.context.metrics.unreadable.set(unreadable.keys.len() as i64);
        }
    }

    fn unreadable(&self) -> MutexGuard<'_, Unreadable> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Beyond this many they are no longer told apart.
const MOST_KNOWN: usize = 10_000;
/// The interval without log lines for further ones.
const QUIET: Duration = Duration::from_secs(10);
/// A record may change between the read of its head and of its bodies, but hardly this often in a row.
pub(in crate::engine) const READS: usize = 10;
