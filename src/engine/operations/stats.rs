//! How many operations there are.
//!
//! The counters know it for each parent, so the cost does not depend on the number of operations. Only what has expired and
//! was not removed yet is read, since the counters still have it.

use std::sync::Arc;

use bytes::Bytes;

use super::parents::next_parent;
use super::reach::Reach;
use super::sources::AT_ONCE;
use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::reading::reader::Reader;
use crate::limits::{MAX_STATS_EXPIRED, MAX_STATS_PARENTS, MAX_STATS_QUEUES};
use crate::operation::Record;
use crate::operation::counters::{
    OF_PARENTS, OF_QUEUES, PARENT_COUNTERS, QueueCount, StoredAmount, parent_counters,
    parent_counts, queue_count, stored_bytes,
};
use crate::operation::entries::{DueClass, LIST};
use crate::operation::name::ParentPattern;
use crate::proto::longhaul::v1::operation_record::State;
use crate::record::due::due_bound;
use crate::store::{Entry, Index, Key, Partition, Scan};

/// How many operations there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// By state.
    pub states: [(State, u64); 7],
    /// About how many bytes they take.
    pub stored_bytes: u64,
    /// By queue, if all parents were counted.
    pub queues: Vec<(String, QueueCount)>,
    /// When.
    pub read_time: Timestamp,
}

/// Counts operations.
pub(in crate::engine) struct Counts {
    context: Arc<Context>,
    reader: Arc<Reader>,
}

/// An operation that has expired and was not removed yet.
type Expired = (Key, State, StoredAmount);

impl Counts {
    pub(in crate::engine) const fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        Self { context, reader }
    }

    /// The operations of all matching parents.
    pub(in crate::engine) async fn stats(&self, parent: &ParentPattern) -> Result<Stats> {
        let read_time = self.context.store.now(Partition(0));
        let mut expired = self.expired(parent).await?;
        let mut counters = self.of_parents(parent).await?;
        for _ in 0..TRIES {
            // Unless none was removed while the counters were read, it is unknown whether they have it.
            let left = self.expired(parent).await?;
            if left == expired {
                break;
            }
            expired = left;
            counters = self.of_parents(parent).await?;
        }
        let mut states = parent_counts(counters);
        let mut gone = StoredAmount::default();
        for (_, state, stored) in expired {
            gone.add(stored);
            for (_, count) in states.iter_mut().filter(|(other, _)| *other == state) {
                *count = count.saturating_sub(1);
            }
        }
        let queues = if parent.is_every() { self.of_queues().await? } else { Vec::new() };
        Ok(Stats { states, stored_bytes: stored_bytes(counters, gone), queues, read_time })
    }

    /// The sums of the counters of all matching parents.
    async fn of_parents(&self, pattern: &ParentPattern) -> Result<[i64; PARENT_COUNTERS]> {
        let mut names = Vec::new();
        for parent in self.parents(pattern).await? {
            names.extend(parent_counters(&parent).map(Bytes::from));
        }
        let counters = self.context.store.counters(OF_PARENTS, &names).await?;
        let mut sums = [0; PARENT_COUNTERS];
        for counters in counters.chunks_exact(sums.len()) {
            for (sum, counter) in sums.iter_mut().zip(counters) {
                *sum += counter;
            }
        }
        Ok(sums)
    }

    async fn parents(&self, pattern: &ParentPattern) -> Result<Vec<String>> {
        if !pattern.is_wildcard() {
            return Ok(vec![pattern.as_str().to_owned()]);
        }
        let from = (&*self.context.store, &Reach::new(false));
        let (mut parents, mut former) = (Vec::new(), None);
        for _ in 0..=MAX_STATS_PARENTS {
            let next = next_parent(from, LIST, pattern, former).await?;
            let Some(next) = next else { return Ok(parents) };
            let parent = String::from_utf8_lossy(&next).into_owned();
            parents.extend(Some(parent).filter(|parent| pattern.matches(parent)));
            former = Some(next);
        }
        let why = format!(
            "parent {:?} covers more than {MAX_STATS_PARENTS} parents; name one, or fewer",
            pattern.as_str()
        );
        Err(Error::new(Reason::LimitExceeded, why).with("field", "parent"))
    }

    /// What matches and has expired, as far as the janitor has not removed it.
    async fn expired(&self, pattern: &ParentPattern) -> Result<Vec<Expired>> {
        let store = &self.context.store;
        let Some(now) = store.keyspace().all().map(|partition| store.now(partition)).max() else {
            return Ok(Vec::new());
        };
        let index = Index::new(DueClass::Retention.index());
        let scan = Scan::first(index, MAX_STATS_EXPIRED).up_to(due_bound(now));
        let keys: Vec<Key> = store.scan(scan).await?.iter().filter_map(Entry::key).collect();
        let mut expired = Vec::new();
        for keys in keys.chunks(AT_ONCE) {
            let records = self.reader.read_each::<Record>(keys).await?;
            for (key, record) in keys.iter().zip(records) {
                let Some(record) = record.ok().flatten().map(|before| before.record) else {
                    continue;
                };
                let Record::Operation(operation) = &record else { continue };
                let counts = operation.deletion.is_none()
                    && pattern.matches(operation.name.parent())
                    && record.gone(self.context.now(*key)).is_some();
                let found = || (*key, operation.state.published(), operation.stored());
                expired.extend(counts.then(found));
            }
            tokio::task::yield_now().await;
        }
        Ok(expired)
    }

    async fn of_queues(&self) -> Result<Vec<(String, QueueCount)>> {
        let store = &self.context.store;
        let names = store.counter_names(OF_QUEUES, MAX_STATS_QUEUES).await?;
        let counters = store.counters(OF_QUEUES, &names).await?;
        let name = |name: &Bytes| format!("queues/{}", String::from_utf8_lossy(name));
        let counted = names.iter().zip(counters);
        Ok(counted.map(|(queue, counter)| (name(queue), queue_count(counter))).collect())
    }
}

/// How often the counters are read while expired operations are being removed.
const TRIES: usize = 3;
