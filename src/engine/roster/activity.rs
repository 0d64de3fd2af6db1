//! What happens in a queue on this server, counted without reading.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::metrics::QueueCounters;
use crate::limits::MAX_ACTIVE_QUEUES;

/// What happens in one queue.
#[derive(Debug, Default)]
pub(in crate::engine) struct QueueActivity {
    leases: AtomicU64,
    /// When a worker last asked for leases, in microseconds since 1970; 0 for never.
    asked: AtomicU64,
    /// Leases so far, at the last few samples.
    samples: Mutex<VecDeque<(Duration, u64)>>,
    counters: QueueCounters,
}

/// What happens in all queues. Those beyond [`MAX_ACTIVE_QUEUES`] are counted as one.
pub(super) struct Activities {
    queues: RwLock<HashMap<String, Arc<QueueActivity>>>,
    others: Arc<QueueActivity>,
}

impl QueueActivity {
    fn new(counters: QueueCounters, now: Duration) -> Self {
        let samples = Mutex::new(VecDeque::from([(now, 0)]));
        Self { leases: AtomicU64::new(0), asked: AtomicU64::new(0), samples, counters }
    }

    /// Leases were given.
    pub(in crate::engine) fn leased(&self, count: usize) {
        self.leases.fetch_add(count as u64, Ordering::Relaxed);
        self.counters.leases.inc_by(count as u64);
    }

    /// An operation failed.
    pub(in crate::engine) fn failed(&self) {
        self.counters.failures.inc();
    }

    /// A worker asks for leases.
    pub(in crate::engine) fn asked(&self, now: Timestamp) {
        self.asked.fetch_max(now.as_micros(), Ordering::Relaxed);
    }

    /// When a worker last asked.
    pub(super) fn last_asked(&self) -> Option<Timestamp> {
        let asked = self.asked.load(Ordering::Relaxed);
        (asked > 0).then(|| Timestamp::from_micros(asked))
    }

    /// Leases in a second, over the last few samples.
    pub(super) fn leases_per_second(&self, now: Duration) -> f64 {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, count)) = samples.front() else { return 0.0 };
        let leases = self.leases.load(Ordering::Relaxed).saturating_sub(*count);
        leases as f64 / now.saturating_sub(*at).max(SHORTEST_MEASURE).as_secs_f64()
    }

    fn sample(&self, now: Duration) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((now, self.leases.load(Ordering::Relaxed)));
        // The oldest that is kept is the last one before the window.
        while samples.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            samples.pop_front();
        }
    }

    /// Whether nothing has happened for long.
    fn is_idle(&self, now: Timestamp) -> bool {
        let long_ago = self.last_asked().is_none_or(|asked| now.since(asked) >= FORGOTTEN);
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = samples.front().map_or(0, |(_, count)| *count);
        long_ago && counted == self.leases.load(Ordering::Relaxed)
    }
}

impl Activities {
    pub(super) fn new(others: QueueCounters, now: Duration) -> Self {
        let others = Arc::new(QueueActivity::new(others, now));
        Self { queues: RwLock::default(), others }
    }

    /// That of a queue.
    pub(super) fn of(
        &self,
        queue: &str,
        now: Duration,
        counters: impl FnOnce() -> QueueCounters,
    ) -> Arc<QueueActivity> {
        if let Some(found) = self.find(queue) {
            return found;
        }
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        if queues.len() >= MAX_ACTIVE_QUEUES && !queues.contains_key(queue) {
            return self.others.clone();
        }
        let new = || Arc::new(QueueActivity::new(counters(), now));
        queues.entry(queue.to_owned()).or_insert_with(new).clone()
    }

    /// That of a queue in which something has happened.
    pub(super) fn find(&self, queue: &str) -> Option<Arc<QueueActivity>> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner).get(queue).cloned()
    }

    /// All queues in which something has happened.
    pub(super) fn all(&self) -> Vec<(String, Arc<QueueActivity>)> {
        let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
        queues.iter().map(|(queue, activity)| (queue.clone(), activity.clone())).collect()
    }

    /// Takes a sample of each, and forgets those in which nothing has happened for long and that nobody uses.
    pub(super) fn sample(&self, elapsed: Duration, now: Timestamp) {
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, activity| Arc::strong_count(activity) > 1 || !activity.is_idle(now));
        queues.values().for_each(|activity| activity.sample(elapsed));
    }
}

/// Leases in a second are counted over this time.
const WINDOW: Duration = Duration::from_secs(10);
/// The shortest time that they are counted over.
const SHORTEST_MEASURE: Duration = Duration::from_secs(1);
/// How long a queue is remembered in which nothing happens.
const FORGOTTEN: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_in_a_second_are_those_of_the_last_seconds() {
        let activity = QueueActivity::new(QueueCounters::default(), Duration::ZERO);
        let rate = |seconds| activity.leases_per_second(Duration::from_secs(seconds));
        for second in 1..=30 {
            activity.leased(5);
            activity.sample(Duration::from_secs(second));
        }
        assert!((rate(30) - 5.0).abs() < 0.01, "{}", rate(30));
        for second in 31..=45 {
            activity.sample(Duration::from_secs(second));
        }
        assert!(rate(45) < 0.01, "{}", rate(45));
    }

    #[test]
    fn many_queues_are_counted_as_one_and_idle_ones_make_room() {
        let activities = Activities::new(QueueCounters::default(), Duration::ZERO);
        let of = |number: usize| {
            activities.of(&format!("q{number}"), Duration::ZERO, QueueCounters::default)
        };
        let first: Vec<_> = (0..MAX_ACTIVE_QUEUES).map(of).collect();
        assert!(Arc::ptr_eq(&of(MAX_ACTIVE_QUEUES), &of(MAX_ACTIVE_QUEUES + 1)));
        assert!(Arc::ptr_eq(&of(0), &first[0]));
        drop(first);
        activities.sample(Duration::from_secs(1), Timestamp::from_micros(1));
        assert!(activities.all().is_empty());
        assert!(!Arc::ptr_eq(&of(MAX_ACTIVE_QUEUES), &of(MAX_ACTIVE_QUEUES + 1)));
    }
}
