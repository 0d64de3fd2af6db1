//! Whether elapsed time counts against workers: not while this server stood still, for example as a stopped process or a
//! moved virtual machine, and not while the store did not respond.
//!
//! A task beats many times a second. A late beat means that the whole process stood still. The check is made by
//! the code that asks, since the task may not have run again yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::error::{Error, Reason};
use crate::clock::{Clock, Timestamp};
use crate::limits::STORE_PATIENCE;
use crate::store::{Partition, Store};

pub(super) struct Standstill {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    noticed: Mutex<Noticed>,
    /// Partitions that have not responded for long enough that their watchers must receive an error.
    lost: watch::Sender<Vec<bool>>,
}

#[derive(Default)]
struct Noticed {
    /// Time of the last beat. Without beats no standstill is noticed.
    beat: Option<Duration>,
    /// When this server went on, or the store answered, the last time that it had stood still.
    resumed: Option<Duration>,
    /// When the store's calls that are under way were made, in their order.
    calls: BTreeMap<u64, Duration>,
    last_call: u64,
}

/// A call of the store that is under way.
pub(super) struct UnderWay<'a> {
    standstill: &'a Standstill,
    number: u64,
}

impl Standstill {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let lost = watch::Sender::new(vec![false; usize::from(store.keyspace().partitions())]);
        Self { store, clock, noticed: Mutex::default(), lost }
    }

    /// A call of the store begins.
    pub(super) fn call(&self) -> UnderWay<'_> {
        let now = self.clock.elapsed();
        let mut noticed = self.lock();
        noticed.last_call += 1;
        let number = noticed.last_call;
        noticed.calls.insert(number, now);
        UnderWay { standstill: self, number }
    }

    /// When this server last went on after it, or the store, had stood still.
    pub(super) fn resumed(&self) -> Option<Duration> {
        let now = self.clock.elapsed();
        let mut noticed = self.lock();
        noticed.notice(now);
        noticed.resumed
    }

    /// For how long the oldest call of the store has been without an answer.
    fn unanswered(&self) -> Duration {
        let now = self.clock.elapsed();
        let noticed = self.lock();
        let oldest = noticed.calls.first_key_value().filter(|_| noticed.beat.is_some());
        oldest.map_or(Duration::ZERO, |(_, begun)| now.saturating_sub(*begun))
    }

    /// Time since which workers could renew leases in that partition: the store responds, and this server runs.
    pub(super) fn answering_since(&self, partition: Partition) -> Option<Timestamp> {
        let since = self.store.answering_since(partition)?;
        if self.unanswered() > TOLERANCE {
            return None;
        }
        let Some(resumed) = self.resumed() else { return Some(since) };
        let ago = self.clock.elapsed().saturating_sub(resumed);
        Some(since.max(self.store.now(partition) - ago))
    }

    /// Resolves once the store has not responded for long enough that watchers of that partition must receive an error.
    pub(super) async fn store_lost(&self, partition: Partition) -> Box<Error> {
        self.lost_where(|lost| lost.get(usize::from(partition.0)) == Some(&true)).await
    }

    /// The same for watchers of all partitions.
    pub(super) async fn store_lost_anywhere(&self) -> Box<Error> {
        self.lost_where(|lost| lost.contains(&true)).await
    }

    async fn lost_where(&self, is_lost: impl Fn(&[bool]) -> bool + Send) -> Box<Error> {
        let mut lost = self.lost.subscribe();
        let is_lost = |lost: &Vec<bool>| is_lost(lost);
        if lost.wait_for(is_lost).await.is_err() {
            // The engine is gone, and so are its watchers.
            std::future::pending::<()>().await;
        }
        Error::new(Reason::StoreUnavailable, "the store does not answer; try again")
            .retry_after(RETRY)
    }

    /// Runs the beat until the engine is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let mut away = Away::new();
        loop {
            self.beat();
            self.look_for_losses(&mut away);
            self.clock.sleep(BEAT).await;
        }
    }

    fn look_for_losses(&self, away: &mut Away) {
        let now = self.clock.elapsed();
        let hangs = self.unanswered() >= STORE_PATIENCE;
        let partitions = self.store.keyspace().all();
        away.resize(usize::from(self.store.keyspace().partitions()), None);
        for (partition, since) in partitions.zip(away.iter_mut()) {
            *since = match self.store.answering_since(partition) {
                None => Some(since.unwrap_or(now)),
                Some(_) => None,
            };
        }
        let lost = |since: &Option<Duration>| {
            hangs || since.is_some_and(|since| now.saturating_sub(since) >= STORE_PATIENCE)
        };
        let lost: Vec<bool> = away.iter().map(lost).collect();
        self.lost.send_if_modified(|before| {
            let changed = *before != lost;
            *before = lost;
            changed
        });
    }

    fn beat(&self) {
        let now = self.clock.elapsed();
        let mut noticed = self.lock();
        noticed.notice(now);
        noticed.beat = Some(now);
    }

    fn lock(&self) -> MutexGuard<'_, Noticed> {
        self.noticed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noticed {
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
        let now = self.standstill.clock.elapsed();
        let mut noticed = self.standstill.lock();
        let begun = noticed.calls.remove(&self.number).unwrap_or(now);
        if noticed.beat.is_some() && now.saturating_sub(begun) > TOLERANCE {
            noticed.resumed = Some(now);
        }
    }
}

/// Since when partitions have not answered.
type Away = Vec<Option<Duration>>;

/// Retry delay for callers after the store was unavailable.
const RETRY: Duration = Duration::from_secs(1);
/// How often a beat is given.
const BEAT: Duration = Duration::from_millis(100);
/// A beat or an answer that is late by more means a standstill. The shortest lease lasts twice as long.
const TOLERANCE: Duration = Duration::from_millis(500);
