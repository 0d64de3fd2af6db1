//! The result of a decision.

use super::entries::settle;
use super::lease::Answer;
use super::record::{Deletion, Operation, Record, Tombstone};
use super::size::further_blocks;
use crate::clock::Timestamp;
use crate::limits::TOMBSTONE;

/// The result of a command.
#[derive(Clone, Debug)]
pub enum Applied {
    /// There is something to write.
    Changed(Box<Change>),
    /// It was done before, or changes nothing.
    Unchanged(Answer),
}

/// The change to write.
#[derive(Clone, Debug)]
pub struct Change {
    /// The new record; `None` frees the name.
    pub record: Option<Record>,
    /// Whether callers can tell it from before.
    pub visible: bool,
    /// Whether it makes a lease: its revision becomes the fencing number.
    pub leases: bool,
    /// Only if the store's clock has reached this.
    pub not_before: Option<Timestamp>,
    /// Only until the store's clock has reached this.
    pub not_after: Option<Timestamp>,
    /// The answer to the caller.
    pub answer: Answer,
    /// A run of a job as it ended, where only its tombstone is left.
    pub ended: Option<Box<Operation>>,
}

/// A change that callers see, its entries put in place.
pub(super) fn visible(mut operation: Operation, now: Timestamp) -> Change {
    // If the store's clock went back, an operation must still not change before it was created.
    operation.update_time = now.max(operation.update_time);
    bookkeeping(operation, now).into_visible()
}

/// A change that only the server sees.
pub(super) fn bookkeeping(mut operation: Operation, now: Timestamp) -> Change {
    if operation.state.is_done() {
        shed(&mut operation);
    }
    settle(&mut operation, now);
    operation.further_blocks = further_blocks(&operation);
    let mut ended = None;
    let record = match operation.deletion {
        Some(deletion) if operation.state.is_done() => {
            let tombstone = bury(&operation, Some(deletion), now);
            ended = operation.spec.of_job.is_some().then(|| Box::new(operation));
            Record::Tombstone(tombstone)
        }
        _ => Record::Operation(Box::new(operation)),
    };
    Change {
        record: Some(record),
        visible: false,
        leases: false,
        not_before: None,
        not_after: None,
        answer: Answer::default(),
        ended,
    }
}

/// The tombstone of a deleted or expired operation.
pub(super) fn bury(operation: &Operation, deletion: Option<Deletion>, now: Timestamp) -> Tombstone {
    Tombstone {
        name: operation.name.clone(),
        uid: operation.uid,
        deleted: deletion.is_some(),
        end_time: now,
        forget_time: now + TOMBSTONE,
        request_id: operation.spec.request_id.clone(),
        fingerprint: operation.spec.fingerprint,
        delete_nonce: deletion.map(|deletion| deletion.nonce),
        ended_leases: operation.ended_leases.clone(),
    }
}

/// Drops the fields that only running work needs: finished operations are many and kept for long.
fn shed(operation: &mut Operation) {
    // A repeat of the call that ended it gets the same answer; earlier leases are lost.
    let earlier = operation.ended_leases.len().saturating_sub(1);
    operation.ended_leases.drain(..earlier);
    (operation.checkpoint, operation.resume_input) = (None, None);
    (operation.unseen_leases, operation.lost_leases) = (0, 0);
    operation.last_error = None;
}

impl Change {
    fn into_visible(self) -> Self {
        Self { visible: true, ..self }
    }

    /// Merges two changes; `self` came second.
    pub(super) fn after(self, earlier: &Self) -> Self {
        Self {
            visible: self.visible || earlier.visible,
            leases: self.leases || earlier.leases,
            not_before: self.not_before.max(earlier.not_before),
            not_after: self.not_after.into_iter().chain(earlier.not_after).min(),
            ended: self.ended.or_else(|| earlier.ended.clone()),
            ..self
        }
    }

    pub(super) fn answering(self, answer: Answer) -> Self {
        Self { answer, ..self }
    }

    pub(super) fn at(self, not_before: Timestamp) -> Self {
        Self { not_before: Some(not_before), ..self }
    }

    pub(super) fn until(self, not_after: Option<Timestamp>) -> Self {
        Self { not_after, ..self }
    }

    pub(super) fn leasing(self) -> Self {
        Self { leases: true, ..self }
    }
}

impl From<Change> for Applied {
    fn from(change: Change) -> Self {
        Self::Changed(Box::new(change))
    }
}
