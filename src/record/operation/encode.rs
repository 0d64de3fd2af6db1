//! An operation as its stored message.

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use super::times::Base;
use super::{parts, payload, spec};
use crate::clock::Timestamp;
use crate::operation::entries::DueClass;
use crate::operation::gate::Admittance;
use crate::operation::lease::{Call, EndedLease, Lease};
use crate::operation::name::Name;
use crate::operation::payload::Payload;
use crate::operation::{Operation, State, Tombstone};
use crate::proto::longhaul::store::v1 as stored;
use crate::proto::longhaul::v1 as pb;

pub(super) fn operation(operation: &Operation) -> stored::Operation {
    let base = Base(operation.create_time);
    let after = |time: Option<Timestamp>| time.map(|time| base.after(time));
    let usual_update = operation.end_time.unwrap_or(operation.create_time);
    let stored = stored::Operation {
        uid: bytes(operation.uid.as_bytes()),
        spec: operation.spec.stored(|spec| spec::encode(spec).encode_to_vec().into()),
        create_time: operation.create_time.as_micros(),
        start_after: after(operation.start_time),
        end_after: after(operation.end_time),
        update_after: (operation.update_time != usual_update)
            .then(|| base.after(operation.update_time)),
        expire_after: after(operation.expire_time),
        progress: operation.progress.as_ref().map(|it| parts::encode_progress(base, it)),
        status_detail: operation.status_detail.clone(),
        partial_errors: operation.partial_errors.clone(),
        related_resources: operation
            .related_resources
            .iter()
            .map(|it| parts::encode_resource(base, it))
            .collect(),
        attempts: operation.attempts.iter().map(|it| encode_attempt(base, operation, it)).collect(),
        further_attempts: operation.attempts_used as i32 - operation.attempts.len() as i32,
        unseen_leases: operation.unseen_leases,
        lost_leases: operation.lost_leases,
        cancel_trail: operation.cancel_trail.as_ref().map(|it| parts::encode_trail(base, it)),
        pause_requested: operation.pause_requested,
        suspend_reason: operation.suspend_reason.clone(),
        checkpoint: operation.checkpoint.as_ref().map(payload::encode),
        resume_input: operation.resume_input.as_ref().map(payload::encode),
        control_nonce: operation.control_nonce.map(|nonce| bytes(&nonce)).unwrap_or_default(),
        last_error: operation.last_error.clone(),
        ended_leases: operation.ended_leases.iter().map(encode_ended).collect(),
        delete_after: after(operation.deletion.map(|deletion| deletion.time)),
        delete_nonce: operation.deletion.map(|deletion| bytes(&deletion.nonce)).unwrap_or_default(),
        events: operation.events,
        further_blocks: operation.further_blocks,
        places: Some(encode_places(base, operation)),
        waits_at_gate: operation.admission == Some(Admittance::Waiting),
        slot_time: micros(operation.admitted()),
        ..stored::Operation::default()
    };
    with_state(with_published(stored, operation), base, &operation.state)
}

/// The published form: whole for an unfinished operation, in parts for a finished one.
fn with_published(stored: stored::Operation, operation: &Operation) -> stored::Operation {
    if !operation.state.is_done() {
        return stored::Operation {
            published: Some(operation.published()),
            detached_metadata: operation.metadata.as_ref().and_then(payload::encode_body),
            ..stored
        };
    }
    // An empty message means none.
    let says = |payload: &&Payload| payload.inline().is_none_or(|any| !any.value.is_empty());
    let metadata = operation.metadata.as_ref().filter(says).map(payload::encode);
    let (name, parent, id) = encode_name(&operation.name);
    stored::Operation { name, parent, id, metadata, ..stored }
}

fn with_state(mut stored: stored::Operation, base: Base, state: &State) -> stored::Operation {
    stored.state = match state {
        State::Pending(pending) => {
            stored.ready_after = Some(base.after(pending.ready_time));
            stored.retrying = pending.retrying;
            stored::State::Pending
        }
        State::Running(lease) => {
            stored.lease = Some(encode_lease(lease));
            stored::State::Running
        }
        State::Cancelling(lease, grace_end) => {
            stored.lease = Some(encode_lease(lease));
            stored.grace_end_after = Some(base.after(*grace_end));
            stored::State::Cancelling
        }
        State::Suspended(suspension) => {
            stored.suspended_by_worker = suspension.by_worker;
            stored.resume_after = suspension.resume_time.map(|time| base.after(time));
            stored::State::Suspended
        }
        State::Succeeded(response) => {
            stored.response = Some(payload::encode(response));
            stored::State::Succeeded
        }
        State::Failed(error) => {
            stored.error = Some(error.clone());
            stored::State::Failed
        }
        State::Cancelled(error) => {
            stored.error = Some(error.clone());
            stored::State::Cancelled
        }
    }
    .into();
    stored
}

/// Most operations have one attempt, which begins and ends with them.
fn encode_attempt(base: Base, operation: &Operation, attempt: &pb::Attempt) -> stored::Attempt {
    let mut stored = parts::encode_attempt(base, attempt);
    let after = |time: Option<Timestamp>| time.map(|time| base.after(time));
    stored.start_after = stored.start_after.filter(|at| Some(*at) != after(operation.start_time));
    stored.end_after = stored.end_after.filter(|at| Some(*at) != after(operation.end_time));
    stored
}

/// The usual place of a finished operation's retention entry.
pub(super) fn usual_retention(
    done: bool,
    expire_time: Option<Timestamp>,
) -> Option<(DueClass, Timestamp)> {
    expire_time.filter(|_| done).map(|time| (DueClass::Retention, time))
}

/// The whole name, or the parent and the UUID that the id is.
fn encode_name(name: &Name) -> (String, String, Bytes) {
    let id = name.id();
    let uuid = Uuid::try_parse(id).ok().filter(|uuid| uuid.to_string() == id);
    match uuid {
        Some(uuid) => (String::new(), name.parent().to_owned(), bytes(uuid.as_bytes())),
        None => (name.as_str().to_owned(), String::new(), Bytes::new()),
    }
}

fn encode_lease(lease: &Lease) -> stored::Lease {
    stored::Lease {
        token: bytes(&lease.token.0),
        attempt: lease.attempt,
        worker: lease.worker.clone(),
        start_time: lease.start_time.as_micros(),
        expire_time: lease.expire_time.as_micros(),
        duration: lease.duration.as_micros() as u64,
        report_number: lease.report_number,
        holder: lease.holder.map(|holder| bytes(&holder)).unwrap_or_default(),
        first_fraction: lease.first_fraction,
        stall_timeout: lease.stall_timeout.as_micros() as u64,
        stalled: lease.stalled,
        slot_time: micros(lease.slot),
    }
}

fn encode_ended(ended: &EndedLease) -> stored::EndedLease {
    use stored::ended_lease::Call as Stored;
    let call = match ended.call {
        Call::Lost => Stored::Unspecified,
        Call::Complete => Stored::Complete,
        Call::Fail => Stored::Fail,
        Call::Release => Stored::Release,
        Call::Suspend => Stored::Suspend,
    };
    stored::EndedLease {
        token: bytes(&ended.token.0),
        call: call.into(),
        fingerprint: bytes(&ended.fingerprint),
        discarded: ended.answer.discarded,
        will_retry: ended.answer.will_retry,
        schedule_time: micros(ended.answer.schedule_time),
    }
}

fn encode_places(base: Base, operation: &Operation) -> stored::Places {
    let places = &operation.places;
    let due = |class, time| stored::places::Due { class, after: base.after(time) };
    let plain = usual_retention(operation.state.is_done(), operation.expire_time);
    let known = places.due.iter().filter(|entry| Some(**entry) != plain);
    let known = known.map(|(class, time)| due(*class as u32, *time));
    let foreign = places.foreign.iter().map(|(class, time)| due(*class, *time));
    stored::Places {
        listed: places.listed,
        failed: places.failed,
        ready: places.ready.is_some(),
        rank: places.ready.unwrap_or_default(),
        waiting_rank: places.waiting,
        due: known.chain(foreign).collect(),
    }
}

pub(super) fn tombstone(tombstone: &Tombstone) -> stored::Tombstone {
    stored::Tombstone {
        name: tombstone.name.as_str().to_owned(),
        uid: bytes(tombstone.uid.as_bytes()),
        deleted: tombstone.deleted,
        end_time: tombstone.end_time.as_micros(),
        forget_time: tombstone.forget_time.as_micros(),
        request_id: tombstone.request_id.clone(),
        fingerprint: bytes(&tombstone.fingerprint),
        delete_nonce: tombstone.delete_nonce.map(|nonce| bytes(&nonce)).unwrap_or_default(),
        ended_leases: tombstone.ended_leases.iter().map(encode_ended).collect(),
    }
}

fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn micros(time: Option<Timestamp>) -> u64 {
    time.map_or(0, Timestamp::as_micros)
}
