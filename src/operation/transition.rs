//! The one way in: which function decides a command, and what a decision looks like.

use super::command::Command;
use super::entries::{DueClass, settle};
use super::lease::Answer;
use super::{Operation, Record, Rejection, Tombstone, control, due, stream, work};
use crate::clock::Timestamp;

/// What becomes of a command.
#[derive(Clone, Debug)]
pub enum Applied {
    /// There is something to write.
    Changed(Box<Change>),
    /// It was done before, or there is nothing to do.
    Unchanged(Answer),
}

/// What to write.
#[derive(Clone, Debug)]
pub struct Change {
    /// What the name holds from now on; nothing where it is free again.
    pub record: Option<Record>,
    /// Whether callers can tell it from before.
    pub visible: bool,
    /// Whether it makes a lease: its revision becomes the fencing number.
    pub leases: bool,
    /// Only if the store's clock has reached this.
    pub not_before: Option<Timestamp>,
    /// What the caller is told.
    pub answer: Answer,
}

/// Decides a command.
///
/// # Errors
/// [`Rejection`] says why the record refuses it; nothing changes then.
pub fn apply(record: &Record, command: &Command, now: Timestamp) -> Result<Applied, Rejection> {
    match record {
        Record::Operation(operation) => apply_to_operation(operation, command, now),
        Record::Tombstone(tombstone) => apply_to_tombstone(tombstone, command, now),
    }
}

/// What becomes of several commands, one after the other.
#[derive(Debug)]
pub struct AppliedBatch {
    /// What to write for all of them.
    pub change: Option<Box<Change>>,
    /// What each is told.
    pub answers: Vec<Result<Answer, Rejection>>,
}

/// Decides commands one after the other, for one commit: what is refused changes nothing, the others count.
pub fn apply_batch<'a>(
    record: &Record,
    commands: impl IntoIterator<Item = &'a Command>,
    now: Timestamp,
) -> AppliedBatch {
    let mut batch = AppliedBatch { change: None, answers: Vec::new() };
    for command in commands {
        let reached = batch.change.as_ref().and_then(|change| change.record.as_ref());
        let answer = match apply(reached.unwrap_or(record), command, now) {
            Ok(Applied::Unchanged(answer)) => Ok(answer),
            Ok(Applied::Changed(change)) => {
                let answer = change.answer;
                batch.change = Some(match batch.change.take() {
                    Some(earlier) => Box::new(change.after(&earlier)),
                    None => change,
                });
                Ok(answer)
            }
            Err(rejection) => Err(rejection),
        };
        batch.answers.push(answer);
    }
    batch
}

fn apply_to_operation(
    operation: &Operation,
    command: &Command,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    match command {
        Command::Lease(take) => work::lease(operation, take, now),
        Command::Renew(renew) => work::renew(operation, renew, now),
        Command::Adopt(adopt) => stream::adopt(operation, adopt, now),
        Command::Disown(disown) => Ok(stream::disown(operation, disown, now)),
        Command::Report(report) => work::report(operation, report, now),
        Command::Complete(complete) => work::complete(operation, complete, now),
        Command::Fail(fail) => work::fail(operation, fail, now),
        Command::Release(release) => work::release(operation, release, now),
        Command::Suspend(suspend) => work::suspend(operation, suspend, now),
        Command::Delete(delete) => control::delete(operation, delete, now),
        Command::Due(due) => Ok(due::due(operation, *due, now)),
        Command::Cancel | Command::Pause(_) | Command::Resume(_)
            if operation.deletion.is_some() =>
        {
            Err(Rejection::Deleted(operation.name.clone()))
        }
        Command::Cancel => Ok(control::cancel(operation, now)),
        Command::Pause(pause) => control::pause(operation, pause, now),
        Command::Resume(resume) => control::resume(operation, resume, now),
    }
}

fn apply_to_tombstone(
    tombstone: &Tombstone,
    command: &Command,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    let done = Ok(Applied::Unchanged(Answer::default()));
    match command {
        Command::Due(due) if due.class == DueClass::Tombstone && tombstone.forget_time <= now => {
            let forgotten = Change {
                record: None,
                visible: false,
                leases: false,
                not_before: Some(tombstone.forget_time),
                answer: Answer::default(),
            };
            Ok(forgotten.into())
        }
        Command::Due(_) => done,
        Command::Delete(delete) if tombstone.delete_nonce == Some(delete.nonce) => done,
        _ => match work::after_death(tombstone, command) {
            Some(answer) => Ok(Applied::Unchanged(answer)),
            None if tombstone.deleted => Err(Rejection::Deleted(tombstone.name.clone())),
            None => Err(Rejection::Expired(tombstone.name.clone())),
        },
    }
}

/// A change that callers see, its entries put in place.
pub(super) fn visible(mut operation: Operation, now: Timestamp) -> Change {
    // A store whose clock went back must not make an operation change before it was made.
    operation.update_time = now.max(operation.update_time);
    bookkeeping(operation, now).into_visible()
}

/// A change that only the server sees.
pub(super) fn bookkeeping(mut operation: Operation, now: Timestamp) -> Change {
    if operation.state.is_done() {
        shed(&mut operation);
    }
    settle(&mut operation, now);
    let record = match operation.deletion {
        Some(deletion) if operation.state.is_done() => {
            Record::Tombstone(control::bury(&operation, Some(deletion), now))
        }
        _ => Record::Operation(Box::new(operation)),
    };
    Change {
        record: Some(record),
        visible: false,
        leases: false,
        not_before: None,
        answer: Answer::default(),
    }
}

/// Drops what only running work needs: finished operations are many and kept for long.
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

    /// Both as one; this one came later.
    fn after(self, earlier: &Self) -> Self {
        Self {
            visible: self.visible || earlier.visible,
            leases: self.leases || earlier.leases,
            not_before: self.not_before.max(earlier.not_before),
            ..self
        }
    }

    pub(super) fn answering(self, answer: Answer) -> Self {
        Self { answer, ..self }
    }

    pub(super) fn at(self, not_before: Timestamp) -> Self {
        Self { not_before: Some(not_before), ..self }
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
