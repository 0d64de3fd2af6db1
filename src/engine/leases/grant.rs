//! A lease on its way to a worker.

use crate::operation::lease::Lease;
use crate::operation::{Operation, Record};
use crate::store::Key;

/// A lease that was committed.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Grant {
    pub(in crate::engine) key: Key,
    pub(in crate::engine) operation: Box<Operation>,
}

impl Grant {
    pub(in crate::engine) fn new(key: Key, record: Record) -> Option<Self> {
        match record {
            Record::Operation(operation) => Some(Self { key, operation }),
            Record::Tombstone(_) => None,
        }
    }

    pub(in crate::engine) fn lease(&self) -> Option<&Lease> {
        self.operation.state.lease()
    }
}
