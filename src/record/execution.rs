//! Executions: two records beside that of their operation. The first is written with the start of the operation, the second
//! with its end, so that no crash comes between them. Both stay when the operation expires.

use bytes::Bytes;
use uuid::Uuid;

use super::due::{Agent, DueIndex, due_member};
use super::job::{bytes, decode_spec, encode_spec, micros, time};
use super::kind::Kind;
use super::note::Note;
use super::operation::{Slot, detach_request, payload};
use super::plan::Also;
use super::value::{unwrap, wrap};
use crate::clock::Timestamp;
use crate::job::name::{ExecutionName, JobName};
use crate::job::{Ending, Execution, ExecutionEnd};
use crate::operation::entries::{parent_member, parent_prefix};
use crate::operation::payload::Payload;
use crate::operation::{Change, Record, Stamps, Trigger};
use crate::proto::longhaul::store::v1 as stored;
use crate::proto::longhaul::store::v1::record::Kind as Stored;
use crate::store::{BodyKey, Index, IndexEntry, Key, Keyspace};

/// The executions of a job, in order of creation.
pub const EXECUTIONS: &str = "executions";
/// Executions that are over, and whose jobs do not know it yet.
const DUE: &str = "due/execution";

/// What the entries of the executions of a job begin with.
pub fn executions_prefix(job: &JobName) -> Vec<u8> {
    parent_prefix(job.as_str())
}

/// The keys of both records of an execution, from the key of its operation.
pub fn keys(operation: Key) -> [Key; 2] {
    [operation.beside(BEGINNING), operation.beside(END)]
}

/// The key of the end of an execution, from the key of its operation.
pub fn end_key(operation: Key) -> Key {
    operation.beside(END)
}

/// The record of the end of an execution, if `change` to its operation ends it.
pub fn end_of_run(
    operation: Key,
    before: &Record,
    change: &Change,
    now: Timestamp,
) -> Option<Also> {
    let end = ExecutionEnd::of(before, change, now)?;
    Some(Also::create(end_key(operation), end))
}

impl Kind for Execution {
    const NAME: &'static str = "an execution";
    const NUMBERS: &'static [u32] = &[BEGINNING_NUMBER];
    const DUE: &'static [DueIndex] = &[];

    fn name(&self) -> String {
        Self::name(self).to_string()
    }

    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool {
        operation_key(keyspace, &Self::name(self)).beside(BEGINNING) == key
    }

    fn decode(value: &Bytes, _: Stamps) -> Option<Self> {
        match unwrap(value)? {
            Stored::Execution(execution) => Some(Self {
                job: JobName::parse(&execution.job).ok()?,
                id: Uuid::from_slice(&execution.id).ok()?,
                create_time: Timestamp::from_micros(execution.create_time),
                trigger: Trigger::from_number(execution.trigger)?,
                tick: time(execution.tick),
                spec: decode_spec(execution.spec)?,
            }),
            _ => None,
        }
    }

    fn encode(&self) -> Bytes {
        let message = stored::Execution {
            job: self.job.as_str().to_owned(),
            id: bytes(self.id),
            create_time: self.create_time.as_micros(),
            trigger: u32::from(self.trigger as u8),
            tick: micros(self.tick),
            spec: encode_spec(&self.spec),
        };
        wrap(BEGINNING_NUMBER, &message)
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        let member = parent_member(self.job.as_str(), self.create_time, key.as_bytes()).into();
        vec![IndexEntry { index: Index::new(EXECUTIONS), member }]
    }

    fn bodies(&self, key: Key) -> Vec<BodyKey> {
        Slot::Request.body_of(key, self.spec.request.as_ref()).into_iter().collect()
    }

    fn must_detach(&self) -> bool {
        Slot::is_large(self.spec.request.as_ref())
    }

    fn detach(&mut self, key: Key) -> Vec<(BodyKey, Bytes)> {
        detach_request(&mut self.spec, key)
    }

    /// The hint of its operation says all.
    fn hint(_: Option<&Self>, _: Option<&Self>, _: bool) -> Option<Note> {
        None
    }
}

impl Kind for ExecutionEnd {
    const NAME: &'static str = "the end of an execution";
    const NUMBERS: &'static [u32] = &[END_NUMBER];
    const DUE: &'static [DueIndex] = &[DueIndex::new(DUE, Agent::Scheduler)];

    fn name(&self) -> String {
        format!("the end of {}", Self::name(self))
    }

    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool {
        end_key(operation_key(keyspace, &Self::name(self))) == key
    }

    fn decode(value: &Bytes, _: Stamps) -> Option<Self> {
        let Stored::ExecutionEnd(end) = unwrap(value)? else { return None };
        let ending = match (payload::decode(end.response)?, end.error) {
            (Some(response), _) => Ending::Succeeded(response),
            (None, Some(error)) if end.cancelled => Ending::Cancelled(error),
            (None, Some(error)) => Ending::Failed(error),
            (None, None) => return None,
        };
        Some(Self {
            job: JobName::parse(&end.job).ok()?,
            id: Uuid::from_slice(&end.id).ok()?,
            ending,
            start_time: time(end.start_time),
            end_time: Timestamp::from_micros(end.end_time),
            attempts: end.attempts,
            settled: end.settled,
        })
    }

    fn encode(&self) -> Bytes {
        let (response, error, cancelled) = match &self.ending {
            Ending::Succeeded(response) => (Some(payload::encode(response)), None, false),
            Ending::Failed(error) => (None, Some(error.clone()), false),
            Ending::Cancelled(error) => (None, Some(error.clone()), true),
        };
        let message = stored::ExecutionEnd {
            job: self.job.as_str().to_owned(),
            id: bytes(self.id),
            response,
            error,
            cancelled,
            start_time: micros(self.start_time),
            end_time: self.end_time.as_micros(),
            attempts: self.attempts,
            settled: self.settled,
        };
        wrap(END_NUMBER, &message)
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        let member = due_member(self.end_time, key).into();
        let due = IndexEntry { index: Index::new(DUE), member };
        (!self.settled).then_some(due).into_iter().collect()
    }

    fn bodies(&self, key: Key) -> Vec<BodyKey> {
        Slot::Response.body_of(key, response(&self.ending)).into_iter().collect()
    }

    fn must_detach(&self) -> bool {
        Slot::is_large(response(&self.ending))
    }

    fn detach(&mut self, key: Key) -> Vec<(BodyKey, Bytes)> {
        let Ending::Succeeded(response) = &mut self.ending else { return Vec::new() };
        Slot::Response.detach(key, response).into_iter().collect()
    }

    fn hint(_: Option<&Self>, _: Option<&Self>, _: bool) -> Option<Note> {
        None
    }
}

const fn response(ending: &Ending) -> Option<&Payload> {
    match ending {
        Ending::Succeeded(response) => Some(response),
        Ending::Failed(_) | Ending::Cancelled(_) => None,
    }
}

fn operation_key(keyspace: &Keyspace, name: &ExecutionName) -> Key {
    keyspace.key(name.operation().as_str())
}

/// What tells the records beside an operation from one another.
const BEGINNING: u64 = 0x6a01;
const END: u64 = 0x6a02;
/// The numbers of both in `longhaul.store.v1.Record`.
const BEGINNING_NUMBER: u32 = 6;
const END_NUMBER: u32 = 7;
