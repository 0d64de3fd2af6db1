//! The parts of a record that a published operation is made of, without decoding the rest.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{decode_key, decode_varint};

use super::parts::OPERATION;
use super::times::Base;
use super::{parts, payload};
use crate::clock::Timestamp;
use crate::operation::payload::Payload;
use crate::operation::published::{empty_metadata, pack_metadata};
use crate::proto::google::longrunning::{Operation as Published, operation::Result as Outcome};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::store::v1 as stored;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::operation_record::State;
use crate::record::value::format;
use crate::store::{FORMAT, Record};

/// The published form of an operation, without decoding the rest of its record. `now` is called for a finished one.
///
/// `None` if that is not enough: for tombstones, deleted and expired operations, payloads with a body, and damage.
pub fn glance(record: &Record, now: impl FnOnce() -> Timestamp) -> Option<Published> {
    let operation = operation(&record.value)?;
    // Fields are stored in the order of their numbers, and this is the first, unless the operation is done.
    let (first, _) = decode_key(&mut &operation[..]).ok()?;
    if first == PUBLISHED {
        let UnfinishedGlance { published, detached_metadata, delete_after } =
            UnfinishedGlance::decode(operation).ok()?;
        return published.filter(|_| detached_metadata.is_none() && delete_after.is_none());
    }
    if format(&record.value) > FORMAT {
        return None;
    }
    FinishedGlance::decode(operation).ok()?.published(now())
}

/// The stored operation of a record's value.
fn operation(value: &Bytes) -> Option<Bytes> {
    let mut rest = &value[..];
    let (number, _) = decode_key(&mut rest).ok()?;
    let length = decode_varint(&mut rest).ok()?;
    let length = usize::try_from(length).ok().filter(|length| *length <= rest.len())?;
    let start = value.len() - rest.len();
    (number == OPERATION).then(|| value.slice(start..start + length))
}

/// The number of `stored::Operation::published`.
const PUBLISHED: u32 = 1;

/// `stored::Operation` before it is done, as far as [`glance`] needs it.
#[derive(Clone, PartialEq, Message)]
struct UnfinishedGlance {
    #[prost(message, optional, tag = "1")]
    published: Option<Published>,
    #[prost(message, optional, tag = "27")]
    detached_metadata: Option<Skipped>,
    #[prost(sint64, optional, tag = "40")]
    delete_after: Option<i64>,
}

/// `stored::Operation` once it is done, as far as [`glance`] needs it.
#[derive(Clone, PartialEq, Message)]
struct FinishedGlance {
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    parent: String,
    #[prost(bytes = "bytes", tag = "4")]
    id: Bytes,
    #[prost(message, optional, tag = "5")]
    metadata: Option<stored::Payload>,
    #[prost(message, optional, tag = "6")]
    response: Option<stored::Payload>,
    #[prost(message, optional, tag = "7")]
    error: Option<Status>,
    #[prost(message, optional, tag = "9")]
    spec: Option<SpecGlance>,
    #[prost(enumeration = "stored::State", tag = "10")]
    state: i32,
    #[prost(uint64, tag = "11")]
    create_time: u64,
    #[prost(sint64, optional, tag = "12")]
    start_after: Option<i64>,
    #[prost(sint64, optional, tag = "13")]
    end_after: Option<i64>,
    #[prost(sint64, optional, tag = "14")]
    update_after: Option<i64>,
    #[prost(sint64, optional, tag = "15")]
    expire_after: Option<i64>,
    #[prost(message, optional, tag = "16")]
    progress: Option<stored::Progress>,
    #[prost(message, repeated, tag = "17")]
    attempts: Vec<Skipped>,
    #[prost(sint32, tag = "18")]
    further_attempts: i32,
    #[prost(string, tag = "29")]
    status_detail: String,
    #[prost(message, repeated, tag = "30")]
    partial_errors: Vec<Status>,
    #[prost(message, optional, tag = "33")]
    cancel_trail: Option<stored::CancelTrail>,
    #[prost(string, tag = "35")]
    suspend_reason: String,
    #[prost(sint64, optional, tag = "40")]
    delete_after: Option<i64>,
}

/// `stored::Spec`, as far as [`glance`] needs it.
#[derive(Clone, PartialEq, Message)]
struct SpecGlance {
    #[prost(string, tag = "2")]
    method: String,
    #[prost(string, tag = "3")]
    metadata_type: String,
    #[prost(message, optional, tag = "6")]
    options: Option<OptionsGlance>,
    #[prost(bool, tag = "7")]
    server_metadata: bool,
    #[prost(message, optional, tag = "11")]
    of_job: Option<Skipped>,
}

/// `stored::Options`, as far as [`glance`] needs it.
#[derive(Clone, PartialEq, Message)]
struct OptionsGlance {
    #[prost(string, tag = "11")]
    target: String,
}

/// A message that only has to be there.
#[derive(Clone, PartialEq, Message)]
struct Skipped {}

impl FinishedGlance {
    /// The published form, unless it was deleted or has expired.
    fn published(mut self, now: Timestamp) -> Option<Published> {
        let state = match stored::State::try_from(self.state).ok()? {
            stored::State::Succeeded => State::Succeeded,
            stored::State::Failed => State::Failed,
            stored::State::Cancelled => State::Cancelled,
            _ => return None,
        };
        let base = Base(Timestamp::from_micros(self.create_time));
        let expired = self.expire_after.is_some_and(|after| base.time(after) <= now);
        if expired || self.delete_after.is_some() {
            return None;
        }
        let result = match state {
            State::Succeeded => Outcome::Response(inline(self.response.take()?)?),
            _ => Outcome::Error(self.error.take()?),
        };
        let name = parts::full_name(&self.name, &self.parent, &self.id)?.into_owned();
        let spec = self.spec.take()?;
        // A run of a job has metadata and a response of its own.
        if spec.of_job.is_some() {
            return None;
        }
        let metadata = match self.metadata.take() {
            _ if spec.server_metadata => {
                Some(pack_metadata(&self.server_metadata(base, state, spec)))
            }
            Some(metadata) => Some(inline(metadata)?),
            None => empty_metadata(&spec.metadata_type),
        };
        Some(Published { name, metadata, done: true, result: Some(result) })
    }

    /// As [`crate::operation::Operation::server_metadata`] of the whole record.
    fn server_metadata(self, base: Base, state: State, spec: SpecGlance) -> pb::OperationMetadata {
        let end_time = base.published(self.end_after);
        pb::OperationMetadata {
            create_time: Some(base.0.into()),
            end_time,
            target: spec.options.map(|options| options.target).unwrap_or_default(),
            verb: spec.method,
            status_detail: self.status_detail,
            cancel_requested: self.cancel_trail.is_some(),
            api_version: "v1".to_owned(),
            state: state.into(),
            progress: self.progress.map(|it| parts::decode_progress(base, it)),
            attempt_count: self.further_attempts.saturating_add(self.attempts.len() as i32),
            start_time: base.published(self.start_after),
            update_time: base.published(self.update_after).or(end_time).or(Some(base.0.into())),
            expire_time: base.published(self.expire_after),
            estimated_end_time: None,
            partial_errors: self.partial_errors,
            cancel_trail: self.cancel_trail.map(|it| parts::decode_trail(base, it)),
            suspend_reason: self.suspend_reason,
            stalled: false,
        }
    }
}

/// A payload that is in the record.
fn inline(stored: stored::Payload) -> Option<Any> {
    match payload::decode(Some(stored))?? {
        Payload::Inline(any) => Some(any),
        Payload::Detached(_) => None,
    }
}
