//! The write set of a change: what differs between the record before and after, never written by hand.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::codec::{bodies_of, detach, encode};
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

    let mut after = change.record.clone();
    let new_bodies = after.as_mut().map(|record| detach(record, key)).unwrap_or_default();
    let old = before.map(|before| &before.record);
    index_difference(&mut set, old, after.as_ref(), key);
    body_difference(&mut set, old, after.as_ref(), new_bodies, key);
    counter_difference(&mut set, old, after.as_ref());
    match &after {
        None => set.deletes.push(key),
        Some(record) => {
            let stamps = before.map(|before| before.stamps).unwrap_or_default();
            let visible = if change.visible { Mark::New } else { Mark::Keep(stamps.visible) };
            let fencing = if change.leases { Mark::New } else { Mark::Keep(stamps.fencing) };
            set.puts.push(Put { key, visible, fencing, value: encode(record) });
        }
    }
    if change.visible || becomes_ready(old, after.as_ref()) {
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

fn index_difference(set: &mut WriteSet, old: Option<&Record>, new: Option<&Record>, key: Key) {
    let all = |record: Option<&Record>| -> BTreeSet<_> {
        record
            .map(|record| entries(record, key.as_bytes()))
            .unwrap_or_default()
            .into_iter()
            .collect()
    };
    let entry = |(index, member): &(String, Vec<u8>)| IndexEntry {
        index: Index::new(index.as_str()),
        member: Bytes::copy_from_slice(member),
    };
    let (old, new) = (all(old), all(new));
    set.removals = old.difference(&new).map(entry).collect();
    set.additions = new.difference(&old).map(entry).collect();
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
