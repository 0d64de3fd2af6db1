//! One commit of a gate: slots that are free, operations that waited, and operations that ask.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::transact::{Decision, Transaction};
use crate::operation::gate::{GateLimit, GateName, SLOT_CHECK};
use crate::record::gate::{GateRecord, GateSlot};
use crate::record::{Before, Change};
use crate::store::Key;

/// What a gate answers an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Passage {
    /// It has this slot, if it is written soon.
    Slot(GateSlot),
    /// All slots are taken, as of `now`.
    Full {
        /// How many there are.
        limit: usize,
        /// When that was so.
        now: Timestamp,
    },
}

/// An operation that asks for a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) key: Key,
    /// How many operations may have a slot, as this one says.
    pub(super) limit: GateLimit,
}

/// The operations that wait at a gate, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Queued {
    pub(super) keys: Vec<Key>,
    /// How many of them take the slots of older ones; they come first.
    pub(super) preempting: usize,
    /// Whether there may be more.
    pub(super) more: bool,
}

/// One commit of a gate, and what it came to.
pub(super) struct GateTurn<'a> {
    pub(super) key: Key,
    pub(super) name: &'a GateName,
    pub(super) freed: Vec<GateSlot>,
    /// `None`: it was not looked who waits.
    pub(super) queued: Option<Queued>,
    /// The limit, for a turn without a want: of a key, if the gate has no record; of a queue, as this server knows it.
    pub(super) limit: Option<GateLimit>,
    pub(super) wants: Vec<Want>,
    /// Its slots were just checked.
    pub(super) check: bool,
    /// How many leases of its queue have no slot, if they were counted.
    pub(super) unslotted: Option<usize>,
    /// The leases without a slot must be counted before this can be decided.
    pub(super) must_count: bool,
    /// What each of the wants gets.
    pub(super) passages: Vec<Passage>,
    /// The slots of operations that waited.
    pub(super) admitted: Vec<GateSlot>,
    /// The limit before it, if this changes it.
    pub(super) former_limit: Option<usize>,
    /// The gate after it.
    pub(super) gate: Option<GateRecord>,
}

impl<'a> GateTurn<'a> {
    /// One that does nothing yet.
    pub(super) const fn new(key: Key, name: &'a GateName) -> Self {
        Self {
            key,
            name,
            freed: Vec::new(),
            queued: None,
            limit: None,
            wants: Vec::new(),
            check: false,
            unslotted: None,
            must_count: false,
            passages: Vec::new(),
            admitted: Vec::new(),
            former_limit: None,
            gate: None,
        }
    }

    /// The gate after this; `None` if there is none, or if leases must be counted first.
    fn decide_on(&mut self, before: Option<&GateRecord>, now: Timestamp) -> Option<GateRecord> {
        (self.passages, self.admitted, self.former_limit) = (Vec::new(), Vec::new(), None);
        // The newest decides: of starts the last one, of settings of a queue the last change.
        let wanted = self.wants.iter().map(|want| want.limit).max_by_key(|limit| limit.revision);
        let limit = wanted.or(self.limit);
        let new = || limit.map(|limit| GateRecord::new(self.name.clone(), limit, now));
        self.must_count = false;
        let mut gate = before.cloned().or_else(new)?;
        let known = before.map_or(0, |before| before.limit.revision);
        let replaces = wanted.or_else(|| self.limit.filter(|limit| limit.revision > 0));
        if let Some(limit) = replaces.filter(|limit| limit.revision >= known) {
            self.former_limit = (gate.limit.most != limit.most).then_some(gate.limit.most);
            gate.limit = limit;
        }
        gate.free(&self.freed, now);
        let is_changed = gate.limit.revision > known;
        gate.unslotted = self.unslotted.unwrap_or(gate.unslotted);
        self.serve_queued(&mut gate, now);
        self.serve_wants(&mut gate, now);
        let is_refused =
            self.passages.iter().any(|passage| matches!(passage, Passage::Full { .. }));
        self.must_count =
            self.unslotted.is_none() && (is_changed || (is_refused && gate.unslotted > 0));
        if self.check {
            gate.check_time = next_check(&gate, now);
        }
        if self.unslotted.is_some_and(|unslotted| unslotted > 0) || is_changed {
            // A server that did not know of the limit may have given leases meanwhile.
            gate.check_time = gate.check_time.min(now + RECOUNT);
        }
        Some(gate).filter(|_| !self.must_count)
    }

    /// Gives slots to operations that wait.
    fn serve_queued(&mut self, gate: &mut GateRecord, now: Timestamp) {
        let Some(queued) = &self.queued else { return };
        for key in &queued.keys {
            if !gate.is_full() && gate.find(*key).is_none() {
                self.admitted.push(gate.give(*key, now));
            }
        }
        let mut keys = queued.keys.iter();
        gate.crowded = queued.more || keys.any(|key| gate.find(*key).is_none());
    }

    /// Gives slots to operations that ask.
    fn serve_wants(&mut self, gate: &mut GateRecord, now: Timestamp) {
        for want in &self.wants {
            let had = match self.name {
                GateName::Key { .. } => gate.find(want.key),
                GateName::Queue(_) => None,
            };
            let is_full = gate.is_full() || gate.crowded;
            self.passages.push(match had {
                Some(slot) => Passage::Slot(slot),
                None if is_full => Passage::Full { limit: gate.limit.most, now },
                None => Passage::Slot(gate.give(want.key, now)),
            });
        }
    }

    /// Nothing has used it for a while, and nothing waits that could have found it full.
    fn is_over(&self, gate: &GateRecord, now: Timestamp) -> bool {
        let idle = gate.idle_time.is_some_and(|idle| now.since(idle) >= IDLE);
        self.check && self.queued.is_some() && idle && !gate.crowded
    }
}

/// When its slots are checked again.
fn next_check(gate: &GateRecord, now: Timestamp) -> Timestamp {
    let times = gate.slots.iter().map(|slot| slot.since + SLOT_CHECK).filter(|time| *time > now);
    times.min().unwrap_or(now + SLOT_CHECK)
}

impl Transaction for GateTurn<'_> {
    type Kind = GateRecord;

    fn key(&self) -> Key {
        self.key
    }

    fn decide(
        &mut self,
        before: Option<&Before<GateRecord>>,
        _: bool,
        now: Timestamp,
    ) -> Decision<GateRecord> {
        let before = before.map(|before| &before.record);
        let Some(gate) = self.decide_on(before, now) else {
            self.gate = before.cloned();
            return Decision::Keep;
        };
        let over = self.is_over(&gate, now);
        let is_empty = gate.slots.is_empty() && gate.unslotted == 0;
        let same = before.map_or(is_empty, |before| *before == gate);
        self.gate = Some(gate.clone());
        if over && before.is_some() {
            return Decision::Commit(Box::new(Change::of(None)));
        }
        if over || same {
            return Decision::Keep;
        }
        Decision::Commit(Box::new(Change::of(Some(gate))))
    }
}

/// How soon leases without a slot are counted again.
const RECOUNT: Duration = Duration::from_secs(1);
/// A gate that nothing has used for this long is removed. An operation that found it full is written before, if at all.
const IDLE: Duration = Duration::from_secs(20);
