//! What a store holds after a history.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;

use super::history::{Before, History};
use super::steps::{PARENTS, QUEUES};
use crate::clock::Timestamp;
use crate::operation::counters::{
    OF_PARENTS, OF_QUEUES, QueueCount, parent_counters, parent_counts, queue_count,
};
use crate::operation::entries::{DueClass, FAILED, LIST, UNFINISHED, entries, ready_index};
use crate::operation::{Change, Operation, Record, Stamps, State};
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
        let (mut wanted, mut named) = (BTreeSet::new(), BTreeSet::new());
        for Before { record, .. } in history.records.values() {
            let key = history.keyspace.key(record.name().as_str());
            wanted.extend(entries(record, key.as_bytes()));
            named.extend(record.bodies(key));
        }
        let due = DueClass::ALL.map(|class| class.index().into());
        let ready = QUEUES.map(|queue| ready_index(queue).into());
        let mut found = BTreeSet::new();
        for index in
            [LIST, FAILED, UNFINISHED].map(Cow::Borrowed).into_iter().chain(due).chain(ready)
        {
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
        self.compare_counts(history);
    }

    /// Every count is that of the records, counted one by one.
    fn compare_counts(&self, history: &History) {
        let operations = || history.records.values().filter_map(|it| it.record.operation());
        let counter = |family, name: Vec<u8>| {
            now(self.store.counters(family, &[name.into()])).expect("open").remove(0)
        };
        let mut known = BTreeSet::new();
        for parent in PARENTS {
            let names = parent_counters(parent);
            known.extend(names.clone().map(Bytes::from));
            let counters = names.map(|name| counter(OF_PARENTS, name));
            let of_parent = operations().filter(|it| it.name.parent() == parent);
            let further = of_parent.map(|it| i64::from(it.further_blocks)).sum::<i64>();
            assert_eq!(counters.last(), Some(&further), "{parent:?}");
            for (state, count) in parent_counts(counters) {
                let of_state = operations().filter(|operation| {
                    operation.name.parent() == parent
                        && operation.state.published() == state
                        && operation.deletion.is_none()
                });
                assert_eq!(count, of_state.count() as u64, "{parent:?} {state:?}");
            }
        }
        let found = now(self.store.counter_names(OF_PARENTS, usize::MAX)).expect("open");
        assert!(found.iter().all(|name| known.contains(name)), "{found:?}");
        for queue in QUEUES {
            let of_queue = || operations().filter(|it| it.spec.queue.as_str() == queue);
            let pending = of_queue().filter(|it| matches!(it.state, State::Pending(_))).count();
            let running = of_queue().filter(|it| it.state.lease().is_some()).count();
            let wanted = QueueCount { pending: pending as u64, running: running as u64 };
            assert_eq!(queue_count(counter(OF_QUEUES, queue.into())), wanted, "{queue}");
        }
        let found = now(self.store.counter_names(OF_QUEUES, usize::MAX)).expect("open");
        assert!(found.iter().all(|name| QUEUES.iter().any(|queue| queue == name)), "{found:?}");
    }
}

/// The reference never waits.
fn now<F: Future>(answer: F) -> F::Output {
    answer.now_or_never().expect("an answer at once")
}
