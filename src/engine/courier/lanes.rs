//! Receivers as this server knows them: how many attempts run, whether it is only probed, and when its next delivery is due.
//!
//! A receiver that fails gets one attempt at a time, and after a few failures in a row one probe now and then. So one that is
//! gone costs neither attempts of others nor memory: its deliveries stay in the store.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::limits::{
    FAILURES_BEFORE_PROBES, MAX_DELIVERIES_AT_ONCE, MAX_DELIVERIES_TO_ONE, MAX_KNOWN_RECEIVERS,
    MAX_PROBE_PAUSE, MIN_PROBE_PAUSE,
};
use crate::record::delivery::LaneId;

/// All receivers that this server knows.
#[derive(Default)]
pub(super) struct Lanes {
    state: Mutex<LanesState>,
}

#[derive(Default)]
struct LanesState {
    known: HashMap<LaneId, DeliveryLane>,
    running: usize,
}

/// One receiver.
struct DeliveryLane {
    running: usize,
    /// How many may run.
    width: usize,
    /// Failures in a row.
    failures: u32,
    /// No attempt before that, as the engine's clock counts.
    rests_until: Duration,
    /// When a delivery may be due, by the store's clock.
    due: Option<Timestamp>,
}

/// How an attempt ended, for its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneNews {
    /// The receiver took it.
    Took,
    /// It did not, and asked to be left alone for that long.
    Failed(Duration),
    /// There was no attempt.
    NotTried,
}

impl Default for DeliveryLane {
    fn default() -> Self {
        Self { running: 0, width: FIRST_WIDTH, failures: 0, rests_until: Duration::ZERO, due: None }
    }
}

impl DeliveryLane {
    fn room(&self, now: Duration) -> usize {
        if now < self.rests_until { 0 } else { self.width.saturating_sub(self.running) }
    }

    fn note(&mut self, news: LaneNews, now: Duration) {
        match news {
            LaneNews::Took => {
                (self.failures, self.rests_until) = (0, Duration::ZERO);
                self.width = (self.width + 1).min(MAX_DELIVERIES_TO_ONE);
            }
            LaneNews::Failed(asked) => {
                self.failures = self.failures.saturating_add(1);
                self.width = 1;
                let probes = self.failures.checked_sub(FAILURES_BEFORE_PROBES);
                let pause = probes.map_or(Duration::ZERO, |probes| {
                    MIN_PROBE_PAUSE.saturating_mul(1 << probes.min(16)).min(MAX_PROBE_PAUSE)
                });
                self.rests_until = self.rests_until.max(now + pause.max(asked));
            }
            LaneNews::NotTried => {}
        }
    }

    const fn is_idle(&self) -> bool {
        self.running == 0 && self.failures == 0 && self.due.is_none()
    }
}

impl Lanes {
    /// Takes room for up to `wanted` attempts; returns how many may begin.
    pub(super) fn reserve(&self, lane: LaneId, wanted: usize, now: Duration) -> usize {
        let mut state = self.lock();
        let free = MAX_DELIVERIES_AT_ONCE.saturating_sub(state.running);
        let known = state.lane(lane);
        let granted = known.room(now).min(wanted).min(free);
        known.running += granted;
        state.running += granted;
        granted
    }

    /// Gives the room of one attempt back.
    pub(super) fn release(&self, lane: LaneId, news: LaneNews, now: Duration) {
        let mut state = self.lock();
        state.running = state.running.saturating_sub(1);
        let known = state.lane(lane);
        known.running = known.running.saturating_sub(1);
        known.note(news, now);
        if known.is_idle() {
            state.known.remove(&lane);
        }
    }

    /// Notes the end of an attempt whose room is kept for another.
    pub(super) fn note(&self, lane: LaneId, news: LaneNews, now: Duration) {
        self.lock().lane(lane).note(news, now);
    }

    /// That receiver took something outside of its deliveries: it is well.
    pub(super) fn recover(&self, lane: LaneId, now: Duration) {
        if let Some(known) = self.lock().known.get_mut(&lane) {
            known.note(LaneNews::Took, now);
        }
    }

    /// A delivery to that receiver is due then.
    pub(super) fn expect(&self, lane: LaneId, due: Timestamp) {
        let mut state = self.lock();
        if state.known.len() >= MAX_KNOWN_RECEIVERS && !state.known.contains_key(&lane) {
            // The next look at all receivers finds it.
            return;
        }
        let known = state.lane(lane);
        known.due = Some(known.due.map_or(due, |other| other.min(due)));
    }

    /// What was expected of that receiver is looked up now.
    pub(super) fn looked(&self, lane: LaneId) {
        let mut state = self.lock();
        let Some(known) = state.known.get_mut(&lane) else { return };
        known.due = None;
        if known.is_idle() {
            state.known.remove(&lane);
        }
    }

    /// The receivers that have room and of which a delivery may be due.
    pub(super) fn due(&self, now: Timestamp, elapsed: Duration) -> Vec<LaneId> {
        let state = self.lock();
        if state.running >= MAX_DELIVERIES_AT_ONCE {
            return Vec::new();
        }
        let is_due = |known: &DeliveryLane| known.due.is_some_and(|due| due <= now);
        let ready = state.known.iter().filter(|(_, it)| is_due(it) && it.room(elapsed) > 0);
        ready.map(|(lane, _)| *lane).collect()
    }

    /// How long until a delivery may be due, at most `longest`.
    pub(super) fn next(&self, now: Timestamp, elapsed: Duration, longest: Duration) -> Duration {
        let state = self.lock();
        if state.running >= MAX_DELIVERIES_AT_ONCE {
            return longest;
        }
        let left = |known: &DeliveryLane| {
            let room = known.running < known.width;
            let rest = known.rests_until.saturating_sub(elapsed);
            known.due.filter(|_| room).map(|due| due.since(now).max(rest))
        };
        state.known.values().filter_map(left).fold(longest, Duration::min)
    }

    /// How many attempts run.
    pub(super) fn running(&self) -> usize {
        self.lock().running
    }

    fn lock(&self) -> MutexGuard<'_, LanesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LanesState {
    fn lane(&mut self, lane: LaneId) -> &mut DeliveryLane {
        self.known.entry(lane).or_default()
    }
}

/// How many attempts to a receiver run at first.
const FIRST_WIDTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: LaneId = LaneId([1; 8]);
    const OTHER: LaneId = LaneId([2; 8]);
    const NOW: Duration = Duration::from_secs(100);

    fn fail(lanes: &Lanes, times: u32, now: Duration) {
        for _ in 0..times {
            assert_eq!(lanes.reserve(LANE, 1, now), 1);
            lanes.release(LANE, LaneNews::Failed(Duration::ZERO), now);
        }
    }

    #[test]
    fn a_receiver_that_takes_deliveries_gets_more_at_a_time_up_to_the_bound() {
        let lanes = Lanes::default();
        assert_eq!(lanes.reserve(LANE, 100, NOW), FIRST_WIDTH);
        assert_eq!(lanes.reserve(LANE, 1, NOW), 0);
        for _ in 0..100 {
            lanes.release(LANE, LaneNews::Took, NOW);
            assert!(lanes.reserve(LANE, 1, NOW) == 1);
        }
        lanes.reserve(LANE, 100, NOW);
        assert_eq!(lanes.running(), MAX_DELIVERIES_TO_ONE);
    }

    #[test]
    fn a_receiver_that_fails_is_probed_more_and_more_rarely_and_others_do_not_notice() {
        let lanes = Lanes::default();
        fail(&lanes, FAILURES_BEFORE_PROBES, NOW);
        assert_eq!(lanes.reserve(LANE, 9, NOW), 0);
        assert_eq!(lanes.reserve(OTHER, 9, NOW), FIRST_WIDTH);
        let probe = NOW + MIN_PROBE_PAUSE;
        assert_eq!(lanes.reserve(LANE, 9, probe), 1, "one probe");
        lanes.release(LANE, LaneNews::Failed(Duration::ZERO), probe);
        assert_eq!(lanes.reserve(LANE, 9, probe + MIN_PROBE_PAUSE), 0);
        assert_eq!(lanes.reserve(LANE, 9, probe + MIN_PROBE_PAUSE * 2), 1);
        lanes.release(LANE, LaneNews::Took, probe);
        assert_eq!(lanes.reserve(LANE, 9, probe), FIRST_WIDTH, "it is well again");
    }

    #[test]
    fn a_receiver_that_takes_a_test_is_tried_again_at_once() {
        let lanes = Lanes::default();
        fail(&lanes, FAILURES_BEFORE_PROBES, NOW);
        assert_eq!(lanes.reserve(LANE, 9, NOW), 0);
        lanes.recover(LANE, NOW);
        assert_eq!(lanes.reserve(LANE, 9, NOW), 2);
        lanes.recover(OTHER, NOW);
        assert!(!lanes.lock().known.contains_key(&OTHER), "it was not known to fail");
    }

    #[test]
    fn a_receiver_is_left_alone_for_as_long_as_it_asks() {
        let lanes = Lanes::default();
        assert_eq!(lanes.reserve(LANE, 1, NOW), 1);
        lanes.release(LANE, LaneNews::Failed(Duration::from_mins(1)), NOW);
        assert_eq!(lanes.reserve(LANE, 1, NOW + Duration::from_secs(59)), 0);
        assert_eq!(lanes.reserve(LANE, 1, NOW + Duration::from_mins(1)), 1);
    }

    #[test]
    fn what_is_due_is_known_until_it_is_looked_up_and_idle_receivers_are_forgotten() {
        let lanes = Lanes::default();
        let at = |secs: u64| Timestamp::from_micros(secs * 1_000_000);
        lanes.expect(LANE, at(20));
        lanes.expect(LANE, at(10));
        lanes.expect(OTHER, at(30));
        assert_eq!(lanes.due(at(9), NOW), []);
        assert_eq!(lanes.next(at(9), NOW, Duration::from_mins(1)), Duration::from_secs(1));
        assert_eq!(lanes.due(at(10), NOW), [LANE]);
        lanes.looked(LANE);
        lanes.looked(OTHER);
        assert!(lanes.lock().known.is_empty());
        assert_eq!(lanes.reserve(LANE, 1, NOW), 1);
        lanes.release(LANE, LaneNews::NotTried, NOW);
        assert!(lanes.lock().known.is_empty());
    }
}
