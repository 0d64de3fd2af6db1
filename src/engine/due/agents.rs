//! Background agents: each polls its due indexes and processes due records through the common commit loop.
//!
//! Several servers may run them at once: compare-and-set makes that safe, and a server leaves the partitions where it does
//! not rank first to the other servers for a while.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{StreamExt, iter};

use crate::engine::context::Context;
use crate::engine::due::entries::DueEntries;
use crate::engine::due::kinds::{DueRooms, Kinds};
use crate::engine::error::Result;
use crate::engine::membership::ranks::Membership;
use crate::engine::notify::notifier::Notifier;
use crate::engine::reading::reader::Reader;
use crate::record::due::{Agent, DueIndex};
use crate::record::due_indexes;

/// The result of one run of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Entries that were due.
    pub due: usize,
    /// Records that changed by it.
    pub changed: usize,
}

impl Agent {
    pub(in crate::engine) const fn name(self) -> &'static str {
        match self {
            Self::Reaper => "reaper",
            Self::Scheduler => "scheduler",
            Self::Courier => "courier",
            Self::Janitor => "janitor",
        }
    }

    /// The most entries of an index and a partition that one run takes.
    const fn batch(self) -> usize {
        match self {
            Self::Reaper | Self::Scheduler | Self::Courier => 1_000,
            // Calls of clients go in between.
            Self::Janitor => AT_ONCE,
        }
    }

    /// How many groups of entries are acted on at the same time. They share commits of the store, so that firings do not wait
    /// for one another.
    const fn groups_at_once(self) -> usize {
        match self {
            Self::Scheduler => GROUPS_AT_ONCE,
            Self::Reaper | Self::Courier | Self::Janitor => 1,
        }
    }
}

/// Processes due records.
pub(in crate::engine) struct DueAgents {
    context: Arc<Context>,
    notifier: Arc<Notifier>,
    entries: DueEntries,
    kinds: Kinds,
}

impl DueAgents {
    pub(in crate::engine) fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        membership: Arc<Membership>,
        notifier: Arc<Notifier>,
        rooms: DueRooms,
    ) -> Self {
        let entries = DueEntries::new(context.clone(), reader.clone(), membership);
        let kinds = Kinds::new(reader, rooms);
        Self { context, notifier, entries, kinds }
    }

    /// Processes all due records.
    pub(in crate::engine) async fn run_once(&self, agent: Agent) -> Result<Sweep> {
        let mut sweep = Sweep::default();
        let indexes: Vec<&'static DueIndex> = due_indexes(agent).collect();
        for indexes in indexes.chunks(agent.groups_at_once()) {
            let mut groups = Vec::new();
            for index in indexes {
                for partition in self.entries.partitions(index, agent.batch()).await? {
                    let mut entries = self.entries.within(partition, index, agent.batch()).await?;
                    sweep.due += entries.len();
                    while !entries.is_empty() {
                        let rest = entries.split_off(entries.len().min(AT_ONCE));
                        groups.push((*index, std::mem::replace(&mut entries, rest)));
                    }
                }
            }
            let act = |(index, entries)| self.kinds.act_on(index, entries);
            let acting: Vec<_> = groups.into_iter().map(act).collect();
            let mut changed = iter(acting).buffer_unordered(agent.groups_at_once());
            while let Some(changed) = changed.next().await {
                sweep.changed += changed;
            }
        }
        Ok(sweep)
    }

    /// Runs an agent until the engine is dropped.
    pub(in crate::engine) async fn run(self: Arc<Self>, agent: Agent) {
        loop {
            let begin = self.context.clock.elapsed();
            let stuck = match self.run_once(agent).await {
                // More is waiting than one run takes.
                Ok(sweep) if sweep.changed >= agent.batch() => {
                    if agent == Agent::Janitor {
                        // It is not urgent: half of the time is for other work, whatever the speed of the store.
                        let took = self.context.clock.elapsed().saturating_sub(begin);
                        self.context.sleep(took).await;
                    }
                    continue;
                }
                Ok(sweep) => sweep.changed < sweep.due,
                Err(error) => {
                    self.context.log_failure("could not poll for due records", &error);
                    true
                }
            };
            self.rest(agent, stuck).await;
        }
    }

    /// Waits for the next poll: a second, or less if the scheduler's next entry is due sooner. Due work that
    /// failed does not shorten the wait.
    async fn rest(&self, agent: Agent, stuck: bool) {
        match agent {
            Agent::Scheduler => {}
            Agent::Courier => {
                let pause = if stuck { STUCK } else { INTERVAL };
                return tokio::select! {
                    () = self.context.sleep(pause) => {}
                    () = self.notifier.courier_woken() => {}
                };
            }
            Agent::Reaper | Agent::Janitor => return self.context.sleep(INTERVAL).await,
        }
        let soonest = self.entries.next(agent, INTERVAL).await.unwrap_or(INTERVAL).max(MOMENT);
        let pause = if stuck { soonest.max(STUCK) } else { soonest };
        tokio::select! {
            () = self.context.sleep(pause) => {}
            () = self.notifier.scheduler_woken() => {}
        }
    }
}

/// The interval between polls of an agent. Hints wake tasks sooner elsewhere; a second is enough here.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest pause between polls.
const MOMENT: Duration = Duration::from_millis(1);
/// The shortest pause after a poll that left something undone.
const STUCK: Duration = Duration::from_millis(200);
/// Entries that are read and acted on together.
const AT_ONCE: usize = 64;
const GROUPS_AT_ONCE: usize = 8;
