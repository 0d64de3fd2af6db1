//! A record of whichever kind, for readers that learn the kind by reading.

use super::due::{Agent, DueIndex};
#[cfg(test)]
use super::sample::Sample;
use super::server::ServerRecord;
use super::{Before, Kind, kind_number, read_at, refuse};
use crate::operation::Record as Operation;
use crate::store::{Key, Keyspace, Record, StoreError};

/// A record of one of the known kinds.
#[derive(Clone, Debug)]
pub enum AnyRecord {
    /// An operation or its tombstone.
    Operation(Before<Operation>),
    /// A running server.
    Server(Before<ServerRecord>),
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
        #[cfg(test)]
        if Sample::NUMBERS.contains(&number) {
            return read_at(keyspace, key, record).map(Self::Sample);
        }
        Err(refuse("a record", record))
    }

    /// The due indexes of its kind.
    pub const fn due_indexes(&self) -> &'static [DueIndex] {
        match self {
            Self::Operation(_) => Operation::DUE,
            Self::Server(_) => ServerRecord::DUE,
            #[cfg(test)]
            Self::Sample(_) => Sample::DUE,
        }
    }
}

/// The due indexes that an agent polls, in the order in which it polls them.
pub fn due_indexes(agent: Agent) -> impl Iterator<Item = &'static DueIndex> {
    all_due_indexes().filter(move |index| index.agent == agent)
}

fn all_due_indexes() -> impl Iterator<Item = &'static DueIndex> {
    KINDS.iter().flat_map(|kind| kind.due)
}

/// Whether this version knows the kind whose message has that number.
pub(super) fn is_known(number: u32) -> bool {
    KINDS.iter().any(|kind| kind.numbers.contains(&number))
}

/// The properties of a kind that need no record.
struct Known {
    numbers: &'static [u32],
    due: &'static [DueIndex],
}

impl Known {
    const fn of<K: Kind>() -> Self {
        Self { numbers: K::NUMBERS, due: K::DUE }
    }
}

/// All kinds.
const KINDS: &[Known] = &[
    Known::of::<Operation>(),
    Known::of::<ServerRecord>(),
    #[cfg(test)]
    Known::of::<Sample>(),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_kinds_share_a_number_or_a_due_index() {
        let (mut numbers, mut names) = (HashSet::new(), HashSet::new());
        for kind in KINDS {
            assert!(kind.numbers.iter().all(|number| numbers.insert(number)), "{:?}", kind.numbers);
            assert!(kind.due.iter().all(|index| names.insert(index.name)), "{:?}", kind.due);
        }
        assert!(names.iter().all(|name| name.starts_with("due/")), "{names:?}");
    }
}
