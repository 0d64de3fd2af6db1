//! Finding due entries, as far as this server should act on them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::error::Result;
use crate::engine::membership::ranks::Membership;
use crate::engine::reading::reader::Reader;
use crate::record::due::{Agent, DueIndex, due_bound, due_time};
use crate::record::due_indexes;
use crate::store::{Entry, Index, Partition, Scan};

/// The due indexes, as one server polls them.
pub(super) struct DueEntries {
    context: Arc<Context>,
    reader: Arc<Reader>,
    membership: Arc<Membership>,
}

impl DueEntries {
    pub(super) const fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        membership: Arc<Membership>,
    ) -> Self {
        Self { context, reader, membership }
    }

    /// The time until the next entry of the agent's indexes is due, at most `longest`.
    pub(super) async fn next(&self, agent: Agent, longest: Duration) -> Result<Duration> {
        let mut soonest = longest;
        // The first entries may be left to other servers. Beyond that many, the next regular poll is soon enough.
        let limit = if self.membership.is_first_everywhere() { 1 } else { AHEAD };
        for index in due_indexes(agent) {
            for entry in self.context.store.scan(Scan::first(Index::new(index.name), limit)).await?
            {
                let left = due_time(&entry.member).since(self.until(entry.partition));
                soonest = soonest.min(left);
            }
        }
        Ok(soonest)
    }

    /// The partitions that have entries for this server. One scan of all partitions, since mostly nothing is due in any.
    pub(super) async fn partitions(
        &self,
        index: &DueIndex,
        limit: usize,
    ) -> Result<BTreeSet<Partition>> {
        let keyspace = self.context.store.keyspace();
        let Some(now) = keyspace.all().map(|partition| self.context.store.now(partition)).max()
        else {
            return Ok(BTreeSet::new());
        };
        let limit = limit + self.reader.unreadable_count();
        let scan = Scan::first(Index::new(index.name), limit).up_to(due_bound(now));
        let due = self.context.store.scan(scan).await?;
        if due.len() >= limit && !self.membership.is_first_everywhere() {
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
        if self.context.standstill.answering_since(partition).is_none() {
            return Ok(Vec::new());
        }
        // The entry of an unreadable record stays where it is, and must not hide those behind it.
        let limit = limit + self.reader.unreadable_count();
        let scan = Scan::first(Index::new(index.name), limit)
            .within(partition)
            .up_to(due_bound(self.until(partition)));
        Ok(self.context.store.scan(scan).await?)
    }

    /// Entries up to this time are for this server: up to now where it ranks first, else it leaves time to servers that do.
    fn until(&self, partition: Partition) -> Timestamp {
        self.context.store.now(partition) - HOLD_BACK * self.membership.rank(partition)
    }
}

/// Each server with a better rank adds this to the time before this server takes due entries.
const HOLD_BACK: Duration = Duration::from_secs(1);
/// How many entries ahead the next poll is planned by, if there are other servers.
const AHEAD: usize = 64;
