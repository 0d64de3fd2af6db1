//! Effects of time: expiries, timeouts, and the end of pauses.

use crate::code::Code;

use super::change::{Applied, Change, bookkeeping, visible};
use super::command::{Due, Evict};
use super::control::expire;
use super::due_class::DueClass;
use super::entries::times;
use super::lease::{Answer, Call, EndedLease, Lease, remember};
use super::published::{
    attempts_exhausted, cancelled_by_client, execution_timeout, preempted, worker_lost,
};
use super::record::{Operation, Pending, State};
use crate::clock::Timestamp;
use crate::limits::{MIN_RETURN_GRACE, RETURN_GRACE};

/// Processes the due entry, or moves it to its true time.
pub(super) fn due(operation: &Operation, due: Due, now: Timestamp) -> Applied {
    let time = times(operation, operation.places.has_come())
        .into_iter()
        .find(|(class, _)| *class == due.class)
        .map(|(_, time)| time);
    let lies =
        operation.places.due.iter().find(|(class, _)| *class == due.class).map(|(_, time)| *time);
    match time {
        Some(time) if time <= now => match operation.state.lease() {
            // It has not expired: it has made no headway for too long.
            Some(lease) if due.class == DueClass::Lease && lease.expire_time > now => {
                let mut next = operation.clone();
                next.with_lease(|lease| lease.stalled = true);
                visible(next, now).into()
            }
            Some(lease)
                if due.class == DueClass::Lease && patience(lease, due.answering_since) > now =>
            {
                Applied::Unchanged(Answer::default())
            }
            _ => act(operation, due.class, time, now),
        },
        // Not due yet or no longer, and the entry says so: another server was here.
        time if time == lies => Applied::Unchanged(Answer::default()),
        _ => {
            let mut next = operation.clone();
            next.places.due.retain(|(class, _)| *class != due.class);
            bookkeeping(next, now).into()
        }
    }
}

/// Until when an expired lease is not lost: no worker could renew it while the store was unavailable.
fn patience(lease: &Lease, answering_since: Timestamp) -> Timestamp {
    answering_since + lease.duration.clamp(MIN_RETURN_GRACE, RETURN_GRACE)
}

fn act(operation: &Operation, class: DueClass, time: Timestamp, now: Timestamp) -> Applied {
    let mut next = operation.clone();
    let change = match class {
        DueClass::Lease => lose_lease(next, now),
        // Settling puts it into its queue.
        DueClass::Start | DueClass::Retry => bookkeeping(next, now),
        DueClass::Attempt => time_out_attempt(next, now),
        DueClass::Queue => end_in_error(next, "queue_timeout", now),
        DueClass::Deadline => end_in_error(next, "deadline_time", now),
        DueClass::Grace => {
            if let Some(trail) = next.cancel_trail.as_mut() {
                trail.forced = true;
            }
            next.lose(now);
            visible(next, now)
        }
        DueClass::Resume => {
            next.state =
                State::Pending(Pending { ready_time: now, retrying: next.attempts_used > 0 });
            next.suspend_reason.clear();
            visible(next, now)
        }
        DueClass::Retention => return expire(operation, now).at(time),
        // Tombstones are records of their own.
        DueClass::Tombstone => return Applied::Unchanged(Answer::default()),
    };
    change.at(time).into()
}

/// A lease that its worker did not renew, or never saw once too often.
pub(super) fn lose_lease(mut operation: Operation, now: Timestamp) -> Change {
    operation.lose(now);
    if operation.state.is_done() {
        return visible(operation, now);
    }
    let first_loss = operation.lost_leases == 0;
    operation.lost_leases += 1;
    if operation.attempts_used >= operation.max_attempts() {
        let error = attempts_exhausted(&operation, Code::Aborted, "WORKER_LOST");
        operation.end(State::Failed(error), now);
    } else {
        let pause = if first_loss { std::time::Duration::ZERO } else { operation.backoff() };
        operation.retry_or_park(pause, now);
    }
    visible(operation, now)
}

fn time_out_attempt(mut operation: Operation, now: Timestamp) -> Change {
    let error = execution_timeout(&operation.name, "attempt_timeout");
    operation.end_lease(error.clone(), now);
    let retryable = operation.retries_code(Code::DeadlineExceeded);
    if matches!(operation.state, State::Cancelling(..)) {
        let status = cancelled_by_client(&operation.name);
        operation.end(State::Cancelled(status), now);
    } else if !retryable {
        operation.end(State::Failed(error), now);
    } else if operation.attempts_used >= operation.max_attempts() {
        let error = attempts_exhausted(&operation, Code::DeadlineExceeded, "EXECUTION_TIMEOUT");
        operation.end(State::Failed(error), now);
    } else {
        operation.retry_or_park(operation.backoff(), now);
    }
    visible(operation, now)
}

/// A timeout of the whole operation: final, whatever the retry policy says.
fn end_in_error(mut operation: Operation, bound: &'static str, now: Timestamp) -> Change {
    let error = execution_timeout(&operation.name, bound);
    operation.end_lease(error.clone(), now);
    let state = if matches!(operation.state, State::Cancelling(..)) {
        State::Cancelled(cancelled_by_client(&operation.name))
    } else {
        State::Failed(error)
    };
    operation.end(state, now);
    visible(operation, now)
}

/// A newer operation with the same concurrency key takes its slot.
pub(super) fn evict(operation: &Operation, evict: &Evict, now: Timestamp) -> Applied {
    if operation.state.is_done() || operation.create_time > evict.create_time {
        return Applied::Unchanged(Answer::default());
    }
    let mut next = operation.clone();
    let error = preempted(operation, &evict.by);
    next.end_lease(error.clone(), now);
    let state = if matches!(next.state, State::Cancelling(..)) {
        State::Cancelled(cancelled_by_client(&next.name))
    } else {
        State::Failed(error)
    };
    next.end(state, now);
    visible(next, now).into()
}

impl Operation {
    /// Its worker is no more: a failed attempt, or the end of a cancellation.
    fn lose(&mut self, now: Timestamp) {
        self.end_lease(worker_lost(&self.name), now);
        if matches!(self.state, State::Cancelling(..)) {
            let status = cancelled_by_client(&self.name);
            self.end(State::Cancelled(status), now);
        }
    }

    /// The lease ends without its worker's doing.
    fn end_lease(&mut self, error: crate::proto::google::rpc::Status, now: Timestamp) {
        let Some(token) = self.state.lease().map(|lease| lease.token) else { return };
        self.end_attempt(Some(error), now);
        let ended =
            EndedLease { token, call: Call::Lost, fingerprint: [0; 16], answer: Answer::default() };
        remember(&mut self.ended_leases, ended);
    }
}

impl Applied {
    fn at(self, time: Timestamp) -> Self {
        match self {
            Self::Changed(change) => change.at(time).into(),
            unchanged @ Self::Unchanged(_) => unchanged,
        }
    }
}
