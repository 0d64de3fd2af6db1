//! Whether time that has passed may count against workers: not the time for which this server stood still, as a process that
//! was stopped or a virtual machine that was moved does, nor that for which the store left its calls unanswered.
//!
//! A task gives a beat many times a second. A beat that is late means that everything here stood still. Both are noticed by
//! whoever asks, as the task may not have run again yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Engine;
use super::error::{Error, Reason};
use crate::clock::{Clock, Timestamp};
use crate::limits::STORE_PATIENCE;
use crate::store::{Partition, Store};

pub(super) struct Steady {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Which partitions have not answered for so long that whoever watches them must be told.
    lost: watch::Sender<Vec<bool>>,
}

#[derive(Default)]
struct State {
    /// When the last beat was. Without beats nothing is noticed.
    beat: Option<Duration>,
    /// When this server went on, or the store answered, the last time that it had stood still.
    resumed: Option<Duration>,
    /// When the store's calls that are under way were made, in their order.
    calls: BTreeMap<u64, Duration>,
    last_call: u64,
}

/// A call of the store that is under way.
pub(super) struct UnderWay<'a> {
    steady: &'a Steady,
    number: u64,
}

impl Steady {
    pub(super) fn new(clock: Arc<dyn Clock>, partitions: u16) -> Self {
        let lost = watch::Sender::new(vec![false; usize::from(partitions)]);
        Self { clock, state: Mutex::default(), lost }
    }

    /// A call of the store begins.
    pub(super) fn call(&self) -> UnderWay<'_> {
        let now = self.clock.elapsed();
        let mut state = self.lock();
        state.last_call += 1;
        let number = state.last_call;
        state.calls.insert(number, now);
        UnderWay { steady: self, number }
    }

    /// When this server last went on after it, or the store, had stood still.
    pub(super) fn resumed(&self) -> Option<Duration> {
        let now = self.clock.elapsed();
        let mut state = self.lock();
        state.notice(now);
        state.resumed
    }

    /// Since when workers could have renewed what lies in that partition: the store answers, and this server runs.
    pub(super) fn answering_since(
        &self,
        store: &dyn Store,
        partition: Partition,
    ) -> Option<Timestamp> {
        let since = store.answering_since(partition)?;
        if self.unanswered() > TOLERANCE {
            return None;
        }
        let Some(resumed) = self.resumed() else { return Some(since) };
        let ago = self.clock.elapsed().saturating_sub(resumed);
        Some(since.max(store.now(partition) - ago))
    }

    /// For how long the oldest call of the store has been without an answer.
    fn unanswered(&self) -> Duration {
        let now = self.clock.elapsed();
        let state = self.lock();
        let oldest = state.calls.first_key_value().filter(|_| state.beat.is_some());
        oldest.map_or(Duration::ZERO, |(_, begun)| now.saturating_sub(*begun))
    }

    fn beat(&self) {
        let now = self.clock.elapsed();
        let mut state = self.lock();
        state.notice(now);
        state.beat = Some(now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notices a standstill that ends just now.
    fn notice(&mut self, now: Duration) {
        let Some(beat) = self.beat else { return };
        let stood_still = now.saturating_sub(beat);
        if stood_still > TOLERANCE {
            tracing::warn!(
                ?stood_still,
                "this server stood still; workers get time to renew their leases"
            );
            (self.beat, self.resumed) = (Some(now), Some(now));
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let now = self.steady.clock.elapsed();
        let mut state = self.steady.lock();
        let begun = state.calls.remove(&self.number).unwrap_or(now);
        if state.beat.is_some() && now.saturating_sub(begun) > TOLERANCE {
            state.resumed = Some(now);
        }
    }
}

impl Engine {
    /// Resolves once the store has not answered for so long that whoever watches what lies in that partition must be told.
    pub(super) async fn store_lost(&self, partition: Partition) -> Box<Error> {
        let mut lost = self.inner.steady.lost.subscribe();
        let is_lost = |lost: &Vec<bool>| lost.get(usize::from(partition.0)) == Some(&true);
        if lost.wait_for(is_lost).await.is_err() {
            // The engine is gone, and with it whoever watches.
            std::future::pending::<()>().await;
        }
        Error::new(Reason::StoreUnavailable, "the store does not answer; try again")
            .retry_after(RETRY)
    }

    /// Runs the beat. An engine with agents does so by itself.
    pub fn run_beat(&self) {
        let engine = self.clone();
        self.inner.tasks.spawn("beat", async move {
            let mut away: Vec<Option<Duration>> = Vec::new();
            loop {
                engine.inner.steady.beat();
                engine.look_for_losses(&mut away);
                engine.idle_for(BEAT).await;
            }
        });
    }

    /// `away` holds since when partitions have been.
    fn look_for_losses(&self, away: &mut Vec<Option<Duration>>) {
        let (now, steady) = (self.inner.clock.elapsed(), &self.inner.steady);
        let hangs = steady.unanswered() >= STORE_PATIENCE;
        let partitions = self.inner.store.keyspace().all();
        away.resize(usize::from(self.inner.store.keyspace().partitions()), None);
        for (partition, since) in partitions.zip(away.iter_mut()) {
            *since = match self.inner.store.answering_since(partition) {
                None => Some(since.unwrap_or(now)),
                Some(_) => None,
            };
        }
        let lost = |since: &Option<Duration>| {
            hangs || since.is_some_and(|since| now.saturating_sub(since) >= STORE_PATIENCE)
        };
        let lost: Vec<bool> = away.iter().map(lost).collect();
        steady.lost.send_if_modified(|before| {
            let changed = *before != lost;
            *before = lost;
            changed
        });
    }
}

/// When whoever was told that the store is away may ask again.
const RETRY: Duration = Duration::from_secs(1);
/// How often a beat is given.
const BEAT: Duration = Duration::from_millis(100);
/// A beat or an answer that is late by more means a standstill. The shortest lease lasts twice as long.
const TOLERANCE: Duration = Duration::from_millis(500);
