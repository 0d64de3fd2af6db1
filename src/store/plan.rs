//! The write set of a change: what differs between the record before and after, never written by hand.

use std::borrow::Cow;

use bytes::Bytes;

use super::codec::{bodies_of, detach, encode, must_detach};
use super::{Check, Counter, Index, IndexEntry, Key, Keyspace, Mark, Put, WriteSet};
use crate::operation::entries::{counter, entries};
use crate::operation::{Change, Operation, Record, Stamps};

/// A record as it was read, with the stamps that the store put on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
    /// What was decided upon.
    pub record: Record,
    /// Its stamps.
    pub stamps: Stamps,
}

/// Everything that a change writes; `note` goes out with the hint, if there is one.
pub fn write_set(
    keyspace: &Keyspace,
    key: Key,
    before: Option<&Before>,
    change: &Change,
    note: &str,
) -> WriteSet {
    let partition = keyspace.partition(key);
    let check = before.map_or(Check::Absent(key), |before| Check::At(key, before.stamps.revision));
    let mut set = WriteSet::new(partition, check);
    set.checks.extend(change.not_before.map(Check::TimeAtLeast));

    let mut after = Cow::Borrowed(&change.record);
    let mut new_bodies = Vec::new();
    if after.as_ref().as_ref().is_some_and(must_detach) {
        // Only what must be changed is copied.
        let record = after.to_mut().as_mut();
        new_bodies = record.map(|record| detach(record, key)).unwrap_or_default();
    }
    let after = after.as_ref().as_ref();
    let old = before.map(|before| &before.record);
    index_difference(&mut set, old, after, key);
    body_difference(&mut set, old, after, new_bodies, key);
    counter_difference(&mut set, old, after);
    match after {
        None => set.deletes.push(key),
        Some(record) => {
            let stamps = before.map(|before| before.stamps).unwrap_or_default();
            let visible = if change.visible { Mark::New } else { Mark::Keep(stamps.visible) };
            let fencing = if change.leases { Mark::New } else { Mark::Keep(stamps.fencing) };
            set.puts.push(Put { key, visible, fencing, value: encode(record) });
        }
    }
    if change.visible || becomes_ready(old, after) {
        set.hint = Some((key, Bytes::copy_from_slice(note.as_bytes())));
    }
    set
}

/// Whether a worker may take it now and could not before.
pub fn becomes_ready(old: Option<&Record>, new: Option<&Record>) -> bool {
    let ready = |record: Option<&Record>| {
        record.and_then(Record::operation).is_some_and(|operation| operation.places.ready.is_some())
    };
    ready(new) && !ready(old)
}

impl Record {
    /// The operation, unless it is a tombstone.
    pub fn operation(&self) -> Option<&Operation> {
        match self {
            Self::Operation(operation) => Some(operation),
            Self::Tombstone(_) => None,
        }
    }
}

/// An operation has but a few entries, so looking through all beats any set.
fn index_difference(set: &mut WriteSet, old: Option<&Record>, new: Option<&Record>, key: Key) {
    let all = |record: Option<&Record>| {
        record.map(|record| entries(record, key.as_bytes())).unwrap_or_default()
    };
    let (mut old, mut new) = (all(old), all(new));
    old.retain(|entry| {
        let Some(same) = new.iter().position(|other| other == entry) else { return true };
        new.remove(same);
        false
    });
    let sorted = |mut entries: Vec<(Cow<'static, str>, Vec<u8>)>| -> Vec<IndexEntry> {
        entries.sort_unstable();
        let entry =
            |(index, member)| IndexEntry { index: Index::new(index), member: Bytes::from(member) };
        entries.into_iter().map(entry).collect()
    };
    (set.removals, set.additions) = (sorted(old), sorted(new));
}

fn body_difference(
    set: &mut WriteSet,
    old: Option<&Record>,
    new: Option<&Record>,
    bodies: Vec<(super::BodyKey, Bytes)>,
    key: Key,
) {
    let all =
        |record: Option<&Record>| record.map(|record| bodies_of(record, key)).unwrap_or_default();
    let (old, new) = (all(old), all(new));
    set.body_deletes = old.iter().filter(|body| !new.contains(body)).copied().collect();
    set.body_puts = bodies.into_iter().filter(|(body, _)| !old.contains(body)).collect();
}

fn counter_difference(set: &mut WriteSet, old: Option<&Record>, new: Option<&Record>) {
    let (old, new) = (old.and_then(counter), new.and_then(counter));
    if old != new {
        set.counters.extend(old.map(|name| Counter { name: name.into(), change: -1 }));
        set.counters.extend(new.map(|name| Counter { name: name.into(), change: 1 }));
    }
}
