//! One receiver as this server knows it: how many attempts run, what waits for them, and whether it is only probed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::limits::{
    FAILURES_BEFORE_PROBES, MAX_DELIVERIES_TO_ONE, MAX_HELD_FOR_ONE, MAX_PROBE_PAUSE,
    MIN_PROBE_PAUSE,
};
use crate::record::delivery::Delivery;
use crate::store::Key;

/// One receiver.
pub(super) struct DeliveryLane {
    pub(super) running: usize,
    /// Deliveries of this server that wait for an attempt.
    pub(super) held: VecDeque<Held>,
    /// Room that is kept for deliveries while their claims are written.
    pub(super) reserved: usize,
    /// How many attempts may run.
    width: usize,
    /// Failures in a row.
    failures: u32,
    /// Whether the last reply came at once.
    is_quick: bool,
    /// No attempt before that, as the engine's clock counts.
    pub(super) rests_until: Duration,
    /// What may be due in the store.
    pub(super) expected: Option<Expected>,
}

/// Deliveries in the store, by its clock.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    /// None is due before that.
    pub(super) due: Timestamp,
    /// When to look for them.
    pub(super) at: Timestamp,
}

/// A delivery that this server has claimed: no other one tries it before the claim ends.
pub(in crate::engine) type Claimed = (Key, Delivery);

/// A claimed delivery that waits for its attempt.
pub(super) struct Held {
    pub(super) claimed: Claimed,
    /// An attempt that begins later may not end before the claim.
    pub(super) begin_by: Timestamp,
}

/// How an attempt ended, for its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneNews {
    /// The receiver took it, after that long.
    Took(Duration),
    /// It did not, and asked to be left alone for that long.
    Failed(Duration),
    /// There was no attempt.
    NotTried,
}

impl Default for DeliveryLane {
    fn default() -> Self {
        Self {
            running: 0,
            held: VecDeque::new(),
            reserved: 0,
            width: FIRST_WIDTH,
            failures: 0,
            is_quick: false,
            rests_until: Duration::ZERO,
            expected: None,
        }
    }
}

impl DeliveryLane {
    /// For how many more deliveries there is room. `may_hold`: also for some that wait for the attempts that run.
    pub(super) fn room(&self, now: Duration, may_hold: bool) -> usize {
        if now < self.rests_until {
            return 0;
        }
        let holds = may_hold && self.is_quick && self.width >= MAX_DELIVERIES_TO_ONE;
        let most = if holds { MAX_HELD_FOR_ONE } else { self.width };
        most.saturating_sub(self.running + self.held.len() + self.reserved)
    }

    /// Whether another attempt may begin.
    pub(super) fn may_begin(&self, now: Duration) -> bool {
        now >= self.rests_until && self.running < self.width
    }

    pub(super) fn note(&mut self, news: LaneNews, now: Duration) {
        match news {
            LaneNews::Took(latency) => {
                (self.failures, self.rests_until) = (0, Duration::ZERO);
                self.is_quick = latency <= QUICK;
                self.width = (self.width + 1).min(MAX_DELIVERIES_TO_ONE);
            }
            LaneNews::Failed(asked) => {
                self.failures = self.failures.saturating_add(1);
                (self.width, self.is_quick) = (1, false);
                let probes = self.failures.checked_sub(FAILURES_BEFORE_PROBES);
                let pause = probes.map_or(Duration::ZERO, |probes| {
                    MIN_PROBE_PAUSE.saturating_mul(1 << probes.min(16)).min(MAX_PROBE_PAUSE)
                });
                self.rests_until = self.rests_until.max(now + pause.max(asked));
            }
            LaneNews::NotTried => {}
        }
    }

    /// The next delivery to try, if an attempt may begin. One that has waited too long is due again when its claim ends.
    pub(super) fn take(&mut self, now: Timestamp, elapsed: Duration) -> Option<Claimed> {
        if elapsed < self.rests_until {
            // Those that wait would wait for too long.
            while let Some(held) = self.held.pop_front() {
                self.expect_again(&held);
            }
        }
        while self.may_begin(elapsed) {
            let held = self.held.pop_front()?;
            if now <= held.begin_by {
                self.running += 1;
                return Some(held.claimed);
            }
            self.expect_again(&held);
        }
        None
    }

    /// Whether more may be due than it holds, and it has room for many.
    pub(super) fn wants_more(&self, now: Duration, may_hold: bool) -> bool {
        self.expected.is_some() && self.room(now, may_hold) >= self.running + self.held.len()
    }

    fn expect_again(&mut self, held: &Held) {
        if let Some(due) = held.claimed.1.due() {
            self.expect(due, due);
        }
    }

    /// A delivery is due at `due`, and is to be looked for at `at`.
    pub(super) fn expect(&mut self, due: Timestamp, at: Timestamp) {
        let other = self.expected.unwrap_or(Expected { due, at });
        self.expected = Some(Expected { due: due.min(other.due), at: at.min(other.at) });
    }

    pub(super) fn is_idle(&self) -> bool {
        let busy = self.running + self.held.len() + self.reserved > 0;
        !busy && self.failures == 0 && self.expected.is_none()
    }
}

/// How many attempts to a receiver run at first.
pub(super) const FIRST_WIDTH: usize = 4;
/// A receiver that replies this soon gets the deliveries that wait for its attempts soon enough.
const QUICK: Duration = Duration::from_millis(100);
