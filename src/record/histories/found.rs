//! What a store holds after a history.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;

use super::history::{Before, History};
use super::steps::{PARENTS, QUEUES};
use crate::clock::Timestamp;
use crate::operation::entries::{
    DueClass, FAILED, LIST, counter, entries, live_counter, ready_index,
};
use crate::operation::{Change, Operation, Record, Stamps};
use crate::record::kind::Kind;
use crate::record::operation::glance;
use crate::record::plan::{Change as Write, write_set};
use crate::record::reading::read;
use crate::store::memory::MemoryStore;
use crate::store::{BodyKey, Index, Key, Scan, Store};

/// A store, and every body that was ever to be put into it.
pub(super) struct Found {
    store: Arc<MemoryStore>,
    bodies: BTreeMap<BodyKey, Bytes>,
}

impl Found {
    pub(super) fn new(store: Arc<MemoryStore>) -> Self {
        Self { store, bodies: BTreeMap::new() }
    }

    /// Writes a change as the engine does. Returns the stored record.
    pub(super) fn commit(
        &mut self,
        key: Key,
        before: Option<&Before>,
        change: &Change,
    ) -> Option<Before> {
        let write: Write<Record> = change.clone().into();
        let set = write_set(self.store.keyspace(), key, before, &write);
        // The new bodies of the change, whether or not the set puts them.
        let bodies = change.record.clone().map(|mut record| record.detach(key));
        self.bodies.extend(bodies.unwrap_or_default());
        assert!(set.body_puts.iter().all(|(body, _)| self.bodies.contains_key(body)));
        let committed = now(self.store.commit(vec![set])).remove(0).expect("decided on the newest");
        let record = now(self.store.get(&[key])).expect("open").remove(0);
        assert_eq!(record.is_some(), change.record.is_some());
        let record = record?;
        assert_eq!(record.revision, committed.revision);
        let old = before.map(|before| before.stamps).unwrap_or_default();
        let stamps = Stamps {
            revision: record.revision,
            visible: if change.visible { record.revision } else { old.visible },
            fencing: if change.leases { record.revision } else { old.fencing },
        };
        assert_eq!(
            (record.visible_revision, record.fencing_number),
            (stamps.visible, stamps.fencing)
        );
        let Before { record: read, .. } = read::<Record>(&record).expect("written just now");
        if let Some(seen) = glance(&record, || Timestamp::EPOCH) {
            assert_eq!(Some(seen), read.operation().map(Operation::published));
        }
        Some(Before { record: read, stamps })
    }

    /// Everything stored belongs to a record, and the other way round.
    pub(super) fn compare(&self, history: &History) {
        let (mut wanted, mut named, mut counts) =
            (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        for Before { record, .. } in history.records.values() {
            let key = history.keyspace.key(record.name().as_str());
            wanted.extend(entries(record, key.as_bytes()));
            named.extend(record.bodies(key));
            *counts.entry(counter(record)).or_insert(0) += 1;
        }
        let due = DueClass::ALL.map(|class| class.index().into());
        let ready = QUEUES.map(|queue| ready_index(queue).into());
        let mut found = BTreeSet::new();
        for index in [LIST, FAILED].map(Cow::Borrowed).into_iter().chain(due).chain(ready) {
            let scan = Scan::first(Index::new(index.clone()), usize::MAX);
            let members = now(self.store.scan(scan)).expect("open");
            found.extend(members.into_iter().map(|entry| (index.clone(), entry.member.to_vec())));
        }
        assert_eq!(found, wanted);

        let keys: Vec<BodyKey> = self.bodies.keys().copied().collect();
        assert!(named.is_subset(&keys.iter().copied().collect()), "a body was never put");
        for (key, found) in keys.iter().zip(now(self.store.bodies(&keys)).expect("open")) {
            assert_eq!(found.as_ref(), named.contains(key).then(|| &self.bodies[key]), "{key:?}");
        }
        for parent in PARENTS {
            for state in STATES {
                let name = live_counter(parent, state);
                let found = now(self.store.counter(&name)).expect("open");
                let wanted = counts.remove(&Some(name)).unwrap_or(0);
                assert_eq!(found, wanted, "{parent:?} {state}");
            }
        }
        counts.remove(&None);
        assert!(counts.is_empty(), "counters that nobody reads: {counts:?}");
    }
}

/// The reference never waits.
fn now<F: Future>(answer: F) -> F::Output {
    answer.now_or_never().expect("an answer at once")
}

const STATES: [&str; 4] = ["PENDING", "RUNNING", "CANCELLING", "SUSPENDED"];
