//! Records as bytes, and back. The stored form is `proto/longhaul/store/v1/store.proto`.
//!
//! Payloads above [`MAX_INLINE_BYTES`] leave the record for a body of their own; the record keeps their name.

use bytes::Bytes;
use prost::Message;
use prost_types::Any;
use uuid::Uuid;

use super::{BodyKey, Key, StoreError};
use crate::clock::Timestamp;
use crate::limits::MAX_INLINE_BYTES;
use crate::operation::entries::DueClass;
use crate::operation::lease::{Answer, Call, EndedLease, Lease, Token};
use crate::operation::name::{Name, Queue};
use crate::operation::payload::{Detached, Payload};
use crate::operation::{
    Deletion, Operation, Pending, Places, Record, SharedSpec, Spec, Stamps, State, Suspension,
    Tombstone,
};
use crate::proto::google::longrunning::Operation as Published;
use crate::proto::google::longrunning::operation::Result as Outcome;
use crate::proto::longhaul::store::v1 as stored;
use crate::proto::longhaul::v1 as pb;

/// Which of an operation's payloads a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Slot {
    /// What to do it with.
    Request = 1,
    /// The user's metadata.
    Metadata = 2,
    /// The result.
    Response = 3,
    /// Where the next attempt goes on.
    Checkpoint = 4,
    /// What the last resume brought.
    ResumeInput = 5,
}

/// A record as it is stored: its value, and the bodies beside it.
#[derive(Debug)]
pub struct Encoded {
    /// The value.
    pub value: Bytes,
    /// Bodies that the record newly names.
    pub bodies: Vec<(BodyKey, Bytes)>,
}

/// The key of a detached payload's body.
pub const fn body_key(record: Key, slot: Slot, detached: &Detached) -> BodyKey {
    BodyKey { record, slot: slot as u8, nonce: detached.nonce }
}

/// Every body that a record names.
pub fn bodies_of(record: &Record, key: Key) -> Vec<BodyKey> {
    let Record::Operation(operation) = record else { return Vec::new() };
    operation
        .payloads()
        .filter_map(|(slot, payload)| match payload {
            Payload::Detached(detached) => Some(body_key(key, slot, detached)),
            Payload::Inline(_) => None,
        })
        .collect()
}

/// Whether [`detach`] would find anything.
pub fn must_detach(record: &Record) -> bool {
    let Record::Operation(operation) = record else { return false };
    operation.payloads().any(|(_, payload)| is_large(payload))
}

fn is_large(payload: &Payload) -> bool {
    payload.inline().is_some_and(|any| any.value.len() > MAX_INLINE_BYTES)
}

/// Detaches what is too large to stay in the record. Call it before [`encode`].
pub fn detach(record: &mut Record, key: Key) -> Vec<(BodyKey, Bytes)> {
    let Record::Operation(operation) = record else { return Vec::new() };
    let mut bodies = Vec::new();
    let mut detach = |slot, payload: &mut Payload| {
        let Payload::Inline(any) = payload else { return };
        if any.value.len() <= MAX_INLINE_BYTES {
            return;
        }
        let detached = Detached::of(any);
        bodies.push((body_key(key, slot, &detached), Bytes::from(std::mem::take(&mut any.value))));
        *payload = Payload::Detached(detached);
    };
    for (slot, payload) in operation.payloads_mut() {
        detach(slot, payload);
    }
    if operation.spec.request.as_ref().is_some_and(is_large)
        && let Some(request) = &mut operation.spec.make_mut().request
    {
        detach(Slot::Request, request);
    }
    bodies
}

/// A record's value.
pub fn encode(record: &Record) -> Bytes {
    let kind = match record {
        Record::Operation(operation) => {
            stored::record::Kind::Operation(encode_operation(operation))
        }
        Record::Tombstone(tombstone) => {
            stored::record::Kind::Tombstone(encode_tombstone(tombstone))
        }
    };
    stored::Record { kind: Some(kind) }.encode_to_vec().into()
}

/// Reads a stored record.
///
/// # Errors
/// [`StoreError::Damaged`] names what cannot be read.
pub fn decode(record: &super::Record) -> Result<Record, StoreError> {
    let stamps = Stamps {
        revision: record.revision,
        visible: record.visible_revision,
        fencing: record.fencing_number,
    };
    let kind = stored::Record::decode(record.value.clone()).ok().and_then(|record| record.kind);
    let decoded = match kind {
        Some(stored::record::Kind::Operation(operation)) => decode_operation(operation, stamps)
            .map(|operation| Record::Operation(Box::new(operation))),
        Some(stored::record::Kind::Tombstone(tombstone)) => {
            decode_tombstone(tombstone).map(Record::Tombstone)
        }
        // No name leads to a server.
        Some(stored::record::Kind::Server(_)) | None => None,
    };
    decoded.ok_or_else(|| {
        StoreError::Damaged(format!("revision {} of {} bytes", record.revision, record.value.len()))
    })
}

/// What callers get of an operation, without a look at the rest of its record.
///
/// `None` where that is not all there is to say: of tombstones, deleted operations, payloads with a body, and damage.
pub fn glance(record: &super::Record) -> Option<Published> {
    let operation = Glance::decode(record.value.clone()).ok()?.operation?;
    let whole = operation.delete_time == 0
        && operation.detached_metadata.is_none()
        && operation.detached_response.is_none();
    operation.published.filter(|_| whole)
}

/// `stored::Record`, as far as [`glance`] needs it.
#[derive(Clone, PartialEq, Message)]
struct Glance {
    #[prost(message, optional, tag = "1")]
    operation: Option<OperationGlance>,
}

/// `stored::Operation`, as far as [`glance`] needs it.
#[derive(Clone, PartialEq, Message)]
struct OperationGlance {
    #[prost(message, optional, tag = "1")]
    published: Option<Published>,
    #[prost(bytes = "bytes", optional, tag = "16")]
    detached_metadata: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "17")]
    detached_response: Option<Bytes>,
    #[prost(uint64, tag = "33")]
    delete_time: u64,
}

impl Operation {
    fn payloads(&self) -> impl Iterator<Item = (Slot, &Payload)> {
        let response = match &self.state {
            State::Succeeded(response) => Some(response),
            _ => None,
        };
        let all = [
            (Slot::Request, self.spec.request.as_ref()),
            (Slot::Metadata, self.metadata.as_ref()),
            (Slot::Response, response),
            (Slot::Checkpoint, self.checkpoint.as_ref()),
            (Slot::ResumeInput, self.resume_input.as_ref()),
        ];
        all.into_iter().filter_map(|(slot, payload)| Some((slot, payload?)))
    }

    /// Those that may change.
    fn payloads_mut(&mut self) -> Vec<(Slot, &mut Payload)> {
        let response = match &mut self.state {
            State::Succeeded(response) => Some(response),
            _ => None,
        };
        let all = [
            (Slot::Metadata, self.metadata.as_mut()),
            (Slot::Response, response),
            (Slot::Checkpoint, self.checkpoint.as_mut()),
            (Slot::ResumeInput, self.resume_input.as_mut()),
        ];
        all.into_iter().filter_map(|(slot, payload)| Some((slot, payload?))).collect()
    }
}

fn encode_operation(operation: &Operation) -> stored::Operation {
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

fn decode_operation(mut stored: stored::Operation, stamps: Stamps) -> Option<Operation> {
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

fn encode_payload(payload: &Payload) -> stored::Payload {
    use stored::payload::Place;
    let place = match payload {
        Payload::Inline(any) => Place::Inline(any.clone()),
        Payload::Detached(detached) => Place::Detached(name_detached(detached)),
    };
    stored::Payload { place: Some(place) }
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

fn decode_detached(stored: &stored::Detached) -> Option<Detached> {
    let nonce = stored.nonce.as_ref().try_into().ok()?;
    Some(Detached { type_url: stored.type_url.clone(), size: stored.size, nonce })
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

fn encode_tombstone(tombstone: &Tombstone) -> stored::Tombstone {
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

fn decode_tombstone(stored: stored::Tombstone) -> Option<Tombstone> {
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

/// Fills a body into the payload that names it.
pub fn attach(type_url: &str, body: &Bytes) -> Any {
    Any { type_url: type_url.to_owned(), value: body.to_vec() }
}

fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn micros(time: Option<Timestamp>) -> u64 {
    time.map_or(0, Timestamp::as_micros)
}

fn time(micros: u64) -> Option<Timestamp> {
    (micros > 0).then(|| Timestamp::from_micros(micros))
}
