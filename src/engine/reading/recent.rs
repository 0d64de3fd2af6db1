//! What this server wrote last of the operations that workers hold, so that their next report need not read it first.
//!
//! May be out of date: somebody else may have written since. So a decision upon it counts only if it is committed, by
//! compare-and-set; whatever else comes of it is decided again upon what the store holds.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::operation::{Record, Stamps};
use crate::record::{Before, Kind};
use crate::store::Key;

/// Records by key, at most [`CAPACITY`].
#[derive(Default)]
pub(in crate::engine) struct Recent {
    records: Mutex<HashMap<Key, Before<Record>>>,
}

impl Recent {
    /// What was written last, if that is known; it is known no more.
    pub(in crate::engine) fn take(&self, key: Key) -> Option<Before<Record>> {
        self.lock().remove(&key)
    }

    /// Keeps what a commit wrote where a worker holds the operation; not where its payloads lie beside the record.
    pub(in crate::engine) fn keep(&self, key: Key, record: &Record, stamps: Stamps) {
        let held = record.operation().is_some_and(|operation| operation.state.lease().is_some());
        if !held || record.must_detach() {
            return;
        }
        let before = Before { record: record.clone(), stamps };
        let mut records = self.lock();
        if records.len() >= CAPACITY
            && let Some(other) = records.keys().next().copied()
        {
            records.remove(&other);
        }
        // Of two commits whose answers come out of order the later one counts.
        if records.get(&key).is_none_or(|known| known.stamps.revision < stamps.revision) {
            records.insert(key, before);
        }
    }

    /// Forgets all: the store may have gone back.
    pub(in crate::engine) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Before<Record>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const CAPACITY: usize = 16_384;
