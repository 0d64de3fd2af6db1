//! Background agents: each polls its due indexes and has what is due done by the same commit loop as everybody else's calls.
//!
//! Several servers may run them at once: compare-and-set makes that safe, and a server leaves the partitions where it does
//! not rank first to the other servers for a while.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::error::Result;
use crate::record::due::Agent;
use crate::record::due_indexes;

/// What one run of an agent did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Entries that were due.
    pub due: usize,
    /// Records that changed by it.
    pub changed: usize,
}

impl Agent {
    const fn name(self) -> &'static str {
        match self {
            Self::Reaper => "reaper",
            Self::Scheduler => "scheduler",
            Self::Janitor => "janitor",
        }
    }

    /// Entries of an index that one run takes at most: a rate cap where there is no hurry.
    const fn batch(self) -> usize {
        match self {
            Self::Reaper | Self::Scheduler => 1_000,
            Self::Janitor => 500,
        }
    }

    /// Does what is due now.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn run_once(self, engine: &Engine) -> Result<Sweep> {
        let (due, mut sweep) = (&engine.inner.due, Sweep::default());
        for index in due_indexes(self) {
            for partition in due.partitions(index, self.batch()).await? {
                let mut entries = due.within(partition, index, self.batch()).await?;
                sweep.due += entries.len();
                while !entries.is_empty() {
                    let rest = entries.split_off(entries.len().min(AT_ONCE));
                    let some = std::mem::replace(&mut entries, rest);
                    sweep.changed += engine.act_on(index, some).await;
                }
            }
        }
        Ok(sweep)
    }

    async fn run(self, engine: Engine) {
        loop {
            let stuck = match self.run_once(&engine).await {
                // More is waiting than one run takes.
                Ok(sweep) if sweep.changed >= self.batch() => continue,
                Ok(sweep) => sweep.changed < sweep.due,
                Err(error) => {
                    engine.hampered("could not look for what is due", &error);
                    true
                }
            };
            self.rest(&engine, stuck).await;
        }
    }

    /// Waits for the next poll: a second, or less where something of the scheduler's comes due sooner. What was due and could
    /// not be done is no reason to hurry.
    async fn rest(self, engine: &Engine, stuck: bool) {
        let due = &engine.inner.due;
        if self != Self::Scheduler {
            return engine.idle_for(INTERVAL).await;
        }
        let soonest = due.next(self, INTERVAL).await.unwrap_or(INTERVAL).max(MOMENT);
        let pause = if stuck { soonest.max(STUCK) } else { soonest };
        tokio::select! {
            () = engine.idle_for(pause) => {}
            () = due.scheduler_woken() => {}
        }
    }
}

impl Engine {
    pub(in crate::engine) fn run_agents(&self) {
        for agent in [Agent::Reaper, Agent::Scheduler, Agent::Janitor] {
            self.inner.tasks.spawn(agent.name(), agent.run(self.clone()));
        }
    }
}

/// How often an agent polls. Hints speed things up elsewhere; here a second is soon enough.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest pause between polls.
const MOMENT: Duration = Duration::from_millis(1);
/// The shortest pause after a poll that left something undone.
const STUCK: Duration = Duration::from_millis(200);
/// Entries that are read and acted on together.
const AT_ONCE: usize = 64;
