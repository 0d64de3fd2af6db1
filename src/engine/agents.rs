//! Background agents: each takes what is due and sends it through the same commit loop as everybody else.
//!
//! Several servers may run them at once: compare-and-set makes that safe, and a server leaves what it does not rank first for
//! to the others for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;

use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::engine::error::{Reason, Result};
use crate::operation::command::{Command, Due};
use crate::operation::entries::{DueClass, due_bound};
use crate::store::{Entry, Index, Key, Partition, Scan};

/// Ends what took too long: leases, attempts, waits, deadlines, graces.
#[derive(Clone, Copy, Debug)]
pub struct Reaper;

/// Lets go on what waited for its time: starts, retries, suspensions.
#[derive(Clone, Copy, Debug)]
pub struct Scheduler;

/// Clears away what was kept long enough: operations, then their tombstones.
#[derive(Clone, Copy, Debug)]
pub struct Janitor;

/// What one run of an agent did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Entries that were due.
    pub due: usize,
    /// Operations that changed by it.
    pub changed: usize,
}

/// What the agents have in common.
trait Agent: Copy + Send + Sync + 'static {
    const NAME: &'static str;
    const CLASSES: &'static [DueClass];
    /// Entries of a class that one run takes at most: a rate cap where there is no hurry.
    const BATCH: usize;
}

impl Agent for Reaper {
    const NAME: &'static str = "reaper";
    const CLASSES: &'static [DueClass] =
        &[DueClass::Grace, DueClass::Deadline, DueClass::Attempt, DueClass::Lease, DueClass::Queue];
    const BATCH: usize = 1_000;
}

impl Agent for Scheduler {
    const NAME: &'static str = "scheduler";
    const CLASSES: &'static [DueClass] = &[DueClass::Start, DueClass::Retry, DueClass::Resume];
    const BATCH: usize = 1_000;
}

impl Agent for Janitor {
    const NAME: &'static str = "janitor";
    const CLASSES: &'static [DueClass] = &[DueClass::Retention, DueClass::Tombstone];
    const BATCH: usize = 500;
}

impl Reaper {
    /// Does what is due now.
    pub async fn run_once(self, engine: &Engine) -> Result<Sweep> {
        engine.sweep::<Self>().await
    }
}

impl Scheduler {
    /// Does what is due now.
    pub async fn run_once(self, engine: &Engine) -> Result<Sweep> {
        engine.sweep::<Self>().await
    }
}

impl Janitor {
    /// Does what is due now.
    pub async fn run_once(self, engine: &Engine) -> Result<Sweep> {
        engine.sweep::<Self>().await
    }
}

impl Engine {
    pub(super) fn run_agents(&self) {
        self.run_beat();
        self.run_agent::<Reaper>();
        self.run_agent::<Scheduler>();
        self.run_agent::<Janitor>();
        self.run_herald();
    }

    fn run_agent<A: Agent>(&self) {
        let engine = self.clone();
        self.inner.tasks.spawn(A::NAME, async move {
            loop {
                let stuck = match engine.sweep::<A>().await {
                    // More is waiting than one run takes.
                    Ok(sweep) if sweep.changed >= A::BATCH => continue,
                    Ok(sweep) => sweep.changed < sweep.due,
                    Err(error) => {
                        engine.hampered("could not look for what is due", &error);
                        true
                    }
                };
                engine.rest::<A>(stuck).await;
            }
        });
    }

    /// Waits for the next look: a second, or less where something of the scheduler's comes due sooner. What was due and could
    /// not be done is no reason to hurry.
    async fn rest<A: Agent>(&self, stuck: bool) {
        let soonest = if A::NAME == Scheduler::NAME {
            self.next_due::<A>().await.unwrap_or(INTERVAL)
        } else {
            INTERVAL
        };
        let pause = if stuck { soonest.max(STUCK) } else { soonest };
        tokio::select! {
            () = self.idle_for(pause) => {}
            () = self.inner.scheduler_wake.notified(), if A::NAME == Scheduler::NAME => {}
        }
    }

    async fn next_due<A: Agent>(&self) -> Option<Duration> {
        let mut soonest = INTERVAL;
        // Others may have to do what comes first. Beyond so many of theirs, the next look is soon enough.
        let limit = if self.ranks_first_everywhere() { 1 } else { AHEAD };
        for class in A::CLASSES {
            let scan = Scan::first(Index::new(class.index()), limit);
            for entry in self.inner.store.scan(scan).await.ok()? {
                let time = Timestamp::from_micros(
                    entry.member.first_chunk().copied().map_or(0, u64::from_be_bytes),
                );
                let left = time.since(self.due_until(entry.partition));
                soonest = soonest.min(left.max(MOMENT));
            }
        }
        Some(soonest)
    }

    async fn sweep<A: Agent>(&self) -> Result<Sweep> {
        let mut sweep = Sweep::default();
        for class in A::CLASSES {
            for partition in self.partitions_with(*class, A::BATCH).await? {
                let done = self.sweep_partition(*class, partition, A::BATCH).await?;
                sweep.due += done.due;
                sweep.changed += done.changed;
            }
        }
        Ok(sweep)
    }

    /// The partitions where something is due: one look at all of them, as mostly there is nothing anywhere.
    async fn partitions_with(&self, class: DueClass, limit: usize) -> Result<BTreeSet<Partition>> {
        let store = &self.inner.store;
        let Some(now) = store.keyspace().all().map(|partition| store.now(partition)).max() else {
            return Ok(BTreeSet::new());
        };
        let limit = limit + self.inner.unreadable.count();
        let scan = Scan::first(Index::new(class.index()), limit).up_to(due_bound(now));
        let due = store.scan(scan).await?;
        if due.len() >= limit && !self.ranks_first_everywhere() {
            // What is for others must not hide what is for this server.
            return Ok(store.keyspace().all().collect());
        }
        let ours =
            |entry: &Entry| entry.member[..] <= due_bound(self.due_until(entry.partition))[..];
        Ok(due.into_iter().filter(ours).map(|entry| entry.partition).collect())
    }

    /// Up to when this server does what is due in a partition: now where it ranks first, else it leaves time to those that do.
    fn due_until(&self, partition: Partition) -> Timestamp {
        self.inner.store.now(partition) - HOLD_BACK * self.rank(partition)
    }

    async fn sweep_partition(
        &self,
        class: DueClass,
        partition: Partition,
        limit: usize,
    ) -> Result<Sweep> {
        let store = &self.inner.store;
        let Some(answering_since) = self.answering_since(partition) else {
            return Ok(Sweep::default());
        };
        // What cannot be read stays where it is, and must not hide what is behind it.
        let limit = limit + self.inner.unreadable.count();
        let scan = Scan::first(Index::new(class.index()), limit)
            .within(partition)
            .up_to(due_bound(self.due_until(partition)));
        let due = store.scan(scan).await?;
        let due_entries = due.len();
        let done = futures_util::stream::iter(due).map(|entry| async move {
            let Some(key) = entry.key() else { return false };
            let done = self.clone().do_due(key, Due { class, answering_since }).await;
            if done.is_none() {
                self.drop_orphans(&Index::new(class.index()), vec![entry]).await;
            }
            done.unwrap_or(true)
        });
        let changed = done
            .buffer_unordered(AT_ONCE)
            .filter(|changed| std::future::ready(*changed))
            .count()
            .await;
        Ok(Sweep { due: due_entries, changed })
    }

    /// Does what is due for these records.
    pub(super) async fn sweep_keys(&self, class: DueClass, keys: Vec<Key>) {
        for key in keys {
            if let Some(answering_since) = self.answering_since(self.partition(key)) {
                self.clone().do_due(key, Due { class, answering_since }).await;
            }
        }
    }

    /// Ends what ran out of time before a worker took it.
    pub(super) async fn end_overdue(&self, overdue: Vec<(DueClass, Key)>) {
        let done = futures_util::stream::iter(overdue).map(|(class, key)| async move {
            if let Some(answering_since) = self.inner.store.answering_since(self.partition(key)) {
                self.clone().do_due(key, Due { class, answering_since }).await;
            }
        });
        done.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// Does what is due for one record; whether it changed, `None` where there is no record.
    async fn do_due(self, key: Key, due: Due) -> Option<bool> {
        match self.apply_to_key(key, Command::Due(due)).await {
            Ok(done) => done.map(|done| done.changed),
            // It was noted where it was read.
            Err(error) if error.reason == Reason::Internal => Some(false),
            Err(error) => {
                self.hampered("could not do what is due; trying again", &error);
                Some(false)
            }
        }
    }
}

/// How often an agent looks. Hints speed things up elsewhere; here a second is soon enough.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest pause between looks.
const MOMENT: Duration = Duration::from_millis(1);
/// The shortest pause after a look that left something undone.
const STUCK: Duration = Duration::from_millis(200);
const AT_ONCE: usize = 32;
/// What each server that ranks higher adds to the time for which what is due is left to it.
const HOLD_BACK: Duration = Duration::from_secs(1);
/// How many entries ahead the next look is planned by, where there are other servers.
const AHEAD: usize = 64;
