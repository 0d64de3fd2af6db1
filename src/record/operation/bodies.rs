//! Payloads above [`MAX_INLINE_BYTES`] are stored beside their record, each as a body of its own.

use bytes::Bytes;

use crate::limits::MAX_INLINE_BYTES;
use crate::operation::payload::{Detached, Payload};
use crate::operation::{Operation, Record, SharedSpec, State};
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
    operation.payloads().filter_map(|(slot, payload)| slot.body_of(key, Some(payload))).collect()
}

/// Whether [`detach`] would find anything.
pub(super) fn must_detach(record: &Record) -> bool {
    let Record::Operation(operation) = record else { return false };
    operation.payloads().any(|(_, payload)| is_large(payload))
}

/// Detaches payloads that are too large for the record. Call it before [`encode`].
pub(super) fn detach(record: &mut Record, key: Key) -> Vec<(BodyKey, Bytes)> {
    let Record::Operation(operation) = record else { return Vec::new() };
    let payloads = operation.payloads_mut().into_iter();
    let mut bodies: Vec<_> =
        payloads.filter_map(|(slot, payload)| slot.detach(key, payload)).collect();
    bodies.extend(detach_request(&mut operation.spec, key));
    bodies
}

/// Detaches the request of a spec if it is too large for the record.
pub fn detach_request(spec: &mut SharedSpec, key: Key) -> Vec<(BodyKey, Bytes)> {
    if !Slot::is_large(spec.request.as_ref()) {
        return Vec::new();
    }
    let request = spec.make_mut().request.as_mut();
    request.and_then(|request| Slot::Request.detach(key, request)).into_iter().collect()
}

impl Slot {
    /// The body of a payload that is detached.
    pub fn body_of(self, key: Key, payload: Option<&Payload>) -> Option<BodyKey> {
        match payload? {
            Payload::Detached(detached) => Some(body_key(key, self, detached)),
            Payload::Inline(_) => None,
        }
    }

    /// Whether a payload is too large for the record that it is in.
    pub fn is_large(payload: Option<&Payload>) -> bool {
        payload.is_some_and(is_large)
    }

    /// Detaches a payload if it is too large for the record.
    pub fn detach(self, key: Key, payload: &mut Payload) -> Option<(BodyKey, Bytes)> {
        let Payload::Inline(any) = payload else { return None };
        if any.value.len() <= MAX_INLINE_BYTES {
            return None;
        }
        let detached = Detached::of(any);
        let body = (body_key(key, self, &detached), std::mem::take(&mut any.value));
        *payload = Payload::Detached(detached);
        Some(body)
    }
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
