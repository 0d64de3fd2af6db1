//! Gates: how many operations with a concurrency key, or of a queue with a limit, may run, and which do.
//!
//! A slot is taken here first, and the operation says that it has it second; the operation gives it up first, and it is freed
//! here second. So the slots include every operation that runs, whichever step a crash follows.

use bytes::Bytes;

use super::due::{Agent, DueIndex, due_member};
use super::kind::Kind;
use super::note::Note;
use super::value::{unwrap, wrap};
use crate::clock::Timestamp;
use crate::operation::gate::{GateLimit, GateName, SLOT_CHECK};
use crate::operation::{Operation, Stamps};
use crate::proto::longhaul::store::v1 as stored;
use crate::store::{Index, IndexEntry, Key, Keyspace};

/// The index of the times at which the slots of gates are checked.
pub const CHECKS: &str = "due/gate";

/// A gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateRecord {
    /// Its name.
    pub name: GateName,
    /// How many operations may have a slot.
    pub limit: GateLimit,
    /// The slots that operations have, the oldest first.
    pub slots: Vec<GateSlot>,
    /// Of a queue: the leases without a slot, as last counted. They were given before the limit was set.
    pub unslotted: usize,
    /// More operations wait than there are slots: a new one waits behind them.
    pub crowded: bool,
    /// Where its due entry lies.
    pub check_time: Timestamp,
    /// Since when it has no slot taken, if it has none.
    pub idle_time: Option<Timestamp>,
    /// The time of the newest slot ever given.
    pub last_time: Timestamp,
}

/// A slot that an operation has, or is about to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GateSlot {
    /// The operation.
    pub key: Key,
    /// Since when. No two slots of a gate have the same time.
    pub since: Timestamp,
}

impl GateRecord {
    /// A gate that nothing has passed yet.
    pub fn new(name: GateName, limit: GateLimit, now: Timestamp) -> Self {
        Self {
            name,
            limit,
            slots: Vec::new(),
            unslotted: 0,
            crowded: false,
            check_time: now + SLOT_CHECK,
            idle_time: Some(now),
            last_time: Timestamp::EPOCH,
        }
    }

    /// The key of its record. No name leads there.
    pub fn key(keyspace: &Keyspace, name: &GateName) -> Key {
        Key::from_bytes(keyspace.hash("gate", &name.to_bytes()))
    }

    /// Whether it has no free slot. More slots may be taken than its limit allows after the limit was lowered.
    pub const fn is_full(&self) -> bool {
        self.slots.len() + self.unslotted >= self.limit.most
    }

    /// Whether that operation has a slot.
    pub fn find(&self, key: Key) -> Option<GateSlot> {
        self.slots.iter().find(|slot| slot.key == key).copied()
    }

    /// Gives a slot away.
    pub fn give(&mut self, key: Key, now: Timestamp) -> GateSlot {
        let since = now.max(Timestamp::from_micros(self.last_time.as_micros() + 1));
        (self.last_time, self.idle_time) = (since, None);
        let slot = GateSlot { key, since };
        self.slots.push(slot);
        slot
    }

    /// Frees slots.
    pub fn free(&mut self, freed: &[GateSlot], now: Timestamp) {
        self.slots.retain(|slot| !freed.contains(slot));
        if self.slots.is_empty() {
            self.idle_time.get_or_insert(now);
        }
    }

    /// Whether an operation has that slot.
    pub fn is_used(&self, slot: GateSlot, operation: Option<&Operation>) -> bool {
        let since = operation.and_then(|operation| match &self.name {
            GateName::Key { .. } => operation.admitted(),
            GateName::Queue(_) => operation.state.lease().and_then(|lease| lease.slot),
        });
        since == Some(slot.since)
    }

    fn decode_from(stored: &stored::Gate) -> Option<Self> {
        let (slots, rest) = stored.slots.as_chunks::<SLOT_BYTES>();
        let time = |micros: u64| (micros > 0).then(|| Timestamp::from_micros(micros));
        let name = if stored.queue.is_empty() {
            GateName::Key { parent: stored.parent.clone(), key: stored.key.clone() }
        } else {
            GateName::Queue(stored.queue.clone())
        };
        rest.is_empty().then_some(())?;
        Some(Self {
            name,
            limit: GateLimit { most: stored.limit as usize, revision: stored.limit_revision },
            slots: slots.iter().map(GateSlot::decode).collect::<Option<_>>()?,
            unslotted: stored.unslotted as usize,
            crowded: stored.crowded,
            check_time: Timestamp::from_micros(stored.check_time),
            idle_time: time(stored.idle_time),
            last_time: Timestamp::from_micros(stored.last_time),
        })
    }
}

impl GateSlot {
    fn encode(self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..Key::LENGTH].copy_from_slice(self.key.as_bytes());
        bytes[Key::LENGTH..].copy_from_slice(&self.since.as_micros().to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<Self> {
        let (key, since) = bytes.split_first_chunk()?;
        let since = u64::from_be_bytes(since.try_into().ok()?);
        Some(Self { key: Key::from_bytes(*key), since: Timestamp::from_micros(since) })
    }
}

impl Kind for GateRecord {
    const NAME: &'static str = "a gate";
    const NUMBERS: &'static [u32] = &[NUMBER];
    const DUE: &'static [DueIndex] = &[DueIndex::new(CHECKS, Agent::Reaper)];

    fn name(&self) -> String {
        format!("the gate of {}", self.name)
    }

    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool {
        Self::key(keyspace, &self.name) == key
    }

    fn decode(value: &Bytes, _stamps: Stamps) -> Option<Self> {
        match unwrap(value)? {
            stored::record::Kind::Gate(gate) => Self::decode_from(&gate),
            _ => None,
        }
    }

    fn encode(&self) -> Bytes {
        let (parent, key, queue) = match &self.name {
            GateName::Key { parent, key } => (parent.clone(), key.clone(), String::new()),
            GateName::Queue(queue) => (String::new(), String::new(), queue.clone()),
        };
        let gate = stored::Gate {
            parent,
            key,
            queue,
            limit: self.limit.most as u32,
            slots: self.slots.iter().flat_map(|slot| slot.encode()).collect::<Vec<u8>>().into(),
            crowded: self.crowded,
            check_time: self.check_time.as_micros(),
            idle_time: self.idle_time.map_or(0, Timestamp::as_micros),
            last_time: self.last_time.as_micros(),
            unslotted: self.unslotted as u32,
            limit_revision: self.limit.revision,
        };
        wrap(NUMBER, &gate)
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        let member = due_member(self.check_time, key).into();
        vec![IndexEntry { index: Index::new(CHECKS), member }]
    }

    /// A queue whose gate was full and has a free slot may be polled again.
    fn hint(before: Option<&Self>, after: Option<&Self>, _: bool) -> Option<Note> {
        match &before?.name {
            GateName::Queue(queue) if before?.is_full() && !after.is_some_and(Self::is_full) => {
                Some(Note::Ready(queue.clone()))
            }
            _ => None,
        }
    }
}

/// The number of the kind in a stored record.
const NUMBER: u32 = 9;
/// Bytes of a stored slot.
const SLOT_BYTES: usize = Key::LENGTH + 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_one_moment_differ_and_only_the_freed_one_goes() {
        let now = Timestamp::from_micros(1_000);
        let name = GateName::Key { parent: String::new(), key: "k".to_owned() };
        let mut gate = GateRecord::new(name, GateLimit::of_start(2), now);
        let [first, second] = [1, 2].map(|key| gate.give(Key::from_bytes([key; 16]), now));
        assert!(first.since < second.since && gate.is_full());
        gate.free(&[GateSlot { key: first.key, since: second.since }], now);
        assert!(gate.is_full(), "no operation has that slot");
        gate.free(&[first], now);
        assert_eq!(gate.slots, [second]);
        // The limit is lowered below what runs: it drains.
        gate.limit.most = 0;
        assert!(gate.is_full());
    }

    #[test]
    fn leases_without_a_slot_fill_a_gate_too() {
        let now = Timestamp::from_micros(1_000);
        let limit = GateLimit { most: 3, revision: 7 };
        let mut gate = GateRecord::new(GateName::Queue("q".to_owned()), limit, now);
        gate.unslotted = 2;
        assert!(!gate.is_full());
        gate.give(Key::from_bytes([1; 16]), now);
        assert!(gate.is_full());
    }

    #[test]
    fn a_gate_reads_back_as_it_was_written() {
        let now = Timestamp::from_micros(1_000);
        let key = GateName::Key { parent: "projects/p".to_owned(), key: "k".to_owned() };
        for name in [key, GateName::Queue("q".to_owned())] {
            let mut gate = GateRecord::new(name, GateLimit { most: 2, revision: 3 }, now);
            assert_eq!(GateRecord::decode(&gate.encode(), Stamps::default()).as_ref(), Some(&gate));
            gate.give(Key::from_bytes([7; 16]), now);
            (gate.crowded, gate.unslotted) = (true, 4);
            assert_eq!(GateRecord::decode(&gate.encode(), Stamps::default()).as_ref(), Some(&gate));
        }
    }
}
