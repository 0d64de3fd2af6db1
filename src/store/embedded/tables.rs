//! The data on disk: fjall's keyspaces, and the form of their keys and values.

use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;
use fjall::{
    Database, Guard, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable,
};

use crate::store::backend::Record;
use crate::store::error::StoreError;
use crate::store::index::{Entry, Scan};
use crate::store::key::{BodyKey, Key, Partition};

/// One of the keyspaces that write sets change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Records,
    Bodies,
    Index,
    Counters,
}

impl Table {
    pub(super) const ALL: [Self; 4] = [Self::Records, Self::Bodies, Self::Index, Self::Counters];

    const fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Bodies => "bodies",
            Self::Index => "index",
            Self::Counters => "counters",
        }
    }

    /// Memory that it may fill before it goes to a sorted file.
    const fn memtable_bytes(self) -> u64 {
        match self {
            Self::Records | Self::Bodies | Self::Index => LARGEST_MEMTABLE,
            Self::Counters => 8 << 20,
        }
    }
}

/// How far the database has come. Every group writes it into every table, because fjall moves each of them from the
/// journal to sorted files on its own: a journal that lost its end shows in at least one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HighestWritten {
    /// The last revision.
    pub(super) revision: u64,
    /// The sequence of the last hint.
    pub(super) sequence: u64,
}

impl HighestWritten {
    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.revision.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (revision, sequence) = bytes.split_first_chunk()?;
        let sequence = u64::from_be_bytes(sequence.try_into().ok()?);
        Some(Self { revision: u64::from_be_bytes(*revision), sequence })
    }
}

/// A range of whole keys.
pub(super) type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The open database.
pub(super) struct Tables {
    database: Database,
    records: Keyspace,
    bodies: Keyspace,
    index: Keyspace,
    counters: Keyspace,
    meta: Keyspace,
}

impl Tables {
    /// Opens the database in that directory, or makes an empty one there.
    pub(super) fn open(path: &Path) -> fjall::Result<Self> {
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            // Every batch sets its own durability.
            .manual_journal_persist(true)
            .open()?;
        let open = |table: Table| {
            database.keyspace(table.name(), || {
                KeyspaceCreateOptions::default().max_memtable_size(table.memtable_bytes())
            })
        };
        Ok(Self {
            records: open(Table::Records)?,
            bodies: open(Table::Bodies)?,
            index: open(Table::Index)?,
            counters: open(Table::Counters)?,
            meta: database.keyspace("meta", KeyspaceCreateOptions::default)?,
            database,
        })
    }

    /// Moves everything from the journal to sorted files.
    #[cfg(test)]
    pub(super) fn flush(&self) -> fjall::Result<()> {
        Table::ALL.iter().try_for_each(|table| self.keyspace(*table).rotate_memtable_and_wait())
    }

    /// The keys of all tables but those that every database has, and the bytes of their files, once these hold nothing that
    /// was removed.
    #[cfg(test)]
    pub(super) fn compacted(&self) -> fjall::Result<(usize, u64)> {
        self.flush()?;
        let (mut keys, mut bytes) = (0, 0);
        for keyspace in Table::ALL.map(|table| self.keyspace(table)) {
            keyspace.major_compact()?;
            // A table that was never written has no note of its progress.
            keys += keyspace.len()?.saturating_sub(1);
            bytes += keyspace.disk_space();
        }
        Ok((keys, bytes))
    }

    /// Fails where writing would: a task of the database that failed stops all later writes.
    pub(super) fn check(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::Buffer)
    }

    /// Writes the root record without the journal: damage to the journal must not change the identity of the store.
    pub(super) fn put_root(&self, root: &[u8]) -> fjall::Result<()> {
        let mut ingestion = self.meta.start_ingestion()?;
        ingestion.write(ROOT_KEY, root)?;
        ingestion.finish()?;
        self.database.persist(PersistMode::SyncAll)
    }

    pub(super) fn root(&self) -> fjall::Result<Option<fjall::Slice>> {
        self.meta.get(ROOT_KEY)
    }

    /// How far each table has come.
    pub(super) fn progress(&self) -> fjall::Result<[HighestWritten; 4]> {
        let mut all = [HighestWritten::default(); 4];
        for (progress, table) in all.iter_mut().zip(Table::ALL) {
            let stored = self.get(table, PROGRESS_KEY)?;
            *progress =
                stored.and_then(|bytes| HighestWritten::from_bytes(&bytes)).unwrap_or_default();
        }
        Ok(all)
    }

    /// Applies the changes at once and returns when they are on disk; no reader sees them earlier.
    pub(super) fn write<'a>(
        &self,
        changes: impl Iterator<Item = (Table, &'a fjall::Slice, &'a Option<fjall::Slice>)>,
        progress: HighestWritten,
    ) -> fjall::Result<()> {
        let mut batch: OwnedWriteBatch =
            self.database.batch().durability(Some(PersistMode::SyncData));
        for (table, key, value) in changes {
            match value {
                Some(value) => batch.insert(self.keyspace(table), key.clone(), value.clone()),
                None => batch.remove(self.keyspace(table), key.clone()),
            }
        }
        for table in Table::ALL {
            batch.insert(self.keyspace(table), PROGRESS_KEY, progress.to_bytes());
        }
        batch.commit()
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> fjall::Result<Option<fjall::Slice>> {
        self.keyspace(table).get(key)
    }

    /// Several records as of one moment.
    pub(super) fn records(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        if let [key] = keys {
            // The most frequent read needs no snapshot to be of one moment.
            let stored = self.records.get(key.as_bytes()).map_err(unreadable)?;
            return Ok(vec![stored.map(|bytes| decode_record(*key, &bytes)).transpose()?]);
        }
        let snapshot = self.database.snapshot();
        keys.iter()
            .map(|key| {
                let stored = snapshot.get(&self.records, key.as_bytes()).map_err(unreadable)?;
                stored.map(|bytes| decode_record(*key, &bytes)).transpose()
            })
            .collect()
    }

    pub(super) fn bodies(&self, keys: &[BodyKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let snapshot = self.database.snapshot();
        keys.iter()
            .map(|key| {
                let stored = snapshot.get(&self.bodies, key.to_bytes()).map_err(unreadable)?;
                Ok(stored.map(|bytes| Bytes::copy_from_slice(&bytes)))
            })
            .collect()
    }

    /// Several counters as of one moment.
    pub(super) fn counters(&self, family: &str, names: &[Bytes]) -> Result<Vec<i64>, StoreError> {
        let snapshot = self.database.snapshot();
        let value = |name: &Bytes| {
            let stored = snapshot.get(&self.counters, counter_key(family, name));
            stored.map_err(unreadable)?.map_or(Ok(0), |bytes| {
                decode_counter(&bytes).ok_or_else(|| StoreError::Damaged("a counter".to_owned()))
            })
        };
        names.iter().map(value).collect()
    }

    /// The names of the first counters of a family.
    pub(super) fn counter_names(
        &self,
        family: &str,
        limit: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let prefix = counter_key(family, &[]);
        let name = |guard: Guard| {
            let key = guard.key().map_err(unreadable)?;
            Ok(Bytes::copy_from_slice(&key[prefix.len()..]))
        };
        self.counters.prefix(&prefix).take(limit).map(name).collect()
    }

    pub(super) fn scan(&self, scan: &Scan) -> Result<Vec<Entry>, StoreError> {
        let name = scan.index.as_str();
        let whole = |member: &Bytes| index_key(name, member);
        let from = match &scan.from {
            Bound::Unbounded => Bound::Included(index_key(name, &[])),
            bound => bound.as_ref().map(whole),
        };
        let to = match &scan.to {
            Bound::Unbounded => Bound::Excluded(end_of_index(name)),
            bound => bound.as_ref().map(whole),
        };
        let found = self.index.range((from, to));
        let entry = |guard: Guard| {
            let key = guard.key().map_err(unreadable)?;
            let member = Bytes::copy_from_slice(&key[name.len() + 1..]);
            Ok(Entry { member, partition: Partition(0) })
        };
        if scan.descending {
            found.rev().take(scan.limit).map(entry).collect()
        } else {
            found.take(scan.limit).map(entry).collect()
        }
    }

    /// Keys of records after `after`, in ascending order.
    pub(super) fn keys(&self, after: Option<Key>, limit: usize) -> Result<Vec<Key>, StoreError> {
        let from = after.map_or(PROGRESS_KEY.to_vec(), |after| after.as_bytes().to_vec());
        let found = self.records.range((Bound::Excluded(from), Bound::Unbounded));
        let keys = found.filter_map(|guard| match guard.key() {
            Ok(key) => key.as_ref().try_into().ok().map(|key| Ok(Key::from_bytes(key))),
            Err(error) => Some(Err(unreadable(error))),
        });
        keys.take(limit).collect()
    }

    /// All entries of the indexes whose whole keys are in the range, each as name and member.
    pub(super) fn each_entry(
        &self,
        range: KeyRange,
        mut visit: impl FnMut(&str, &[u8]),
    ) -> fjall::Result<()> {
        for guard in self.index.range(range) {
            if let Some((name, member)) = split_index_key(&guard.key()?) {
                visit(name, member);
            }
        }
        Ok(())
    }

    const fn keyspace(&self, table: Table) -> &Keyspace {
        match table {
            Table::Records => &self.records,
            Table::Bodies => &self.bodies,
            Table::Index => &self.index,
            Table::Counters => &self.counters,
        }
    }
}

/// The error for readers when the database fails: a disk may recover, a wrong checksum stays wrong.
pub(super) fn unreadable(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(_) | fjall::Error::Storage(fjall::LsmError::Io(_)) => {
            StoreError::Away(error.to_string())
        }
        error => StoreError::Damaged(error.to_string()),
    }
}

/// A record's stored form: the three stamps, then the value.
pub(super) fn encode_record(record: &Record) -> fjall::Slice {
    let mut bytes = Vec::with_capacity(STAMP_BYTES + record.value.len());
    bytes.extend(record.revision.to_be_bytes());
    bytes.extend(record.visible_revision.to_be_bytes());
    bytes.extend(record.fencing_number.to_be_bytes());
    bytes.extend(&record.value);
    bytes.into()
}

/// The revision that a stored record carries.
pub(super) fn revision_of(stored: &[u8]) -> Option<u64> {
    stored.first_chunk().copied().map(u64::from_be_bytes)
}

fn decode_record(key: Key, stored: &[u8]) -> Result<Record, StoreError> {
    let damaged = || StoreError::Damaged(format!("{key:?} is too short for a record"));
    let (stamps, value) = stored.split_at_checked(STAMP_BYTES).ok_or_else(damaged)?;
    let stamp = |at: usize| revision_of(&stamps[at..]).ok_or_else(damaged);
    Ok(Record {
        revision: stamp(0)?,
        visible_revision: stamp(8)?,
        fencing_number: stamp(16)?,
        value: Bytes::copy_from_slice(value),
    })
}

pub(super) fn decode_counter(stored: &[u8]) -> Option<i64> {
    stored.try_into().ok().map(i64::from_be_bytes)
}

/// Family, 0x00, name; never equal to [`PROGRESS_KEY`].
pub(super) fn counter_key(family: &str, name: &[u8]) -> Vec<u8> {
    debug_assert!(!family.is_empty() && !family.contains('\0'), "family {family:?}");
    [family.as_bytes(), &[0], name].concat()
}

/// Name, 0x00, member. No name holds a 0x00, so no index reaches into another.
pub(super) fn index_key(name: &str, member: &[u8]) -> Vec<u8> {
    debug_assert!(!name.is_empty() && !name.contains('\0'), "index name {name:?}");
    [name.as_bytes(), &[0], member].concat()
}

/// The keys of an index.
pub(super) fn range_of_index(name: &str) -> KeyRange {
    (Bound::Included(index_key(name, &[])), Bound::Excluded(end_of_index(name)))
}

/// The keys of all indexes whose names begin so.
pub(super) fn range_of_family(family: &str) -> KeyRange {
    // Names are UTF-8, in which no such byte occurs.
    let end = [family.as_bytes(), &[u8::MAX]].concat();
    (Bound::Included(family.as_bytes().to_vec()), Bound::Excluded(end))
}

/// The first key after all those of an index.
fn end_of_index(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[1]].concat()
}

/// Name and member of an index entry; `None` if it is not one.
pub(super) fn split_index_key(key: &[u8]) -> Option<(&str, &[u8])> {
    let end = key.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&key[..end]).ok()?;
    (!name.is_empty()).then_some((name, &key[end + 1..]))
}

/// Shorter than every record and body key, and before every index entry and counter.
const PROGRESS_KEY: &[u8] = &[0];
const ROOT_KEY: &[u8] = b"root";
const STAMP_BYTES: usize = 24;
/// The size of a table in memory before it is written to a sorted file of that size.
pub(super) const LARGEST_MEMTABLE: u64 = 32 << 20;
/// Blocks of sorted files that are cached in memory, besides the operating system's cache.
const CACHE_BYTES: u64 = 64 << 20;
/// The most journal that an open after a crash has to replay.
const JOURNAL_BYTES: u64 = 256 << 20;
