//! What this server wrote last of the operations that workers hold, so that their next report need not read it first.
//!
//! May be out of date: somebody else may have written since. So a decision upon it counts only if it is committed, by
//! compare-and-set; whatever else comes of it is decided again upon what the store holds.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::operation::{Change, Record};
use crate::store::{Committed, Key, Put, Record as Stored, WriteSet};

/// Records by key, at most [`CAPACITY`].
#[derive(Default)]
pub(super) struct Recent {
    records: Mutex<HashMap<Key, Stored>>,
}

/// What a commit will have to keep: its write set's record, where a worker holds the operation.
pub(super) fn worth_keeping(set: &WriteSet, change: &Change) -> Option<Put> {
    let held = change
        .record
        .as_ref()
        .and_then(Record::operation)
        .is_some_and(|operation| operation.state.lease().is_some());
    set.puts.first().filter(|put| held && put.value.len() <= LARGEST).cloned()
}

impl Recent {
    /// What was written last, if that is known; it is known no more.
    pub(super) fn take(&self, key: Key) -> Option<Stored> {
        self.lock().remove(&key)
    }

    /// Keeps what a commit wrote, if it is worth it.
    pub(super) fn keep_some(&self, put: Option<Put>, committed: Committed) {
        if let Some(put) = put {
            self.keep(put, committed);
        }
    }

    fn keep(&self, put: Put, Committed { revision }: Committed) {
        let record = Stored {
            revision,
            visible_revision: put.visible.resolve(revision),
            fencing_number: put.fencing.resolve(revision),
            value: put.value,
        };
        let mut records = self.lock();
        if records.len() >= CAPACITY
            && let Some(other) = records.keys().next().copied()
        {
            records.remove(&other);
        }
        // Of two commits whose answers come out of order the later one counts.
        if records.get(&put.key).is_none_or(|known| known.revision < revision) {
            records.insert(put.key, record);
        }
    }

    /// Forgets all: the store may have gone back.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Stored>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const CAPACITY: usize = 4_096;
/// Larger records are read again rather than kept.
const LARGEST: usize = 8 << 10;
