//! Commands of callers: cancel, delete, pause, resume.

use super::change::{Applied, bookkeeping, bury, visible};
use super::command::{Cancel, Delete, Pause, Resume};
use super::lease::Answer;
use super::payload::Payload;
use super::published::cancelled_by_client;
use super::record::{Deletion, Operation, Pending, Record, State, Suspension};
use super::rejection::Rejection;
use crate::clock::Timestamp;
use crate::limits::DEFAULT_CANCEL_GRACE;
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1 as pb;

pub(super) fn cancel(
    operation: &Operation,
    cancel: &Cancel,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    let trail = pb::CancelTrail { request_time: Some(now.into()), ..pb::CancelTrail::default() };
    let mut next = operation.clone();
    match &operation.state {
        // Whatever the etag is: this may be the repeat of a cancel that has been done.
        State::Cancelling(..) | State::Succeeded(_) | State::Failed(_) | State::Cancelled(_) => {
            return Ok(Applied::Unchanged(Answer::default()));
        }
        State::Running(lease) => {
            check_etag(operation, &cancel.etag)?;
            let grace = operation.spec.options.cancel_grace.unwrap_or(DEFAULT_CANCEL_GRACE);
            next.cancel_trail = Some(trail);
            next.pause_requested = false;
            next.state = State::Cancelling(lease.clone(), now + grace);
        }
        State::Pending(_) | State::Suspended(_) => {
            check_etag(operation, &cancel.etag)?;
            next.cancel_trail = Some(trail);
            next.end(State::Cancelled(cancelled_by_client(&operation.name)), now);
        }
    }
    Ok(visible(next, now).into())
}

pub(super) fn delete(
    operation: &Operation,
    delete: &Delete,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    if let Some(deletion) = operation.deletion {
        return if deletion.nonce == delete.nonce {
            Ok(Applied::Unchanged(Answer::default()))
        } else {
            Err(Rejection::Deleted(operation.name.clone()))
        };
    }
    check_etag(operation, &delete.etag)?;
    let deletion = Deletion { time: now, nonce: delete.nonce };
    let mut next = operation.clone();
    // No caller can resume an operation that none can see: there is no work to wait for.
    let parked = matches!(operation.state, State::Suspended(Suspension { resume_time: None, .. }));
    if !operation.state.is_done() && !parked {
        next.deletion = Some(deletion);
        next.pause_requested = false;
        return Ok(visible(next, now).into());
    }
    let mut change = visible(next, now);
    change.record = Some(Record::Tombstone(bury(operation, Some(deletion), now)));
    Ok(change.into())
}

pub(super) fn pause(
    operation: &Operation,
    pause: &Pause,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    if operation.control_nonce == Some(pause.nonce) {
        return Ok(Applied::Unchanged(Answer::default()));
    }
    check_etag(operation, &pause.etag)?;
    let mut next = operation.clone();
    next.control_nonce = Some(pause.nonce);
    next.suspend_reason.clone_from(&pause.reason);
    match &operation.state {
        State::Pending(_) => {
            next.state = State::Suspended(Suspension { by_worker: false, resume_time: None });
        }
        State::Running(_) if operation.pause_requested => {
            return Ok(Applied::Unchanged(Answer::default()));
        }
        State::Running(_) => next.pause_requested = true,
        State::Suspended(Suspension { by_worker, resume_time: Some(_) }) => {
            next.suspend_reason.clone_from(&operation.suspend_reason);
            next.state = State::Suspended(Suspension { by_worker: *by_worker, resume_time: None });
        }
        State::Suspended(_) => return Ok(Applied::Unchanged(Answer::default())),
        State::Cancelling(..) => return Err(refuse(operation, "pause", "it is being cancelled")),
        State::Succeeded(_) | State::Failed(_) | State::Cancelled(_) => {
            return Err(refuse(operation, "pause", "it is done"));
        }
    }
    Ok(visible(next, now).into())
}

pub(super) fn resume(
    operation: &Operation,
    resume: &Resume,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    if operation.control_nonce == Some(resume.nonce) {
        return Ok(Applied::Unchanged(Answer::default()));
    }
    if operation.waits_for_job() && !resume.by_job {
        let why = "it waits for another execution of its job, which resumes it";
        return Err(refuse(operation, "resume", why));
    }
    let suspended = matches!(operation.state, State::Suspended(_));
    let new_input = operation.new_input(resume.input.as_ref());
    if !suspended && resume.input.is_some() && new_input.is_none() {
        // A repeat, because the reply to the first call was lost: the next lease carries the payload.
        return Ok(Applied::Unchanged(Answer::default()));
    }
    check_etag(operation, &resume.etag)?;
    if let Some(why) = new_input.and_then(|_| operation.why_no_input()) {
        return Err(refuse(operation, "resume with input", why));
    }
    let mut next = operation.clone();
    next.control_nonce = Some(resume.nonce);
    next.suspend_reason.clear();
    match &operation.state {
        State::Suspended(_) => {
            if let Some(input) = new_input {
                next.resume_input = Some(Payload::Inline(input.clone()));
            }
            // One that was parked before its time still waits for it.
            let schedule_time = operation.spec.options.schedule_time;
            let ready_time = schedule_time.map_or(now, |time| now.max(time));
            next.state =
                State::Pending(Pending { ready_time, retrying: operation.attempts_used > 0 });
        }
        State::Running(_) if operation.pause_requested => next.pause_requested = false,
        _ => return Ok(Applied::Unchanged(Answer::default())),
    }
    Ok(visible(next, now).into())
}

impl Operation {
    /// Whether it is the operation of a queued run that has not been released. No caller has suspended or resumed it.
    fn waits_for_job(&self) -> bool {
        let is_queued = self.spec.of_job.as_ref().is_some_and(|run| run.queued);
        let is_parked = matches!(self.state, State::Suspended(Suspension { by_worker: false, .. }));
        is_queued && is_parked && self.control_nonce.is_none()
    }

    /// The input of a resume, unless it is the one that the record holds already.
    fn new_input<'a>(&self, input: Option<&'a Any>) -> Option<&'a Any> {
        input.filter(|input| !self.resume_input.as_ref().is_some_and(|held| held.holds(input)))
    }

    /// Why an input would reach no worker. An input that was accepted is never dropped.
    const fn why_no_input(&self) -> Option<&'static str> {
        match &self.state {
            State::Suspended(_) if self.resume_input.is_some() => Some(
                "the input of an earlier resume still waits for the next lease; resume without input",
            ),
            State::Suspended(_) => None,
            State::Running(_) if self.pause_requested => Some(
                "it is not suspended yet, only asked to pause; resume without input to withdraw that",
            ),
            State::Pending(_) | State::Running(_) => {
                Some("it is not suspended, so nothing would receive the input")
            }
            State::Cancelling(..) => Some("it is being cancelled"),
            State::Succeeded(_) | State::Failed(_) | State::Cancelled(_) => Some("it is done"),
        }
    }
}

/// The end of the time that a finished operation is kept.
pub(super) fn expire(operation: &Operation, now: Timestamp) -> Applied {
    let mut change = bookkeeping(operation.clone(), now);
    change.record = Some(Record::Tombstone(bury(operation, None, now)));
    change.visible = true;
    Applied::from(change)
}

fn check_etag(operation: &Operation, etag: &str) -> Result<(), Rejection> {
    if etag.is_empty() || etag == operation.etag() {
        return Ok(());
    }
    Err(Rejection::EtagMismatch { name: operation.name.clone(), current: operation.etag() })
}

fn refuse(operation: &Operation, verb: &'static str, why: &str) -> Rejection {
    Rejection::InvalidState { name: operation.name.clone(), verb, why: why.to_owned() }
}
