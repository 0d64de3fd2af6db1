//! This server's last writes to operations that workers hold, so that their next report needs no read.
//!
//! An entry may be out of date, after a write by another server. So a decision on it counts only if its compare-and-set
//! succeeds; any other result is decided again on the stored record.

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
    /// Takes the last write out of the cache, if there is one.
    pub(in crate::engine) fn take(&self, key: Key) -> Option<Before<Record>> {
        self.lock().remove(&key)
    }

    /// Keeps the committed record if a worker holds the operation and no payload is stored beside the record.
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
        // If two commits are confirmed out of order, the later revision counts.
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
