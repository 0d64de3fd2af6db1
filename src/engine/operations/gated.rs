//! Starts with a concurrency key: the gate of the key is asked first.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::gates::desk::{Gates, Passage};
use crate::engine::reading::reader::Reader;
use crate::operation::gate::{Admittance, GateLimit, GateName, SLOT_WINDOW};
use crate::operation::name::Name;
use crate::operation::{Operation, Record, Start};
use crate::proto::longhaul::v1::concurrency::Policy;
use crate::record::gate::GateSlot;
use crate::store::Key;

/// Where a new operation stands at the gate of its concurrency key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GateTerms {
    pub(super) admission: Option<Admittance>,
    /// Until when the gate's answer holds.
    pub(super) not_after: Option<Timestamp>,
}

/// Asks gates for new operations.
pub(super) struct GatedStarts {
    context: Arc<Context>,
    reader: Arc<Reader>,
    gates: Arc<Gates>,
}

/// The concurrency key of a start.
pub(super) struct Gated {
    name: Name,
    key: Key,
    gate: GateName,
    limit: GateLimit,
    policy: Policy,
    slot: Option<GateSlot>,
}

impl Gated {
    /// That start, which is to have that name; `None` without a concurrency key.
    pub(super) fn of(context: &Context, name: Name, wanted: &Start) -> Option<Self> {
        let concurrency = wanted.spec.options.concurrency.as_ref()?;
        let (parent, key) = (name.parent().to_owned(), concurrency.key.clone());
        Some(Self {
            key: context.key(&name),
            gate: GateName::Key { parent, key },
            limit: GateLimit::of_start(concurrency.limit),
            policy: concurrency.policy(),
            name,
            slot: None,
        })
    }
}

impl Gated {
    /// A start with a lease in a queue with a limit.
    pub(super) fn of_queue(
        context: &Context,
        name: Name,
        wanted: &Start,
        limit: GateLimit,
    ) -> Self {
        let gate = GateName::Queue(wanted.spec.queue.as_str().to_owned());
        let key = context.key(&name);
        Self { name, key, gate, limit, policy: Policy::Reject, slot: None }
    }
}

impl GatedStarts {
    pub(super) const fn new(context: Arc<Context>, reader: Arc<Reader>, gates: Arc<Gates>) -> Self {
        Self { context, reader, gates }
    }

    /// Asks the gate of a start; `None` if it is full and the operation must not wait.
    pub(super) async fn ask(
        &self,
        gated: &mut Gated,
        wanted: &Start,
        must_run: bool,
    ) -> Result<Option<GateTerms>> {
        let waits = gated.policy != Policy::Reject && !must_run;
        let ready_time = wanted.spec.options.schedule_time;
        if waits && ready_time.is_some_and(|time| time > self.context.now(gated.key)) {
            // The gate is asked when its time has come.
            return Ok(Some(GateTerms { admission: Some(Admittance::Waiting), not_after: None }));
        }
        let standing = |admission, time: Timestamp| GateTerms {
            admission: Some(admission),
            not_after: Some(time + SLOT_WINDOW),
        };
        Ok(match self.gates.pass(&gated.gate, gated.limit, gated.key).await? {
            Passage::Slot(slot) => {
                gated.slot = Some(slot);
                Some(standing(Admittance::Admitted(slot.since), slot.since))
            }
            Passage::Full { now, .. } if waits => Some(standing(Admittance::Waiting, now)),
            Passage::Full { .. } => None,
        })
    }

    /// The gate is full, and the operation is not to wait.
    pub(super) fn refuse(gated: &Gated) -> Box<Error> {
        let Gated { name, gate, .. } = gated;
        let limit = gated.limit.most;
        let message = format!(
            "{name} is not started: the limit of {limit} running operations of {gate} is reached; try again when one has ended"
        );
        let error = Error::about(Reason::ConcurrencyConflict, name, message).with("limit", limit);
        match gate {
            GateName::Key { key, .. } => error.with("key", key),
            GateName::Queue(queue) => error.with("queue", queue),
        }
    }

    /// A slot that no operation uses.
    pub(super) fn free(&self, gated: &Gated) {
        if let Some(slot) = gated.slot {
            self.gates.free(&gated.gate, vec![slot]);
        }
    }

    /// A start that was not written by this call: its slot is free again, unless the operation of that name has it.
    pub(super) async fn settle(&self, gated: Gated) {
        let Some(slot) = gated.slot else { return };
        // Without a record another call may be about to write it: then the slot is checked later.
        if let Ok(Some(before)) = self.reader.read::<Record>(gated.key).await {
            let operation = before.record.operation();
            if operation.and_then(Operation::admitted) != Some(slot.since) {
                self.gates.free(&gated.gate, vec![slot]);
            }
        }
    }
}
