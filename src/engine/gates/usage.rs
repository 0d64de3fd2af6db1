//! Which slots of a gate are used, as the operations say, and how many leases of a queue have none.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::context::Context;
use crate::engine::reading::reader::Reader;
use crate::operation::Record;
use crate::operation::counters::{OF_QUEUES, queue_count};
use crate::operation::gate::SLOT_CHECK;
use crate::record::gate::{GateRecord, GateSlot};
use crate::store::{Key, StoreError};

/// Reads what operations say of their slots.
pub(super) struct SlotUsage {
    context: Arc<Context>,
    reader: Arc<Reader>,
}

impl SlotUsage {
    pub(super) const fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        Self { context, reader }
    }

    /// The slots that no operation uses, as far as they are old enough to tell.
    pub(super) async fn unused(
        &self,
        key: Key,
        gate: &GateRecord,
    ) -> Result<Vec<GateSlot>, StoreError> {
        let now = self.context.now(key);
        let is_old = |slot: &&GateSlot| slot.since + SLOT_CHECK <= now;
        let old: Vec<GateSlot> = gate.slots.iter().filter(is_old).copied().collect();
        let used: HashSet<GateSlot> = self.used(gate, &old).await?.into_iter().collect();
        Ok(old.into_iter().filter(|slot| !used.contains(slot)).collect())
    }

    /// How many leases of a queue have no slot: at least as many as there are. No gate has been written yet if `gate` is `None`.
    ///
    /// Leases are counted between two looks at the slots. A slot that is used at both looks belongs to a counted lease, so all
    /// other counted leases, at most, have none. Their number only falls once every server knows of the limit.
    pub(super) async fn unslotted(
        &self,
        queue: &str,
        gate: Option<&GateRecord>,
    ) -> Result<usize, StoreError> {
        let before = match gate {
            Some(gate) => self.used(gate, &gate.slots).await?,
            None => Vec::new(),
        };
        let counter = [Bytes::copy_from_slice(queue.as_bytes())];
        let counters = self.context.store.counters(OF_QUEUES, &counter).await?;
        let leases = counters.first().map_or(0, |counter| queue_count(*counter).running as usize);
        let slotted = match gate {
            Some(gate) => self.used(gate, &before).await?.len(),
            None => 0,
        };
        Ok(leases.saturating_sub(slotted))
    }

    /// Those of the slots that operations use.
    async fn used(
        &self,
        gate: &GateRecord,
        slots: &[GateSlot],
    ) -> Result<Vec<GateSlot>, StoreError> {
        let mut used = Vec::with_capacity(slots.len());
        for slots in slots.chunks(AT_ONCE) {
            let keys: Vec<Key> = slots.iter().map(|slot| slot.key).collect();
            let records = self.reader.read_each::<Record>(&keys).await?;
            for (slot, record) in slots.iter().zip(records) {
                let is_used = match &record {
                    Ok(before) => {
                        let before = before.as_ref();
                        gate.is_used(*slot, before.and_then(|before| before.record.operation()))
                    }
                    // An operation that cannot be read may run.
                    Err(_) => true,
                };
                used.extend(is_used.then_some(*slot));
            }
        }
        Ok(used)
    }
}

/// Operations that are read together.
const AT_ONCE: usize = 64;
