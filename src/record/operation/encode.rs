//! An operation as its stored message.

use bytes::Bytes;
use prost::Message;

use crate::clock::Timestamp;
use crate::operation::lease::{Call, EndedLease, Lease};
use crate::operation::payload::{Detached, Payload};
use crate::operation::{Operation, Places, Spec, State, Tombstone};
use crate::proto::longhaul::store::v1 as stored;

pub(super) fn operation(operation: &Operation) -> stored::Operation {
    let lease = operation.state.lease();
    let mut stored = stored::Operation {
        published: Some(operation.published()),
        uid: bytes(operation.uid.as_bytes()),
        spec: operation.spec.stored(|spec| encode_spec(spec).encode_to_vec().into()),
        state: operation.state.published().into(),
        lease: lease.map(encode_lease),
        create_time: operation.create_time.as_micros(),
        start_time: micros(operation.start_time),
        end_time: micros(operation.end_time),
        update_time: operation.update_time.as_micros(),
        expire_time: micros(operation.expire_time),
        detached_metadata: operation.metadata.as_ref().and_then(encode_detached),
        progress: operation.progress.clone(),
        status_detail: operation.status_detail.clone(),
        partial_errors: operation.partial_errors.clone(),
        related_resources: operation.related_resources.clone(),
        attempts: operation.attempts.clone(),
        attempts_used: operation.attempts_used,
        unseen_leases: operation.unseen_leases,
        lost_leases: operation.lost_leases,
        cancel_trail: operation.cancel_trail,
        pause_requested: operation.pause_requested,
        suspend_reason: operation.suspend_reason.clone(),
        checkpoint: operation.checkpoint.as_ref().map(encode_payload),
        resume_input: operation.resume_input.as_ref().map(encode_payload),
        control_nonce: operation.control_nonce.map(|nonce| bytes(&nonce)).unwrap_or_default(),
        last_error: operation.last_error.clone(),
        ended_leases: operation.ended_leases.iter().map(encode_ended).collect(),
        delete_time: micros(operation.deletion.map(|deletion| deletion.time)),
        delete_nonce: operation.deletion.map(|deletion| bytes(&deletion.nonce)).unwrap_or_default(),
        places: Some(encode_places(&operation.places)),
        ..stored::Operation::default()
    };
    match &operation.state {
        State::Pending(pending) => {
            stored.ready_time = pending.ready_time.as_micros();
            stored.retrying = pending.retrying;
        }
        State::Cancelling(_, grace_end) => stored.grace_end = grace_end.as_micros(),
        State::Suspended(suspension) => {
            stored.suspended_by_worker = suspension.by_worker;
            stored.resume_time = micros(suspension.resume_time);
        }
        State::Succeeded(response) => stored.detached_response = encode_detached(response),
        State::Running(_) | State::Failed(_) | State::Cancelled(_) => {}
    }
    stored
}

fn encode_spec(spec: &Spec) -> stored::Spec {
    stored::Spec {
        queue: spec.queue.as_str().to_owned(),
        method: spec.method.clone(),
        metadata_type: spec.metadata_type.clone(),
        response_type: spec.response_type.clone(),
        request: spec.request.as_ref().map(encode_payload),
        options: Some(spec.options.clone()),
        server_metadata: spec.server_metadata,
        request_id: spec.request_id.clone(),
        fingerprint: bytes(&spec.fingerprint),
        trace_parent: spec.trace_parent.clone(),
    }
}

fn encode_payload(payload: &Payload) -> stored::Payload {
    use stored::payload::Place;
    let place = match payload {
        Payload::Inline(any) => Place::Inline(any.clone()),
        Payload::Detached(detached) => Place::Detached(name_detached(detached)),
    };
    stored::Payload { place: Some(place) }
}

fn encode_detached(payload: &Payload) -> Option<stored::Detached> {
    match payload {
        Payload::Inline(_) => None,
        Payload::Detached(detached) => Some(name_detached(detached)),
    }
}

fn name_detached(detached: &Detached) -> stored::Detached {
    stored::Detached {
        type_url: detached.type_url.clone(),
        size: detached.size,
        nonce: bytes(&detached.nonce),
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

fn encode_places(places: &Places) -> stored::Places {
    stored::Places {
        listed: places.listed,
        failed: places.failed,
        ready: places.ready.is_some(),
        rank: places.ready.unwrap_or_default(),
        due: places
            .due
            .iter()
            .map(|(class, time)| stored::places::Due {
                class: *class as u32,
                time: time.as_micros(),
            })
            .collect(),
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
