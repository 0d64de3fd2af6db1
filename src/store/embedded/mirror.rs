//! Indexes in memory, because a scan on disk reads the tombstones of all removed entries.
//!
//! The [`Layout`] says which. An index whose entries come and go all the time is mirrored whole. One that may have an entry
//! for each record stays on disk; only a [`Floor`] is kept, below which there are none.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError, RwLock};

use bytes::Bytes;

use super::floor::{Floor, Look};
use super::tables::{Tables, range_of_family, range_of_index};
use crate::store::index::{Entry, Scan};
use crate::store::key::Partition;
use crate::store::layout::Layout;

/// Knowledge about indexes without reading the disk. Only the writer changes it, after each group is on disk.
#[derive(Debug)]
pub(super) struct Mirror {
    layout: Layout,
    whole: RwLock<HashMap<Box<str>, BTreeSet<Bytes>>>,
    floors: Mutex<HashMap<Box<str>, Floor>>,
}

impl Mirror {
    /// Reads the mirrored indexes from disk.
    pub(super) fn load(layout: &Layout, tables: &Tables) -> fjall::Result<Self> {
        let mut whole: HashMap<Box<str>, BTreeSet<Bytes>> = HashMap::new();
        let indexes = layout.in_memory.iter().map(|name| range_of_index(name));
        let families = layout.families_in_memory.iter().map(|family| range_of_family(family));
        for range in indexes.chain(families) {
            tables.each_entry(range, |name, member| add(&mut whole, name, member))?;
        }
        Ok(Self { layout: layout.clone(), whole: RwLock::new(whole), floors: Mutex::default() })
    }

    /// Applies index changes that are on disk: name, member, and whether it exists now.
    pub(super) fn publish<'a>(&self, changes: impl Iterator<Item = (&'a str, &'a [u8], bool)>) {
        let mut whole = self.whole.write().unwrap_or_else(PoisonError::into_inner);
        for (name, member, present) in changes {
            if self.layout.is_in_memory(name) {
                if present {
                    add(&mut whole, name, member);
                } else {
                    remove(&mut whole, name, member);
                }
            } else if present && self.layout.is_drained(name) {
                self.floors().entry(name.into()).or_default().lower(member);
            }
        }
    }

    /// Scans an index that [`Self::holds`].
    pub(super) fn scan(&self, scan: &Scan) -> Option<Vec<Entry>> {
        if !self.layout.is_in_memory(scan.index.as_str()) {
            return None;
        }
        let whole = self.whole.read().unwrap_or_else(PoisonError::into_inner);
        let Some(members) = whole.get(scan.index.as_str()) else { return Some(Vec::new()) };
        let entry = |member: &Bytes| Entry { member: member.clone(), partition: Partition(0) };
        let found = members.range((scan.from.clone(), scan.to.clone()));
        Some(if scan.descending {
            found.rev().take(scan.limit).map(entry).collect()
        } else {
            found.take(scan.limit).map(entry).collect()
        })
    }

    /// Scans an index on disk, from its floor where it has one.
    pub(super) fn scan_on_disk<E>(
        &self,
        scan: Scan,
        read: impl FnOnce(&Scan) -> Result<Vec<Entry>, E>,
    ) -> Result<Vec<Entry>, E> {
        let name: Box<str> = scan.index.as_str().into();
        if scan.descending || !self.layout.is_drained(&name) {
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
