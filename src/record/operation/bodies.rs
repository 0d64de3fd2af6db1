//! Payloads above [`MAX_INLINE_BYTES`] are stored beside their record, each as a body of its own.

use bytes::Bytes;

use crate::limits::MAX_INLINE_BYTES;
use crate::operation::payload::{Detached, Payload};
use crate::operation::{Operation, Record, State};
use crate::proto::google::protobuf::Any;
use crate::store::{BodyKey, Key};

/// Which of an operation's payloads a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Slot {
    /// The request.
    Request = 1,
    /// The user's metadata.
    Metadata = 2,
    /// The result.
    Response = 3,
    /// Where the next attempt goes on.
    Checkpoint = 4,
    /// The payload of the last resume.
    ResumeInput = 5,
}

/// The key of a detached payload's body.
pub const fn body_key(record: Key, slot: Slot, detached: &Detached) -> BodyKey {
    BodyKey { record, slot: slot as u8, nonce: detached.nonce }
}

/// Every body that a record names.
pub(super) fn bodies_of(record: &Record, key: Key) -> Vec<BodyKey> {
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
pub(super) fn must_detach(record: &Record) -> bool {
    let Record::Operation(operation) = record else { return false };
    operation.payloads().any(|(_, payload)| is_large(payload))
}

/// Detaches payloads that are too large for the record. Call it before [`encode`].
pub(super) fn detach(record: &mut Record, key: Key) -> Vec<(BodyKey, Bytes)> {
    let Record::Operation(operation) = record else { return Vec::new() };
    let mut bodies = Vec::new();
    let mut detach = |slot, payload: &mut Payload| {
        let Payload::Inline(any) = payload else { return };
        if any.value.len() <= MAX_INLINE_BYTES {
            return;
        }
        let detached = Detached::of(any);
        bodies.push((body_key(key, slot, &detached), std::mem::take(&mut any.value)));
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

/// Fills a body into the payload that names it.
pub fn attach(type_url: &str, body: &Bytes) -> Any {
    Any { type_url: type_url.to_owned(), value: body.clone() }
}

fn is_large(payload: &Payload) -> bool {
    payload.inline().is_some_and(|any| any.value.len() > MAX_INLINE_BYTES)
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
