//! Finding due entries, as far as this server should act on them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Timestamp;
use crate::engine::error::Result;
use crate::engine::operations::reading::Unreadable;
use crate::engine::ranks::Ranks;
use crate::engine::steady::Steady;
use crate::record::due::{Agent, DueIndex, due_bound, due_time};
use crate::record::due_indexes;
use crate::store::{Entry, Index, Partition, Scan, Store};

/// The due indexes, as one server polls them.
pub(in crate::engine) struct DueEntries {
    store: Arc<dyn Store>,
    ranks: Arc<Ranks>,
    steady: Arc<Steady>,
    unreadable: Arc<Unreadable>,
    sooner: Notify,
}

impl DueEntries {
    pub(in crate::engine) fn new(
        store: Arc<dyn Store>,
        ranks: Arc<Ranks>,
        steady: Arc<Steady>,
        unreadable: Arc<Unreadable>,
    ) -> Self {
        Self { store, ranks, steady, unreadable, sooner: Notify::new() }
    }

    /// Has the scheduler poll now: something may come due sooner than it knows.
    pub(in crate::engine) fn wake_scheduler(&self) {
        self.sooner.notify_one();
    }

    /// Resolves when [`Self::wake_scheduler`] is called.
    pub(in crate::engine) async fn scheduler_woken(&self) {
        self.sooner.notified().await;
    }

    /// The time until the next entry of the agent's indexes comes due, at most `longest`.
    pub(super) async fn next(&self, agent: Agent, longest: Duration) -> Result<Duration> {
        let mut soonest = longest;
        // The first entries may be left to other servers. Beyond so many of those, the next poll is soon enough.
        let limit = if self.ranks.is_first_everywhere() { 1 } else { AHEAD };
        for index in due_indexes(agent) {
            for entry in self.store.scan(Scan::first(Index::new(index.name), limit)).await? {
                let left = due_time(&entry.member).since(self.until(entry.partition));
                soonest = soonest.min(left);
            }
        }
        Ok(soonest)
    }

    /// The partitions that have entries for this server. One scan of all partitions, as mostly nothing is due in any.
    pub(super) async fn partitions(
        &self,
        index: &DueIndex,
        limit: usize,
    ) -> Result<BTreeSet<Partition>> {
        let keyspace = self.store.keyspace();
        let Some(now) = keyspace.all().map(|partition| self.store.now(partition)).max() else {
            return Ok(BTreeSet::new());
        };
        let limit = limit + self.unreadable.count();
        let scan = Scan::first(Index::new(index.name), limit).up_to(due_bound(now));
        let due = self.store.scan(scan).await?;
        if due.len() >= limit && !self.ranks.is_first_everywhere() {
            // Entries for other servers must not hide those for this one.
            return Ok(keyspace.all().collect());
        }
        let ours = |entry: &Entry| entry.member[..] <= due_bound(self.until(entry.partition))[..];
        Ok(due.into_iter().filter(ours).map(|entry| entry.partition).collect())
    }

    /// The entries of one partition on which this server should act now; none while the partition does not answer.
    pub(super) async fn within(
        &self,
        partition: Partition,
        index: &DueIndex,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        if self.steady.answering_since(&*self.store, partition).is_none() {
            return Ok(Vec::new());
        }
        // The entry of an unreadable record stays where it is, and must not hide those behind it.
        let limit = limit + self.unreadable.count();
        let scan = Scan::first(Index::new(index.name), limit)
            .within(partition)
            .up_to(due_bound(self.until(partition)));
        Ok(self.store.scan(scan).await?)
    }

    /// Entries up to this time are for this server: up to now where it ranks first, else it leaves time to servers that do.
    fn until(&self, partition: Partition) -> Timestamp {
        self.store.now(partition) - HOLD_BACK * self.ranks.of(partition)
    }
}

/// What each server that ranks higher adds to the time for which due entries are left to it.
const HOLD_BACK: Duration = Duration::from_secs(1);
/// How many entries ahead the next poll is planned by, where there are other servers.
const AHEAD: usize = 64;
