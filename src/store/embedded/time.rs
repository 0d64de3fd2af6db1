//! The store's time: read off the wall clock at the start, then counted, so that no step of the wall clock moves it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::options::Options;
use crate::clock::{Clock, Timestamp};
use crate::store::clocks;

/// The clock of an embedded store.
#[derive(Debug)]
pub(super) struct EmbeddedTime {
    clock: Arc<dyn Clock>,
    stopwatch: Arc<dyn Clock>,
    last_revision: AtomicU64,
    state: Mutex<ClockState>,
}

#[derive(Debug)]
struct ClockState {
    /// The time at the start, and the clock's elapsed time then.
    origin: (Timestamp, Duration),
    since: Timestamp,
    /// How far the wall clock was ahead of the store's time at the last check, in microseconds.
    ahead: i64,
    /// The warning about the wall clock, with the remedy.
    remark: Option<String>,
    /// How long the machine had slept at the last check.
    slept: Duration,
    /// When the present disk write began.
    busy: Option<Duration>,
}

impl EmbeddedTime {
    /// Time for a store with a known last revision, steady from now on.
    pub(super) fn new(options: &Options, last_revision: u64) -> Self {
        let (clock, stopwatch) = (Arc::clone(&options.clock), Arc::clone(&options.stopwatch));
        let (wall, slept) = (clock.now(), clock.slept());
        let last = Timestamp::from_micros(last_revision);
        // Revisions may run ahead of the clock by as many microseconds as there were commits in one of them.
        let now = if last.since(wall) > TOLERATED { last } else { wall };
        let remark = oddity(wall, last);
        if let Some(remark) = &remark {
            warn!("{remark}");
        }
        let origin = (now, clock.elapsed() + slept);
        let (since, ahead) = (now.max(last), difference(wall, now));
        let state = ClockState { origin, since, ahead, remark, slept, busy: None };
        let last_revision = AtomicU64::new(last_revision);
        Self { clock, stopwatch, last_revision, state: Mutex::new(state) }
    }

    /// Now, never before the last revision.
    pub(super) fn now(&self) -> Timestamp {
        self.observe(&mut self.lock())
    }

    /// Since when time has gone on and commits could be made; `None` while the disk keeps the writer waiting.
    pub(super) fn steady_since(&self) -> Option<Timestamp> {
        let mut state = self.lock();
        self.observe(&mut state);
        let elapsed = self.stopwatch.elapsed();
        let waits = state.busy.is_some_and(|busy| elapsed.saturating_sub(busy) > TOLERATED);
        (!waits).then_some(state.since)
    }

    /// The warning about the wall clock, as in the log.
    pub(super) fn remark(&self) -> Option<String> {
        let mut state = self.lock();
        self.observe(&mut state);
        state.remark.clone()
    }

    /// Notes the last revision that is on disk.
    pub(super) fn advance(&self, revision: u64) {
        self.last_revision.store(revision, Ordering::Release);
    }

    /// The disk is given something to do.
    pub(super) fn busy(&self) {
        self.lock().busy = Some(self.stopwatch.elapsed());
    }

    /// The disk write is done. Leases that expired during a slow one could not be renewed.
    pub(super) fn done(&self) {
        let mut state = self.lock();
        let took = state.busy.take().map(|busy| self.stopwatch.elapsed().saturating_sub(busy));
        if let Some(took) = took.filter(|took| *took > TOLERATED) {
            state.since = self.observe(&mut state);
            warn!(?took, "the disk was slow; nothing expires for a while");
        }
    }

    /// The store answers again after it did not.
    pub(super) fn begin_anew(&self) {
        let mut state = self.lock();
        state.since = self.observe(&mut state);
    }

    fn observe(&self, state: &mut ClockState) -> Timestamp {
        // Two clocks are read for it, so it may come out a little shorter than the last time.
        let (wall, slept) = (self.clock.now(), self.clock.slept().max(state.slept));
        let (origin, counted) = state.origin;
        let passed = (self.clock.elapsed() + slept).saturating_sub(counted);
        let last = Timestamp::from_micros(self.last_revision.load(Ordering::Acquire));
        let now = (origin + passed).max(last);
        let ahead = difference(wall, origin + passed);
        state.compare(wall, now, ahead);
        if slept.saturating_sub(state.slept) > TOLERATED {
            state.since = now;
            warn!(slept = ?slept.saturating_sub(state.slept), "the machine slept; nothing expires for a while");
        }
        state.slept = slept;
        now
    }

    fn lock(&self) -> MutexGuard<'_, ClockState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClockState {
    /// Notes how far the wall clock is ahead of the store's time.
    fn compare(&mut self, wall: Timestamp, now: Timestamp, ahead: i64) {
        let differs = |ahead: i64| ahead.unsigned_abs() > TOLERATED.as_micros() as u64;
        let differed = differs(self.ahead);
        // Compared with the last check, not with the first: a slewed clock must not add up to a step.
        let stepped = differs(ahead.saturating_sub(self.ahead));
        self.ahead = ahead;
        if differed && !differs(ahead) && self.remark.take().is_some() {
            info!("the wall clock agrees with the store's time again");
        } else if stepped {
            let remark = format!(
                "the wall clock was stepped to {wall}, where by the time that has passed it is {now}; time goes on here as if it had not been: once the wall clock is right, restart the server to take it over"
            );
            warn!("{remark}");
            self.remark = Some(remark);
        }
    }
}

/// The warning about the wall clock at a start, with the remedy.
fn oddity(wall: Timestamp, last: Timestamp) -> Option<String> {
    if let Some(behind) = clocks::behind(CLOCK, wall, last) {
        return Some(format!(
            "{behind}; time goes on from the last commit, and what callers see is that far ahead of the wall clock: set the clock right and restart the server"
        ));
    }
    clocks::far_ahead(CLOCK, wall, last).map(|ahead| {
        format!(
            "{ahead}; if it is wrong, stop the server at once and correct it: operations that expire by this clock are deleted"
        )
    })
}

/// By how many microseconds a time is ahead of another.
const fn difference(time: Timestamp, other: Timestamp) -> i64 {
    time.as_micros() as i64 - other.as_micros() as i64
}

/// After a longer wait, leases that no worker could renew must not expire; a larger difference of clocks is a step.
const TOLERATED: Duration = Duration::from_secs(1);
const CLOCK: &str = "the wall clock";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn a_clock_far_from_what_is_stored_is_remarked_upon_with_what_to_do() {
        assert_eq!(oddity(START, Timestamp::EPOCH), None, "a new store");
        assert_eq!(oddity(START, START), None);
        assert_eq!(oddity(START + DAY, START), None, "stopped for a day");
        let behind = oddity(START, START + DAY).expect("behind");
        assert!(behind.contains("1day before") && behind.contains("restart"), "{behind}");
        let ahead = oddity(START + DAY * 400, START).expect("ahead");
        assert!(ahead.contains("after the last commit") && ahead.contains("stop"), "{ahead}");
    }

    fn time(clock: &Arc<ManualClock>) -> EmbeddedTime {
        let options = Options::new("nowhere", crate::store::layout::Layout::default());
        let (clock, stopwatch) = (clock.clone(), clock.clone());
        EmbeddedTime::new(&Options { clock, stopwatch, ..options }, 0)
    }

    #[test]
    fn a_disk_that_hangs_expires_nothing_while_and_after_it_does() {
        let clock = ManualClock::new(START);
        let time = time(&clock);
        time.busy();
        clock.advance(Duration::from_millis(900));
        time.done();
        assert_eq!(time.steady_since(), Some(START), "slow, no more");
        time.busy();
        clock.advance(Duration::from_secs(12));
        assert_eq!(time.steady_since(), None, "it hangs");
        time.done();
        assert_eq!(time.steady_since(), Some(time.now()), "nothing could be renewed");
    }

    #[test]
    fn a_machine_that_slept_has_passed_the_time_and_expires_nothing_at_once() {
        let clock = ManualClock::new(START);
        let time = time(&clock);
        clock.sleep_machine(DAY);
        assert_eq!(time.now(), START + DAY);
        assert_eq!(time.steady_since(), Some(START + DAY));
    }
}
