//! Commands of workers: lease, renew, report, complete, fail, release, suspend.

use crate::code::Code;

use super::change::{Applied, bookkeeping, visible};
use super::command::{Command, Complete, Fail, Proof, Release, Renew, Report, Suspend, Take};
use super::gate::{Admittance, SLOT_WINDOW};
use super::lease::{Answer, Call, EndedLease, Lease, Token, remember};
use super::payload::{EMPTY, Payload, empty, type_name};
use super::published::{cancelled_by_client, fraction};
use super::record::{Operation, Pending, State, Suspension, Tombstone};
use super::rejection::Rejection;
use crate::clock::Timestamp;
use crate::limits::{
    MAX_ATTEMPTS_KEPT, MAX_PARTIAL_ERROR_BYTES, MAX_PARTIAL_ERRORS, MAX_RELATED_RESOURCES,
    MAX_UNSEEN_LEASES,
};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;

pub(super) fn lease(
    operation: &Operation,
    take: &Take,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    match &operation.state {
        State::Running(lease) | State::Cancelling(lease, _) if lease.token == take.token => {
            Ok(Applied::Unchanged(Answer::default()))
        }
        State::Pending(pending)
            if pending.ready_time <= now
                && operation.overdue(now).is_none()
                && operation.admission != Some(Admittance::Waiting) =>
        {
            let until = take.slot.map(|slot| slot + SLOT_WINDOW);
            Ok(visible(operation.clone().leased(take, now), now).leasing().until(until).into())
        }
        _ => Err(Rejection::NotReady(operation.name.clone())),
    }
}

/// Its gate has a slot for it: workers may take it.
pub(super) fn admit(
    operation: &Operation,
    since: Timestamp,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    match operation.admission {
        Some(Admittance::Waiting) => {
            let mut next = operation.clone();
            next.admission = Some(Admittance::Admitted(since));
            Ok(bookkeeping(next, now).until(Some(since + SLOT_WINDOW)).into())
        }
        Some(Admittance::Admitted(slot)) if slot == since => {
            Ok(Applied::Unchanged(Answer::default()))
        }
        Some(Admittance::Admitted(_)) | None => Err(Rejection::NotReady(operation.name.clone())),
    }
}

pub(super) fn renew(
    operation: &Operation,
    renew: &Renew,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    let lease = operation.held(&renew.token, "renew the lease of")?;
    let mut next = operation.clone();
    let trail_moved = next.move_cancel_trail(renew.cancel_acknowledged, now);
    if lease.is_fresh(renew.duration, now) && !trail_moved {
        return Ok(Applied::Unchanged(Answer::default()));
    }
    next.with_lease(|lease| lease.renew(renew.duration, now));
    Ok(if trail_moved { visible(next, now) } else { bookkeeping(next, now) }.into())
}

pub(super) fn report(
    operation: &Operation,
    report: &Report,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    let lease = operation.held(&report.renew.token, "report on")?;
    let known = report.number > 0 && report.number <= lease.report_number;
    if known || (!report.shows() && report.checkpoint.is_none()) {
        return renew(operation, &report.renew, now);
    }
    operation.check_metadata(report.metadata.as_ref())?;
    let mut next = operation.clone();
    let trail_moved = next.move_cancel_trail(report.renew.cancel_acknowledged, now);
    next.with_lease(|lease| {
        lease.renew(report.renew.duration, now);
        lease.report_number = lease.report_number.max(report.number);
    });
    next.take_progress(report.progress.as_ref(), now);
    next.take_metadata(report.metadata.as_ref());
    next.take_checkpoint(report.checkpoint.as_ref());
    next.append(&report.partial_errors, &report.related_resources, now)?;
    if !report.status_detail.is_empty() {
        next.status_detail.clone_from(&report.status_detail);
    }
    Ok(if report.shows() || trail_moved { visible(next, now) } else { bookkeeping(next, now) }
        .into())
}

pub(super) fn complete(
    operation: &Operation,
    complete: &Complete,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    if let Some(answer) = operation.repeated(&complete.proof, Call::Complete, "complete")? {
        return Ok(Applied::Unchanged(answer));
    }
    operation.held(&complete.proof.token, "complete")?;
    let response = operation.checked_response(complete.response.as_ref())?;
    operation.check_metadata(complete.metadata.as_ref())?;
    let mut next = operation.clone();
    next.take_progress(complete.progress.as_ref(), now);
    next.take_metadata(complete.metadata.as_ref());
    next.append(&[], &complete.related_resources, now)?;
    next.end_attempt(None, now);
    let answer = Answer { discarded: next.deletion.is_some(), ..Answer::default() };
    next.forget_lease(complete.proof, Call::Complete, answer);
    let response = operation.published_response(response);
    next.end(State::Succeeded(Payload::Inline(response)), now);
    Ok(visible(next, now).answering(answer).into())
}

pub(super) fn fail(
    operation: &Operation,
    fail: &Fail,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    if let Some(answer) = operation.repeated(&fail.proof, Call::Fail, "fail")? {
        return Ok(Applied::Unchanged(answer));
    }
    operation.held(&fail.proof.token, "fail")?;
    operation.check_metadata(fail.metadata.as_ref())?;
    let mut next = operation.clone();
    next.take_metadata(fail.metadata.as_ref());
    next.take_checkpoint(fail.checkpoint.as_ref());
    let (error, retryable) = next.judge(fail);
    next.end_attempt(Some(error.clone()), now);

    let cancelling = matches!(next.state, State::Cancelling(..));
    if cancelling && (retryable || error.code == Code::Cancelled as i32) {
        let status = if error.code == Code::Cancelled as i32 {
            error
        } else {
            cancelled_by_client(&next.name)
        };
        next.end(State::Cancelled(status), now);
    } else if !cancelling && retryable && next.attempts_used < next.max_attempts() {
        next.retry_or_park(fail.retry_delay.unwrap_or_else(|| next.backoff()), now);
    } else {
        next.end(State::Failed(error), now);
    }
    let schedule_time = match &next.state {
        State::Pending(pending) => Some(pending.ready_time),
        _ => None,
    };
    let answer = Answer {
        discarded: next.deletion.is_some(),
        will_retry: !next.state.is_done(),
        schedule_time,
    };
    next.forget_lease(fail.proof, Call::Fail, answer);
    Ok(visible(next, now).answering(answer).into())
}

pub(super) fn release(
    operation: &Operation,
    release: &Release,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    if let Some(answer) = operation.repeated(&release.proof, Call::Release, "release")? {
        return Ok(Applied::Unchanged(answer));
    }
    let lease = operation.held(&release.proof.token, "release")?;
    if release.holder.is_some() && release.holder != lease.holder {
        return Ok(Applied::Unchanged(Answer::default()));
    }
    let mut next = operation.clone();
    next.take_checkpoint(release.checkpoint.as_ref());
    next.unseen_leases = if release.seen { 0 } else { next.unseen_leases + 1 };
    if next.unseen_leases > MAX_UNSEEN_LEASES {
        return Ok(super::due::lose_lease(next, now).into());
    }
    if matches!(next.state, State::Cancelling(..)) {
        let status = cancelled_by_client(&next.name);
        next.end(State::Cancelled(status), now);
    } else {
        let retrying = next.attempts_used > 0;
        next.wait_or_park(Pending { ready_time: now + release.delay, retrying });
    }
    next.forget_lease(release.proof, Call::Release, Answer::default());
    Ok(visible(next, now).into())
}

pub(super) fn suspend(
    operation: &Operation,
    suspend: &Suspend,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    if let Some(answer) = operation.repeated(&suspend.proof, Call::Suspend, "suspend")? {
        return Ok(Applied::Unchanged(answer));
    }
    operation.held(&suspend.proof.token, "suspend")?;
    operation.check_metadata(suspend.metadata.as_ref())?;
    let mut next = operation.clone();
    next.take_metadata(suspend.metadata.as_ref());
    next.take_checkpoint(suspend.checkpoint.as_ref());
    // No caller could resume a deleted operation.
    let parked_for_ever = next.deletion.is_some() && suspend.resume_time.is_none();
    if matches!(next.state, State::Cancelling(..)) || parked_for_ever {
        let status = cancelled_by_client(&next.name);
        next.end(State::Cancelled(status), now);
    } else {
        // If a caller requested the pause, the caller decides when it ends.
        let resume_time =
            suspend.resume_time.filter(|_| !next.pause_requested).map(|time| time.max(now));
        next.state = State::Suspended(Suspension { by_worker: !next.pause_requested, resume_time });
        if !suspend.reason.is_empty() {
            next.suspend_reason.clone_from(&suspend.reason);
        }
        next.pause_requested = false;
        next.resume_input = None;
    }
    next.unseen_leases = 0;
    next.forget_lease(suspend.proof, Call::Suspend, Answer::default());
    Ok(visible(next, now).into())
}

impl Operation {
    /// The lease of that token, if it lives.
    pub(super) fn held(&self, token: &Token, verb: &'static str) -> Result<&Lease, Rejection> {
        match self.state.lease() {
            Some(lease) if lease.token == *token => Ok(lease),
            _ => match self.ended_leases.iter().find(|ended| ended.token == *token) {
                Some(ended) if ended.call != Call::Lost => Err(Rejection::InvalidState {
                    name: self.name.clone(),
                    verb,
                    why: format!("this lease was ended by a {} call before", ended.call.verb()),
                }),
                _ => Err(self.lease_lost()),
            },
        }
    }

    /// The answer of an earlier call that ended this lease, if this is a repeat of it.
    fn repeated(
        &self,
        proof: &Proof,
        call: Call,
        verb: &'static str,
    ) -> Result<Option<Answer>, Rejection> {
        repeated(&self.ended_leases, proof, call).map_err(|ended| match ended {
            Call::Lost => self.lease_lost(),
            _ => Rejection::InvalidState {
                name: self.name.clone(),
                verb,
                why: format!(
                    "this lease was ended by a {} call that said something else",
                    ended.verb()
                ),
            },
        })
    }

    fn lease_lost(&self) -> Rejection {
        Rejection::LeaseLost {
            name: self.name.clone(),
            attempt: self.attempt(),
            fencing_number: self.stamps.fencing,
        }
    }

    pub(super) fn with_lease(&mut self, change: impl FnOnce(&mut Lease)) {
        if let State::Running(lease) | State::Cancelling(lease, _) = &mut self.state {
            change(lease);
        }
    }

    /// Notes that the request to cancel is on its way to the worker, and that the worker saw it.
    fn move_cancel_trail(&mut self, acknowledged: bool, now: Timestamp) -> bool {
        let Some(trail) = self.cancel_trail.as_mut() else { return false };
        let delivers = trail.deliver_time.is_none();
        let acknowledges = acknowledged && trail.acknowledge_time.is_none();
        if delivers {
            trail.deliver_time = Some(now.into());
        }
        if acknowledges {
            trail.acknowledge_time = Some(now.into());
        }
        delivers || acknowledges
    }

    fn check_metadata(&self, metadata: Option<&Any>) -> Result<(), Rejection> {
        match metadata {
            Some(any) if type_name(&any.type_url) != self.spec.metadata_type => {
                Err(Rejection::TypeMismatch {
                    name: self.name.clone(),
                    field: "metadata",
                    declared: self.spec.metadata_type.clone(),
                    found: type_name(&any.type_url).to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    fn checked_response(&self, response: Option<&Any>) -> Result<Any, Rejection> {
        let wanted = self.spec.response_type.as_str();
        let found = response.map_or(EMPTY, |any| type_name(&any.type_url));
        if wanted.is_empty() || wanted == found {
            return Ok(response.cloned().unwrap_or_else(empty));
        }
        let found = if response.is_none() { String::new() } else { found.to_owned() };
        Err(Rejection::TypeMismatch {
            name: self.name.clone(),
            field: "response",
            declared: wanted.to_owned(),
            found,
        })
    }

    fn take_progress(&mut self, progress: Option<&pb::Progress>, now: Timestamp) {
        if let Some(progress) = progress {
            let (done, goes_on) = (fraction(progress), self.checkpoint.is_some());
            self.with_lease(|lease| {
                lease.stalled = false;
                // It began further back than where the last attempt got to.
                if let Some(done) = done.filter(|done| *done < lease.first_fraction) {
                    lease.first_fraction = if goes_on { done } else { 0.0 };
                }
            });
            self.progress =
                Some(pb::Progress { update_time: Some(now.into()), ..progress.clone() });
        }
    }

    fn take_metadata(&mut self, metadata: Option<&Any>) {
        if let Some(metadata) = metadata {
            self.metadata = Some(Payload::Inline(metadata.clone()));
        }
    }

    fn take_checkpoint(&mut self, checkpoint: Option<&Any>) {
        if let Some(checkpoint) = checkpoint {
            self.checkpoint = Some(Payload::Inline(checkpoint.clone()));
        }
    }

    fn append(
        &mut self,
        errors: &[Status],
        resources: &[pb::RelatedResource],
        now: Timestamp,
    ) -> Result<(), Rejection> {
        use prost::Message;
        let full =
            |what, limit| Err(Rejection::LimitExceeded { name: self.name.clone(), what, limit });
        let bytes: usize = self.partial_errors.iter().chain(errors).map(Message::encoded_len).sum();
        if self.partial_errors.len() + errors.len() > MAX_PARTIAL_ERRORS {
            return full("partial errors", MAX_PARTIAL_ERRORS);
        }
        if !errors.is_empty() && bytes > MAX_PARTIAL_ERROR_BYTES {
            return full("bytes of partial errors", MAX_PARTIAL_ERROR_BYTES);
        }
        if self.related_resources.len() + resources.len() > MAX_RELATED_RESOURCES {
            return full("related resources", MAX_RELATED_RESOURCES);
        }
        self.partial_errors.extend_from_slice(errors);
        let stamped = |resource: &pb::RelatedResource| pb::RelatedResource {
            create_time: Some(now.into()),
            ..resource.clone()
        };
        self.related_resources.extend(resources.iter().map(stamped));
        Ok(())
    }

    /// The error as it will be kept, and whether it is one to try again after.
    fn judge(&self, fail: &Fail) -> (Status, bool) {
        let mut error = fail.error.clone();
        let mut retryable = self.retries_code(Code::from_number(error.code));
        // Handlers return CANCELLED on their own shutdown: if no caller requested a cancel, it is a failed attempt.
        if error.code == Code::Cancelled as i32 && !self.cancel_requested() {
            error.code = Code::Aborted as i32;
            retryable = true;
        }
        (error, fail.retry.unwrap_or(retryable))
    }

    /// The lease that lives becomes an attempt of the past.
    pub(super) fn end_attempt(&mut self, error: Option<Status>, now: Timestamp) {
        let Some(lease) = self.state.lease() else { return };
        let attempt = pb::Attempt {
            number: lease.attempt as i32,
            worker: lease.worker.clone(),
            fencing_number: self.stamps.fencing as i64,
            start_time: Some(lease.start_time.into()),
            end_time: Some(now.into()),
            error: error.clone(),
        };
        if self.attempts.len() >= MAX_ATTEMPTS_KEPT {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
        self.attempts_used += 1;
        self.unseen_leases = 0;
        self.last_error = error;
    }

    fn forget_lease(&mut self, proof: Proof, call: Call, answer: Answer) {
        let ended = EndedLease { token: proof.token, call, fingerprint: proof.fingerprint, answer };
        remember(&mut self.ended_leases, ended);
    }

    /// Back to the queue after a pause, unless a caller wants it parked.
    pub(super) fn retry_or_park(&mut self, pause: std::time::Duration, now: Timestamp) {
        self.wait_or_park(Pending { ready_time: now + pause, retrying: true });
    }

    fn wait_or_park(&mut self, pending: Pending) {
        self.state = if self.pause_requested {
            State::Suspended(Suspension { by_worker: false, resume_time: None })
        } else {
            State::Pending(pending)
        };
        self.pause_requested = false;
    }

    /// The final transition.
    pub(super) fn end(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.end_time = Some(now);
        self.admission = None;
        self.expire_time = Some(self.expiry(now));
        self.pause_requested = false;
        self.checkpoint = None;
        self.resume_input = None;
    }
}

/// The answer to a call that ended a lease before; otherwise the way the lease ended.
pub(super) fn repeated(
    ended_leases: &[EndedLease],
    proof: &Proof,
    call: Call,
) -> Result<Option<Answer>, Call> {
    match ended_leases.iter().find(|ended| ended.token == proof.token) {
        None => Ok(None),
        Some(ended) if ended.call == call && ended.fingerprint == proof.fingerprint => {
            Ok(Some(ended.answer))
        }
        Some(ended) => Err(ended.call),
    }
}

impl Call {
    const fn verb(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Complete => "complete",
            Self::Fail => "fail",
            Self::Release => "release",
            Self::Suspend => "suspend",
        }
    }
}

/// The answer of a tombstone to a worker's call.
pub(super) fn after_death(tombstone: &Tombstone, command: &Command) -> Option<Answer> {
    let (proof, call) = match command {
        Command::Complete(complete) => (&complete.proof, Call::Complete),
        Command::Fail(fail) => (&fail.proof, Call::Fail),
        Command::Release(release) => (&release.proof, Call::Release),
        Command::Suspend(suspend) => (&suspend.proof, Call::Suspend),
        _ => return None,
    };
    repeated(&tombstone.ended_leases, proof, call).ok().flatten()
}
