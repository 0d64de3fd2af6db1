//! Handing due records to their kinds.

use std::sync::Arc;

use crate::engine::commands::apply::Commands;
use crate::engine::courier::agent::Courier;
use crate::engine::error::Error;
use crate::engine::firing::fire::Firing;
use crate::engine::gates::desk::Gates;
use crate::engine::reading::reader::Reader;
use crate::record::due::DueIndex;
use crate::record::{AnyRecord, Before, Kind};
use crate::store::{Entry, Index, Key};

/// The effect of a due entry on records of a kind.
pub(in crate::engine) trait ComesDue: Kind {
    /// Acts on records that have a due entry in `index`, which is one of [`Kind::DUE`]; returns how many changed.
    ///
    /// An entry may be early, or left over from another server's work: then it is moved or left unchanged.
    fn come_due(
        commands: &Commands,
        index: &'static DueIndex,
        found: Vec<(Key, Before<Self>)>,
    ) -> impl Future<Output = usize> + Send;
}

/// Reads due records and hands them to their kinds.
pub(in crate::engine) struct Kinds {
    reader: Arc<Reader>,
    rooms: DueRooms,
}

/// The rooms that act on what is due.
pub(in crate::engine) struct DueRooms {
    pub(in crate::engine) commands: Arc<Commands>,
    pub(in crate::engine) courier: Arc<Courier>,
    pub(in crate::engine) firing: Arc<Firing>,
    pub(in crate::engine) gates: Arc<Gates>,
}

impl Kinds {
    pub(super) const fn new(reader: Arc<Reader>, rooms: DueRooms) -> Self {
        Self { reader, rooms }
    }

    /// Acts on due entries of one index; returns how many records changed or were gone.
    pub(super) async fn act_on(&self, index: &'static DueIndex, entries: Vec<Entry>) -> usize {
        let (keys, entries): (Vec<Key>, Vec<Entry>) =
            entries.into_iter().filter_map(|entry| Some((entry.key()?, entry))).unzip();
        let records = match self.reader.read_any(&keys).await {
            Ok(records) => records,
            Err(error) => {
                self.rooms.commands.context().log_failure(
                    "could not read due records; trying again",
                    &Box::<Error>::from(error),
                );
                return 0;
            }
        };
        let (mut found, mut orphans) = (Vec::new(), Vec::new());
        for ((key, entry), record) in keys.into_iter().zip(entries).zip(records) {
            match record {
                Ok(Some(record)) if record.due_indexes().contains(index) => {
                    found.push((key, record));
                }
                Ok(Some(_)) => {
                    let cause =
                        format!("an entry of {} leads to a record of another kind", index.name);
                    self.reader.note_unreadable(key, &cause);
                }
                Ok(None) => orphans.push(entry),
                // Noted where it was read.
                Err(_) => {}
            }
        }
        let gone = orphans.len();
        self.reader.drop_orphans(&Index::new(index.name), orphans).await;
        gone + self.act_by_kind(index, found).await
    }

    /// Hands each record to its kind.
    async fn act_by_kind(&self, index: &'static DueIndex, found: Vec<(Key, AnyRecord)>) -> usize {
        let (mut operations, mut gates) = (Vec::with_capacity(found.len()), Vec::new());
        let (mut jobs, mut ends) = (Vec::new(), Vec::new());
        let (mut events, mut deliveries) = (Vec::new(), Vec::new());
        #[cfg(test)]
        let mut samples = Vec::new();
        for (key, record) in found {
            match record {
                AnyRecord::Operation(before) => operations.push((key, before)),
                AnyRecord::Job(before) => jobs.push((key, *before)),
                AnyRecord::ExecutionEnd(before) => ends.push((key, before)),
                AnyRecord::Event(before) => events.push((key, before)),
                AnyRecord::Delivery(before) => deliveries.push((key, *before)),
                // They have no due indexes.
                AnyRecord::Server(_)
                | AnyRecord::Execution(_)
                | AnyRecord::TypeSets(_)
                | AnyRecord::Endpoint(_)
                | AnyRecord::Queue(_)
                | AnyRecord::Token(_) => {}
                AnyRecord::Gate(before) => gates.push(before.record.name),
                #[cfg(test)]
                AnyRecord::Sample(before) => samples.push((key, before)),
            }
        }
        let changed = act(&self.rooms.commands, index, operations).await
            + self.rooms.firing.fire(jobs).await
            + self.rooms.firing.settle(ends).await
            + self.rooms.gates.check(gates).await
            + self.rooms.courier.resolve(events).await
            + self.rooms.courier.forget(deliveries).await;
        #[cfg(test)]
        let changed = changed + act(&self.rooms.commands, index, samples).await;
        changed
    }
}

async fn act<K: ComesDue>(
    commands: &Commands,
    index: &'static DueIndex,
    found: Vec<(Key, Before<K>)>,
) -> usize {
    if found.is_empty() { 0 } else { K::come_due(commands, index, found).await }
}
