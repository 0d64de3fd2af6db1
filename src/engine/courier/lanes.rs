//! Receivers as this server knows them: how many attempts run, what waits for them, and when more is due.
//!
//! A receiver that fails gets one attempt at a time, and after a few failures in a row one probe now and then. So one that is
//! gone takes neither attempts from other receivers nor memory: its deliveries stay in the store. For one that replies at once, some
//! deliveries are claimed before there is room for an attempt, so that its attempts do not wait for the store.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::lane::{Claimed, DeliveryLane, Held, LaneNews};
use crate::clock::Timestamp;
use crate::limits::{MAX_DELIVERIES_AT_ONCE, MAX_HELD_DELIVERIES, MAX_KNOWN_RECEIVERS};
use crate::record::delivery::LaneId;

/// All receivers that this server knows.
#[derive(Default)]
pub(super) struct Lanes {
    state: Mutex<LanesState>,
}

/// Wakes those who deliver.
#[derive(Default)]
pub(super) struct Bells {
    /// Deliveries may be due whose receivers have room.
    pub(super) due: Notify,
    /// Deliveries are claimed, and their receivers may have room.
    pub(super) claimed: Notify,
}

#[derive(Default)]
struct LanesState {
    known: HashMap<LaneId, DeliveryLane>,
    running: usize,
    /// Those that wait for an attempt, and room that is kept for such.
    held: usize,
}

/// What comes next for a receiver.
pub(super) struct AfterAttempt {
    /// A delivery whose attempt may begin.
    pub(super) claimed: Option<Claimed>,
    /// More may be due, for which there is room.
    pub(super) wants_more: bool,
}

impl Lanes {
    /// Keeps room for up to `wanted` deliveries whose claims are written now; returns for how many.
    pub(super) fn reserve(&self, lane: LaneId, wanted: usize, now: Duration) -> usize {
        self.lock().reserve(lane, wanted, now)
    }

    /// Keeps room for a delivery that is made now, unless others of its receiver were due before it.
    pub(super) fn reserve_new(&self, lane: LaneId, at: Timestamp, now: Duration) -> bool {
        let mut state = self.lock();
        let is_first = state.lane(lane).expected.is_none_or(|expected| expected.due > at);
        is_first && state.reserve(lane, 1, now) == 1
    }

    /// Takes deliveries for which so much room was kept.
    pub(super) fn hold(&self, lane: LaneId, claimed: Vec<Held>, reserved: usize) {
        let mut state = self.lock();
        state.held = (state.held + claimed.len()).saturating_sub(reserved);
        let known = state.lane(lane);
        known.reserved = known.reserved.saturating_sub(reserved);
        known.held.extend(claimed);
        state.forget_idle(lane);
    }

    /// The deliveries whose attempts may begin.
    pub(super) fn begin(&self, now: Timestamp, elapsed: Duration) -> Vec<Claimed> {
        let mut state = self.lock();
        if state.held == 0 {
            return Vec::new();
        }
        let waiting = state.known.iter().filter(|(_, known)| !known.held.is_empty());
        let waiting: Vec<LaneId> = waiting.map(|(lane, _)| *lane).collect();
        let mut begun = Vec::new();
        for lane in waiting {
            while let Some(claimed) = state.take(lane, now, elapsed) {
                begun.push(claimed);
            }
        }
        begun
    }

    /// The next delivery of a receiver, if its attempt may begin.
    pub(super) fn take(&self, lane: LaneId, now: Timestamp, elapsed: Duration) -> Option<Claimed> {
        let mut state = self.lock();
        let taken = state.take(lane, now, elapsed);
        state.forget_idle(lane);
        taken
    }

    /// Notes the end of an attempt; returns what comes next for its receiver.
    pub(super) fn end(
        &self,
        lane: LaneId,
        news: LaneNews,
        now: Timestamp,
        elapsed: Duration,
    ) -> AfterAttempt {
        let mut state = self.lock();
        state.running = state.running.saturating_sub(1);
        let known = state.lane(lane);
        known.running = known.running.saturating_sub(1);
        known.note(news, elapsed);
        let claimed = state.take(lane, now, elapsed);
        let may_hold = state.may_hold();
        let wants_more = state.lane(lane).wants_more(elapsed, may_hold);
        state.forget_idle(lane);
        AfterAttempt { claimed, wants_more }
    }

    /// That receiver took something outside of its deliveries: it is well.
    pub(super) fn recover(&self, lane: LaneId, now: Duration) {
        if let Some(known) = self.lock().known.get_mut(&lane) {
            known.note(LaneNews::Took(Duration::MAX), now);
        }
    }

    /// A delivery to that receiver is due then.
    pub(super) fn expect(&self, lane: LaneId, due: Timestamp) {
        self.expect_at(lane, due, due);
    }

    /// A delivery to that receiver is due at `due`, and is to be looked for at `at`.
    pub(super) fn expect_later(&self, lane: LaneId, due: Timestamp, at: Timestamp) {
        self.expect_at(lane, due, due.max(at));
    }

    fn expect_at(&self, lane: LaneId, due: Timestamp, at: Timestamp) {
        let mut state = self.lock();
        if state.known.len() >= MAX_KNOWN_RECEIVERS && !state.known.contains_key(&lane) {
            // The next look at all receivers finds it.
            return;
        }
        state.lane(lane).expect(due, at);
    }

    /// What was expected of that receiver is looked up now: from which due time on.
    pub(super) fn look(&self, lane: LaneId) -> Timestamp {
        let mut state = self.lock();
        let expected = state.known.get_mut(&lane).and_then(|known| known.expected.take());
        state.forget_idle(lane);
        expected.map_or(Timestamp::default(), |expected| expected.due)
    }

    /// The receivers that have room and of which a delivery may be due.
    pub(super) fn due(&self, now: Timestamp, elapsed: Duration) -> Vec<LaneId> {
        let state = self.lock();
        let may_hold = state.may_hold();
        let is_due = |known: &DeliveryLane| {
            let expected = known.expected.is_some_and(|expected| expected.at <= now);
            expected && known.room(elapsed, may_hold) > 0
        };
        state.known.iter().filter(|(_, known)| is_due(known)).map(|(lane, _)| *lane).collect()
    }

    /// How long until a delivery may be due, at most `longest`.
    pub(super) fn next(&self, now: Timestamp, elapsed: Duration, longest: Duration) -> Duration {
        let state = self.lock();
        let may_hold = state.may_hold();
        let left = |known: &DeliveryLane| {
            let rest = known.rests_until.saturating_sub(elapsed);
            let room = known.room(elapsed + rest, may_hold) > 0;
            let expected = known.expected.filter(|_| room)?;
            Some(expected.at.since(now).max(rest))
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

    /// Whether deliveries may wait here for attempts that run.
    const fn may_hold(&self) -> bool {
        self.held < MAX_HELD_DELIVERIES
    }

    fn reserve(&mut self, lane: LaneId, wanted: usize, now: Duration) -> usize {
        let may_hold = self.may_hold();
        let known = self.lane(lane);
        let granted = known.room(now, may_hold).min(wanted);
        known.reserved += granted;
        self.held += granted;
        granted
    }

    /// The next delivery of a receiver to try. Others that do not reply cannot keep a receiver from its only attempt.
    fn take(&mut self, lane: LaneId, now: Timestamp, elapsed: Duration) -> Option<Claimed> {
        let is_full = self.running >= MAX_DELIVERIES_AT_ONCE;
        let known = self.lane(lane);
        if is_full && known.running > 0 {
            return None;
        }
        let before = known.held.len();
        let taken = known.take(now, elapsed);
        let gone = before - known.held.len();
        self.held = self.held.saturating_sub(gone);
        self.running += usize::from(taken.is_some());
        taken
    }

    fn forget_idle(&mut self, lane: LaneId) {
        if self.known.get(&lane).is_some_and(DeliveryLane::is_idle) {
            self.known.remove(&lane);
        }
    }
}

#[cfg(test)]
mod tests;
