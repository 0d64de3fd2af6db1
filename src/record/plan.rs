//! The write set of a change: the difference between the records before and after, never written by hand.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

use super::kind::{Before, Derived, Kind};
use super::value::stamped;
use crate::clock::Timestamp;
use crate::store::{BodyKey, Check, Key, Keyspace, Mark, Put, Record, WriteSet};

/// The result of a decision.
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// The record under the requested key; `None` deletes it.
    pub main: Option<K>,
    /// Further records of the same partition, written by the same commit; see [`Key::beside`].
    pub also: Vec<Also>,
    /// What happened, for those who are told of it.
    pub event: Option<Also>,
    /// Whether callers can see the change: etag and watch position follow it.
    pub visible: bool,
    /// Whether it makes a lease: its revision becomes the fencing number.
    pub leases: bool,
    /// The commit is refused while the store's clock is before this.
    pub not_before: Option<Timestamp>,
}

impl<K> Change<K> {
    /// A change of one record that callers do not see.
    pub const fn of(main: Option<K>) -> Self {
        Self {
            main,
            also: Vec::new(),
            event: None,
            visible: false,
            leases: false,
            not_before: None,
        }
    }
}

/// A further record of a change, of any kind.
#[derive(Clone, Debug)]
pub struct Also(Arc<dyn Planned>);

/// One record that goes into a write set.
trait Planned: Debug + Send + Sync {
    fn add_to(&self, set: &mut WriteSet, format: u32);
}

#[derive(Debug)]
struct PlannedRecord<K> {
    key: Key,
    before: Option<Before<K>>,
    after: Option<K>,
}

impl Also {
    /// A new record; the commit is refused if there is one.
    pub fn create<K: Kind>(key: Key, record: K) -> Self {
        Self(Arc::new(PlannedRecord { key, before: None, after: Some(record) }))
    }

    /// A record that was read before; `None` deletes it. The commit is refused if it has changed since.
    pub fn replace<K: Kind>(key: Key, before: Before<K>, after: Option<K>) -> Self {
        Self(Arc::new(PlannedRecord { key, before: Some(before), after }))
    }
}

impl<K: Kind> Planned for PlannedRecord<K> {
    fn add_to(&self, set: &mut WriteSet, format: u32) {
        set.checks.push(check(self.key, self.before.as_ref()));
        let marks = Marks { visible: true, leases: false, format };
        add(set, self.key, self.before.as_ref(), self.after.as_ref(), marks);
    }
}

/// Everything that a change writes.
pub fn write_set<K: Kind>(
    keyspace: &Keyspace,
    key: Key,
    before: Option<&Before<K>>,
    change: &Change<K>,
) -> WriteSet {
    let mut set = WriteSet::new(keyspace.partition(key), check(key, before));
    set.checks.extend(change.not_before.map(Check::TimeAtLeast));
    // The records that a keyspace allows to be of a newer format are marked, so that no older server rewrites them.
    let format = keyspace.min_writer();
    let marks = Marks { visible: change.visible, leases: change.leases, format };
    add(&mut set, key, before, change.main.as_ref(), marks);
    for also in change.also.iter().chain(&change.event) {
        also.0.add_to(&mut set, format);
    }
    set.removals.sort_unstable();
    set.additions.sort_unstable();
    let old = before.map(|before| &before.record);
    let note = K::hint(old, change.main.as_ref(), change.visible);
    set.hint = note.map(|note| (key, note.encode()));
    set
}

/// Writes a record of another store as it was there, with everything that follows from it. Its new revision is not before its
/// old one, and so no later lease has a smaller fencing number.
///
/// Without `derived`, for a record that this version cannot read, the value alone is written.
pub fn copy_set(
    keyspace: &Keyspace,
    key: Key,
    record: &Record,
    bodies: Vec<(BodyKey, Bytes)>,
    derived: Option<Derived>,
) -> WriteSet {
    let mut set = WriteSet::new(keyspace.partition(key), Check::Absent(key));
    set.checks.push(Check::TimeAtLeast(Timestamp::from_micros(record.revision)));
    let (visible, fencing) =
        (Mark::Keep(record.visible_revision), Mark::Keep(record.fencing_number));
    set.puts.push(Put { key, visible, fencing, value: record.value.clone() });
    set.body_puts = bodies;
    if let Some(derived) = derived {
        set.additions = derived.entries;
        set.additions.sort_unstable();
        set.counters = derived.counters;
    }
    set
}

fn check<K>(key: Key, before: Option<&Before<K>>) -> Check {
    before.map_or(Check::Absent(key), |before| Check::At(key, before.stamps.revision))
}

/// The stamps of a write.
#[derive(Clone, Copy)]
struct Marks {
    /// The visible revision becomes the new revision.
    visible: bool,
    /// The fencing number becomes the new revision.
    leases: bool,
    /// The format in which it is written.
    format: u32,
}

fn add<K: Kind>(
    set: &mut WriteSet,
    key: Key,
    before: Option<&Before<K>>,
    after: Option<&K>,
    marks: Marks,
) {
    let mut after = after.map(Cow::Borrowed);
    let mut bodies = Vec::new();
    if let Some(record) = &mut after
        && record.must_detach()
    {
        bodies = record.to_mut().detach(key);
    }
    let (old, new) = (before.map(|before| &before.record), after.as_deref());

    let entries = |record: Option<&K>| record.map(|record| record.entries(key)).unwrap_or_default();
    let (removals, additions) = difference(entries(old), entries(new));
    set.removals.extend(removals);
    set.additions.extend(additions);

    let named = |record: Option<&K>| record.map(|record| record.bodies(key)).unwrap_or_default();
    let (gone, added) = difference(named(old), named(new));
    set.body_deletes.extend(gone);
    set.body_puts.extend(bodies.into_iter().filter(|(body, _)| added.contains(body)));

    set.counters.extend(K::counters(old, new));

    match new {
        None => set.deletes.push(key),
        Some(record) => {
            let stamps = before.map(|before| before.stamps).unwrap_or_default();
            let visible = if marks.visible { Mark::New } else { Mark::Keep(stamps.visible) };
            let fencing = if marks.leases { Mark::New } else { Mark::Keep(stamps.fencing) };
            let value = stamped(record.encode(), marks.format);
            set.puts.push(Put { key, visible, fencing, value });
        }
    }
}

/// The elements only in `old`, and those only in `new`. Records have few of each, so a linear search beats a set.
fn difference<T: PartialEq>(mut old: Vec<T>, mut new: Vec<T>) -> (Vec<T>, Vec<T>) {
    old.retain(|item| {
        let Some(same) = new.iter().position(|other| other == item) else { return true };
        new.remove(same);
        false
    });
    (old, new)
}
