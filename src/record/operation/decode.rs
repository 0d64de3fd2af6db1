//! An operation from its stored message. `None` where the message makes no sense.

use prost::Message;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::operation::entries::DueClass;
use crate::operation::lease::{Answer, Call, EndedLease, Lease, Token};
use crate::operation::name::{Name, Queue};
use crate::operation::payload::{Detached, Payload};
use crate::operation::{
    Deletion, Operation, Pending, Places, SharedSpec, Spec, Stamps, State, Suspension, Tombstone,
};
use crate::proto::google::longrunning::operation::Result as Outcome;
use crate::proto::longhaul::store::v1 as stored;
use crate::proto::longhaul::v1 as pb;

pub(super) fn operation(mut stored: stored::Operation, stamps: Stamps) -> Option<Operation> {
    let published = stored.published.take()?;
    let stored_spec = std::mem::take(&mut stored.spec);
    let spec = decode_spec(stored::Spec::decode(stored_spec.clone()).ok()?)?;
    let metadata = match &stored.detached_metadata {
        Some(detached) => Some(Payload::Detached(decode_detached(detached)?)),
        // What the server fills in itself is no payload, nor is the empty message that stands for none.
        None if spec.server_metadata => None,
        None => published.metadata.filter(|any| !any.value.is_empty()).map(Payload::Inline),
    };
    Some(Operation {
        name: Name::parse(&published.name).ok()?,
        uid: Uuid::from_slice(&stored.uid).ok()?,
        state: decode_state(&stored, published.result)?,
        spec: SharedSpec::with_stored(spec, stored_spec),
        create_time: Timestamp::from_micros(stored.create_time),
        start_time: time(stored.start_time),
        end_time: time(stored.end_time),
        update_time: Timestamp::from_micros(stored.update_time),
        expire_time: time(stored.expire_time),
        metadata,
        progress: stored.progress,
        status_detail: stored.status_detail,
        partial_errors: stored.partial_errors,
        related_resources: stored.related_resources,
        attempts: stored.attempts,
        attempts_used: stored.attempts_used,
        unseen_leases: stored.unseen_leases,
        lost_leases: stored.lost_leases,
        cancel_trail: stored.cancel_trail,
        pause_requested: stored.pause_requested,
        suspend_reason: stored.suspend_reason,
        checkpoint: decode_payload(stored.checkpoint)?,
        resume_input: decode_payload(stored.resume_input)?,
        control_nonce: stored.control_nonce.as_ref().try_into().ok(),
        last_error: stored.last_error,
        ended_leases: stored.ended_leases.iter().map(decode_ended).collect::<Option<_>>()?,
        deletion: time(stored.delete_time).map(|time| Deletion {
            time,
            nonce: stored.delete_nonce.as_ref().try_into().unwrap_or_default(),
        }),
        places: decode_places(&stored.places.unwrap_or_default())?,
        stamps,
    })
}

fn decode_state(stored: &stored::Operation, outcome: Option<Outcome>) -> Option<State> {
    use pb::operation_record::State as Stored;
    Some(match (Stored::try_from(stored.state).ok()?, outcome) {
        (Stored::Pending, _) => State::Pending(Pending {
            ready_time: Timestamp::from_micros(stored.ready_time),
            retrying: stored.retrying,
        }),
        (Stored::Running, _) => State::Running(decode_lease(stored.lease.as_ref()?)?),
        (Stored::Cancelling, _) => State::Cancelling(
            decode_lease(stored.lease.as_ref()?)?,
            Timestamp::from_micros(stored.grace_end),
        ),
        (Stored::Suspended, _) => State::Suspended(Suspension {
            by_worker: stored.suspended_by_worker,
            resume_time: time(stored.resume_time),
        }),
        (Stored::Succeeded, Some(Outcome::Response(any))) => State::Succeeded(Payload::Inline(any)),
        (Stored::Succeeded, _) => State::Succeeded(Payload::Detached(decode_detached(
            stored.detached_response.as_ref()?,
        )?)),
        (Stored::Failed, Some(Outcome::Error(error))) => State::Failed(error),
        (Stored::Cancelled, Some(Outcome::Error(error))) => State::Cancelled(error),
        _ => return None,
    })
}

fn decode_spec(stored: stored::Spec) -> Option<Spec> {
    Some(Spec {
        queue: Queue::parse(&stored.queue).ok()?,
        method: stored.method,
        metadata_type: stored.metadata_type,
        response_type: stored.response_type,
        request: decode_payload(stored.request)?,
        options: stored.options.unwrap_or_default(),
        server_metadata: stored.server_metadata,
        request_id: stored.request_id,
        fingerprint: stored.fingerprint.as_ref().try_into().ok()?,
        trace_parent: stored.trace_parent,
    })
}

/// The outer `None` is damage, the inner one absence.
#[expect(clippy::option_option, reason = "damage and absence are two things")]
fn decode_payload(stored: Option<stored::Payload>) -> Option<Option<Payload>> {
    use stored::payload::Place;
    match stored.map(|payload| payload.place) {
        None => Some(None),
        Some(Some(Place::Inline(any))) => Some(Some(Payload::Inline(any))),
        Some(Some(Place::Detached(detached))) => {
            Some(Some(Payload::Detached(decode_detached(&detached)?)))
        }
        Some(None) => None,
    }
}

fn decode_detached(stored: &stored::Detached) -> Option<Detached> {
    let nonce = stored.nonce.as_ref().try_into().ok()?;
    Some(Detached { type_url: stored.type_url.clone(), size: stored.size, nonce })
}

fn decode_lease(stored: &stored::Lease) -> Option<Lease> {
    Some(Lease {
        token: Token(stored.token.as_ref().try_into().ok()?),
        attempt: stored.attempt,
        worker: stored.worker.clone(),
        start_time: Timestamp::from_micros(stored.start_time),
        expire_time: Timestamp::from_micros(stored.expire_time),
        duration: std::time::Duration::from_micros(stored.duration),
        report_number: stored.report_number,
        holder: stored.holder.as_ref().try_into().ok(),
        first_fraction: stored.first_fraction,
        stall_timeout: std::time::Duration::from_micros(stored.stall_timeout),
        stalled: stored.stalled,
    })
}

fn decode_ended(stored: &stored::EndedLease) -> Option<EndedLease> {
    use stored::ended_lease::Call as Stored;
    Some(EndedLease {
        token: Token(stored.token.as_ref().try_into().ok()?),
        call: match Stored::try_from(stored.call).ok()? {
            Stored::Unspecified => Call::Lost,
            Stored::Complete => Call::Complete,
            Stored::Fail => Call::Fail,
            Stored::Release => Call::Release,
            Stored::Suspend => Call::Suspend,
        },
        fingerprint: stored.fingerprint.as_ref().try_into().ok()?,
        answer: Answer {
            discarded: stored.discarded,
            will_retry: stored.will_retry,
            schedule_time: time(stored.schedule_time),
        },
    })
}

fn decode_places(stored: &stored::Places) -> Option<Places> {
    let due = stored
        .due
        .iter()
        .map(|due| Some((DueClass::from_number(due.class)?, Timestamp::from_micros(due.time))));
    Some(Places {
        listed: stored.listed,
        failed: stored.failed,
        ready: stored.ready.then_some(stored.rank),
        due: due.collect::<Option<_>>()?,
    })
}

pub(super) fn tombstone(stored: stored::Tombstone) -> Option<Tombstone> {
    Some(Tombstone {
        name: Name::parse(&stored.name).ok()?,
        uid: Uuid::from_slice(&stored.uid).ok()?,
        deleted: stored.deleted,
        end_time: Timestamp::from_micros(stored.end_time),
        forget_time: Timestamp::from_micros(stored.forget_time),
        request_id: stored.request_id,
        fingerprint: stored.fingerprint.as_ref().try_into().ok()?,
        delete_nonce: stored.delete_nonce.as_ref().try_into().ok(),
        ended_leases: stored.ended_leases.iter().map(decode_ended).collect::<Option<_>>()?,
    })
}

fn time(micros: u64) -> Option<Timestamp> {
    (micros > 0).then(|| Timestamp::from_micros(micros))
}
