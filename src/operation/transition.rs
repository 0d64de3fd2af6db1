//! The one way in: which function decides a command.

use super::change::{Applied, Change};
use super::command::Command;
use super::due_class::DueClass;
use super::lease::Answer;
use super::record::{Operation, Record, Tombstone};
use super::rejection::Rejection;
use super::{control, due, stream, work};
use crate::clock::Timestamp;

/// Decides a command.
///
/// # Errors
/// [`Rejection`] says why the record refuses it; then nothing changes.
pub fn apply(record: &Record, command: &Command, now: Timestamp) -> Result<Applied, Rejection> {
    match record {
        Record::Operation(operation) => apply_to_operation(operation, command, now),
        Record::Tombstone(tombstone) => apply_to_tombstone(tombstone, command, now),
    }
}

/// The result of several commands, one after the other.
#[derive(Debug)]
pub struct AppliedBatch {
    /// The change of all of them together.
    pub change: Option<Box<Change>>,
    /// The answer to each.
    pub answers: Vec<Result<Answer, Rejection>>,
}

/// Decides commands one after the other, for one commit: a refused command changes nothing, the others count.
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
        Command::Admit(since) => work::admit(operation, *since, now),
        Command::Evict(evict) => Ok(due::evict(operation, evict, now)),
        Command::Cancel(_) | Command::Pause(_) | Command::Resume(_)
            if operation.deletion.is_some() =>
        {
            Err(Rejection::Deleted(operation.name.clone()))
        }
        Command::Cancel(cancel) => control::cancel(operation, cancel, now),
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
                not_after: None,
                answer: Answer::default(),
                ended: None,
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
