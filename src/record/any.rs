//! A record of whichever kind, for readers that learn the kind by reading.

use super::delivery::Delivery;
use super::due::DueIndex;
use super::event::OutboxEvent;
use super::gate::GateRecord;
use super::kind::{Before, Derived, Kind};
use super::queue::QueueRecord;
use super::reading::{read_at, refuse};
#[cfg(test)]
use super::sample::Sample;
use super::server::ServerRecord;
use super::tokens::ApiToken;
use super::type_sets::TypeSets;
use super::value::kind_number;
use crate::job::{Execution, ExecutionEnd, Job};
use crate::operation::Record as Operation;
use crate::store::{Key, Keyspace, Record, StoreError};
use crate::webhook::endpoint::Endpoint;

/// A record of one of the known kinds.
#[derive(Clone, Debug)]
pub enum AnyRecord {
    /// An operation or its tombstone.
    Operation(Before<Operation>),
    /// A running server.
    Server(Before<ServerRecord>),
    /// The type sets of one parent.
    TypeSets(Before<TypeSets>),
    /// The gate of a concurrency key or of a queue.
    Gate(Before<GateRecord>),
    /// A webhook endpoint.
    Endpoint(Before<Endpoint>),
    /// A job.
    Job(Box<Before<Job>>),
    /// The beginning of an execution.
    Execution(Before<Execution>),
    /// The end of an execution.
    ExecutionEnd(Before<ExecutionEnd>),
    /// An event of an operation.
    Event(Before<OutboxEvent>),
    /// An event on its way to a receiver.
    Delivery(Box<Before<Delivery>>),
    /// The settings of one queue.
    Queue(Before<QueueRecord>),
    /// A token of the API.
    Token(Before<ApiToken>),
    /// The kind that only tests have.
    #[cfg(test)]
    Sample(Before<Sample>),
}

impl AnyRecord {
    /// Reads the record that is stored under `key`.
    ///
    /// # Errors
    /// As [`read_at`].
    pub fn read_at(keyspace: &Keyspace, key: Key, record: &Record) -> Result<Self, StoreError> {
        let Some(number) = kind_number(&record.value) else {
            return Err(refuse("a record", record));
        };
        if Operation::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Self::Operation);
        }
        if ServerRecord::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Self::Server);
        }
        if TypeSets::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Self::TypeSets);
        }
        if GateRecord::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Self::Gate);
        }
        if Endpoint::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Self::Endpoint);
        }
        if Job::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Box::new).map(Self::Job);
        }
        if Execution::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Self::Execution);
        }
        if ExecutionEnd::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Self::ExecutionEnd);
        }
        if OutboxEvent::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Self::Event);
        }
        if Delivery::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Box::new).map(Self::Delivery);
        }
        if QueueRecord::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Self::Queue);
        }
        if ApiToken::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Self::Token);
        }
        #[cfg(test)]
        if Sample::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Self::Sample);
        }
        Err(refuse("a record", record))
    }

    /// What follows from it.
    pub fn derived(&self, key: Key) -> Derived {
        match self {
            Self::Operation(before) => Derived::of(&before.record, key),
            Self::Server(before) => Derived::of(&before.record, key),
            Self::TypeSets(before) => Derived::of(&before.record, key),
            Self::Gate(before) => Derived::of(&before.record, key),
            Self::Endpoint(before) => Derived::of(&before.record, key),
            Self::Job(before) => Derived::of(&before.record, key),
            Self::Execution(before) => Derived::of(&before.record, key),
            Self::ExecutionEnd(before) => Derived::of(&before.record, key),
            Self::Event(before) => Derived::of(&before.record, key),
            Self::Delivery(before) => Derived::of(&before.record, key),
            Self::Queue(before) => Derived::of(&before.record, key),
            Self::Token(before) => Derived::of(&before.record, key),
            #[cfg(test)]
            Self::Sample(before) => Derived::of(&before.record, key),
        }
    }

    /// The due indexes of its kind.
    pub const fn due_indexes(&self) -> &'static [DueIndex] {
        match self {
            Self::Operation(_) => Operation::DUE,
            Self::Server(_) => ServerRecord::DUE,
            Self::TypeSets(_) => TypeSets::DUE,
            Self::Gate(_) => GateRecord::DUE,
            Self::Endpoint(_) => Endpoint::DUE,
            Self::Job(_) => Job::DUE,
            Self::Execution(_) => Execution::DUE,
            Self::ExecutionEnd(_) => ExecutionEnd::DUE,
            Self::Event(_) => OutboxEvent::DUE,
            Self::Delivery(_) => Delivery::DUE,
            Self::Queue(_) => QueueRecord::DUE,
            Self::Token(_) => ApiToken::DUE,
            #[cfg(test)]
            Self::Sample(_) => Sample::DUE,
        }
    }
}
