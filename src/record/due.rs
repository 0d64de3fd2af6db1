//! Due indexes: entries ordered by the time at which something happens to their record, one index for each reason.

use crate::clock::Timestamp;
use crate::store::Key;

/// A due index, which belongs to one kind of record. Its members begin with a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueIndex {
    /// The index's name.
    pub name: &'static str,
    /// Which agent polls it.
    pub agent: Agent,
    /// Whether it fits in memory, where a store that scans disks mirrors it.
    pub in_memory: bool,
}

impl DueIndex {
    /// An index of what is going on, which fits in memory.
    pub const fn new(name: &'static str, agent: Agent) -> Self {
        Self { name, agent, in_memory: true }
    }

    /// The same index, where it may have an entry for each record and so stays on disk.
    #[must_use]
    pub const fn on_disk(self) -> Self {
        Self { in_memory: false, ..self }
    }
}

/// A background agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Ends leases, attempts, waits, deadlines and graces that took too long.
    Reaper,
    /// Continues operations at their time: starts, retries, suspensions. It polls when the next entry is due.
    Scheduler,
    /// Finds the receivers of events. It polls at once where an event is written.
    Courier,
    /// Removes operations at the end of their retention, then their tombstones. Not urgent.
    Janitor,
}

/// The member of a record's entry in a due index.
pub fn due_member(time: Timestamp, key: Key) -> Vec<u8> {
    [&time.as_micros().to_be_bytes()[..], key.as_bytes()].concat()
}

/// The time of a member of a due index.
pub fn due_time(member: &[u8]) -> Timestamp {
    Timestamp::from_micros(member.first_chunk().copied().map_or(0, u64::from_be_bytes))
}

/// The upper bound of the members up to and with `time`.
pub fn due_bound(time: Timestamp) -> Vec<u8> {
    [&time.as_micros().to_be_bytes()[..], &[u8::MAX; 17]].concat()
}
