//! Indexes in memory, because a scan on disk reads the tombstones of all removed entries.
//!
//! The indexes that workers and agents poll (`ready/*`, `due/*`) are mirrored whole. Retention and tombstones may have
//! as many entries as there are operations, so they stay on disk; only a [`Floor`] is kept, below which there are none.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError, RwLock};

use bytes::Bytes;

use super::floor::{Floor, Look};
use super::tables::{KeyRange, Tables, end_of_index, index_key};
use crate::store::index::{Entry, Scan};
use crate::store::key::Partition;

/// Knowledge about indexes without reading the disk. Only the writer changes it, after each group is on disk.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    whole: RwLock<HashMap<Box<str>, BTreeSet<Bytes>>>,
    floors: Mutex<HashMap<Box<str>, Floor>>,
}

impl Mirror {
    /// Whether an index is kept in memory.
    pub(super) fn holds(name: &str) -> bool {
        (name.starts_with("ready/") || name.starts_with("due/")) && !has_floor(name)
    }

    /// Reads the mirrored indexes from disk.
    pub(super) fn load(tables: &Tables) -> fjall::Result<Self> {
        let mut whole: HashMap<Box<str>, BTreeSet<Bytes>> = HashMap::new();
        for range in mirrored_ranges() {
            tables.each_entry(range, |name, member| add(&mut whole, name, member))?;
        }
        Ok(Self { whole: RwLock::new(whole), floors: Mutex::default() })
    }

    /// Applies index changes that are on disk: name, member, and whether it exists now.
    pub(super) fn publish<'a>(&self, changes: impl Iterator<Item = (&'a str, &'a [u8], bool)>) {
        let mut whole = self.whole.write().unwrap_or_else(PoisonError::into_inner);
        for (name, member, present) in changes {
            if Self::holds(name) {
                if present {
                    add(&mut whole, name, member);
                } else {
                    remove(&mut whole, name, member);
                }
            } else if present && has_floor(name) {
                self.floors().entry(name.into()).or_default().lower(member);
            }
        }
    }

    /// Scans an index that [`Self::holds`].
    pub(super) fn scan(&self, scan: &Scan) -> Vec<Entry> {
        let whole = self.whole.read().unwrap_or_else(PoisonError::into_inner);
        let Some(members) = whole.get(scan.index.as_str()) else { return Vec::new() };
        let entry = |member: &Bytes| Entry { member: member.clone(), partition: Partition(0) };
        let found = members.range((scan.from.clone(), scan.to.clone()));
        if scan.descending {
            found.rev().take(scan.limit).map(entry).collect()
        } else {
            found.take(scan.limit).map(entry).collect()
        }
    }

    /// Scans an index on disk, from its floor where it has one.
    pub(super) fn scan_on_disk<E>(
        &self,
        scan: Scan,
        read: impl FnOnce(&Scan) -> Result<Vec<Entry>, E>,
    ) -> Result<Vec<Entry>, E> {
        let name: Box<str> = scan.index.as_str().into();
        if scan.descending || !has_floor(&name) {
            return read(&scan);
        }
        let look = self.floors().entry(name.clone()).or_default().begin(&scan.from);
        let Some(Look { number, from }) = look else { return read(&scan) };
        let scan = Scan { from: Bound::Included(from), ..scan };
        // The floor may be above the whole range.
        let found = if is_empty(&scan) { Ok(Vec::new()) } else { read(&scan) };
        let reached = match (&found, &scan.to) {
            (Ok(entries), to) => entries.first().map(|entry| &entry.member).or(match to {
                Bound::Included(to) | Bound::Excluded(to) => Some(to),
                Bound::Unbounded => None,
            }),
            (Err(_), _) => None,
        };
        self.floors().entry(name).or_default().end(number, reached);
        found
    }

    fn floors(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Floor>> {
        self.floors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the range is empty by its bounds; ordered sets panic on such a range.
pub(super) fn is_empty(scan: &Scan) -> bool {
    let nothing = match (&scan.from, &scan.to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from >= to,
        _ => false,
    };
    nothing || scan.limit == 0
}

fn has_floor(name: &str) -> bool {
    ON_DISK.contains(&name)
}

fn add(whole: &mut HashMap<Box<str>, BTreeSet<Bytes>>, name: &str, member: &[u8]) {
    let member = Bytes::copy_from_slice(member);
    if let Some(members) = whole.get_mut(name) {
        members.insert(member);
    } else {
        whole.insert(name.into(), BTreeSet::from([member]));
    }
}

/// Forgets an index with its last member: queues come and go.
fn remove(whole: &mut HashMap<Box<str>, BTreeSet<Bytes>>, name: &str, member: &[u8]) {
    if let Some(members) = whole.get_mut(name) {
        members.remove(member);
        if members.is_empty() {
            whole.remove(name);
        }
    }
}

/// The ranges of index keys that are mirrored, around those that are not.
fn mirrored_ranges() -> Vec<KeyRange> {
    let mut from = b"due/".to_vec();
    let mut ranges = Vec::new();
    for name in ON_DISK {
        let to = Bound::Excluded(index_key(name, &[]));
        ranges.push((Bound::Included(std::mem::replace(&mut from, end_of_index(name))), to));
    }
    ranges.push((Bound::Included(from), Bound::Excluded(b"due0".to_vec())));
    ranges.push((Bound::Included(b"ready/".to_vec()), Bound::Excluded(b"ready0".to_vec())));
    ranges
}

/// In the order of their names.
const ON_DISK: [&str; 2] = ["due/retention", "due/tombstone"];
