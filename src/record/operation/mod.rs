//! Operations and their tombstones, the main kind of record.

mod bodies;
mod decode;
mod encode;
mod glance;
mod parts;
pub(super) mod payload;
pub(super) mod spec;
#[cfg(test)]
mod tests;
mod times;

use bytes::Bytes;

use self::parts::{OPERATION, TOMBSTONE};
use super::due::{Agent, DueIndex};
use super::kind::Kind;
use super::note::Note;
use super::plan::Change;
use super::value::{unwrap, wrap};
use crate::operation::counters::{CounterChange, counter_changes};
use crate::operation::entries::{DueClass, READY, UNFINISHED, WAITING, entries};
use crate::operation::gate::GATE;
use crate::operation::{self, Operation, Record, Stamps};
use crate::proto::longhaul::store::v1::record::Kind as Stored;
use crate::store::{BodyKey, Counter, Index, IndexEntry, Key, Keyspace};

pub use self::bodies::{Slot, attach, body_key, detach_request};
pub use self::glance::glance;
pub(super) use self::spec::{decode_callback, encode_callback};

impl Kind for Record {
    const NAME: &'static str = "an operation";
    const NUMBERS: &'static [u32] = &[OPERATION, TOMBSTONE];
    const DUE: &'static [DueIndex] = DUE;
    const PASSING: &'static [&'static str] = &[READY, UNFINISHED, WAITING, GATE];

    fn name(&self) -> String {
        Self::name(self).to_string()
    }

    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool {
        keyspace.key(Self::name(self).as_str()) == key
    }

    fn decode(value: &Bytes, stamps: Stamps) -> Option<Self> {
        match unwrap(value)? {
            Stored::Operation(operation) => {
                let operation = decode::operation(operation, stamps)?;
                Some(Self::Operation(Box::new(operation)))
            }
            Stored::Tombstone(tombstone) => decode::tombstone(tombstone).map(Self::Tombstone),
            _ => None,
        }
    }

    fn encode(&self) -> Bytes {
        match self {
            Self::Operation(operation) => wrap(OPERATION, &encode::operation(operation)),
            Self::Tombstone(tombstone) => wrap(TOMBSTONE, &encode::tombstone(tombstone)),
        }
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        entries(self, key.as_bytes())
            .into_iter()
            .map(|(index, member)| IndexEntry { index: Index::new(index), member: member.into() })
            .collect()
    }

    fn counters(before: Option<&Self>, after: Option<&Self>) -> Vec<Counter> {
        let counter =
            |CounterChange { family, name, change }| Counter { family, name: name.into(), change };
        counter_changes(before, after).into_iter().map(counter).collect()
    }

    fn bodies(&self, key: Key) -> Vec<BodyKey> {
        bodies::bodies_of(self, key)
    }

    fn must_detach(&self) -> bool {
        bodies::must_detach(self)
    }

    fn detach(&mut self, key: Key) -> Vec<(BodyKey, Bytes)> {
        bodies::detach(self, key)
    }

    fn hint(before: Option<&Self>, after: Option<&Self>, visible: bool) -> Option<Note> {
        match after.and_then(Self::operation) {
            Some(operation) if becomes_ready(before, after) => {
                Some(Note::Ready(operation.spec.queue.as_str().to_owned()))
            }
            Some(operation) if visible && waits_for_time(operation) => Some(Note::Scheduled),
            _ if ends_run(before, after) => Some(Note::Scheduled),
            _ => visible.then_some(Note::Changed),
        }
    }
}

impl From<operation::Change> for Change<Record> {
    fn from(change: operation::Change) -> Self {
        let operation::Change {
            record,
            visible,
            leases,
            not_before,
            not_after,
            answer: _,
            ended: _,
        } = change;
        Self { main: record, also: Vec::new(), event: None, visible, leases, not_before, not_after }
    }
}

/// Whether workers may take it now and could not before.
pub fn becomes_ready(before: Option<&Record>, after: Option<&Record>) -> bool {
    let ready = |record: Option<&Record>| {
        record.and_then(Record::operation).is_some_and(|operation| operation.places.ready.is_some())
    };
    ready(after) && !ready(before)
}

/// Whether the run of a job is over by this change.
pub fn ends_run(before: Option<&Record>, after: Option<&Record>) -> bool {
    let is_open = |operation: &&Operation| operation.end_time.is_none();
    let open_run = |record: Option<&Record>| {
        let operation = record.and_then(Record::operation).filter(is_open);
        operation.is_some_and(|operation| operation.spec.of_job.is_some())
    };
    open_run(before) && !open_run(after)
}

/// Whether it goes on by itself at some time.
pub fn waits_for_time(operation: &Operation) -> bool {
    let class = |class| matches!(class, DueClass::Start | DueClass::Retry | DueClass::Resume);
    operation.places.due.iter().any(|(due, _)| class(*due))
}

/// In the order in which an agent polls them.
const DUE: &[DueIndex] = &[
    due(DueClass::Grace, Agent::Reaper),
    due(DueClass::Deadline, Agent::Reaper),
    due(DueClass::Attempt, Agent::Reaper),
    due(DueClass::Lease, Agent::Reaper),
    due(DueClass::Queue, Agent::Reaper),
    due(DueClass::Start, Agent::Scheduler),
    due(DueClass::Retry, Agent::Scheduler),
    due(DueClass::Resume, Agent::Scheduler),
    due(DueClass::Retention, Agent::Janitor).on_disk(),
    due(DueClass::Tombstone, Agent::Janitor).on_disk(),
];

const fn due(class: DueClass, agent: Agent) -> DueIndex {
    DueIndex::new(class.index(), agent)
}
