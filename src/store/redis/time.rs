//! The store's time as this process knows it, and since when each partition responds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::store::clocks;
use crate::store::key::Partition;

/// The clock of the store's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreTime {
    /// That of the Redis server: the same for every longhaul server.
    #[default]
    Server,
    /// The clock of the options, for tests that move time.
    Clock,
}

/// Holds the newest reading of the store's time.
#[derive(Debug)]
pub(super) struct Timekeeper {
    clock: Arc<dyn Clock>,
    source: StoreTime,
    place: String,
    state: Mutex<Readings>,
}

#[derive(Debug, Default)]
struct Readings {
    reading: Option<Reading>,
    since: Vec<Option<Timestamp>>,
    /// Whether the clock was compared with the stored times, and the warning about it.
    compared: bool,
    remark: Option<Remark>,
}

/// The warning about the store's clock, with the remedy.
#[derive(Debug)]
struct Remark {
    text: String,
    passes: bool,
}

/// A reading: the time of the server's clock at some moment between sending and receipt.
#[derive(Clone, Copy, Debug)]
struct Reading {
    time: Timestamp,
    received: Duration,
    round_trip: Duration,
}

impl Reading {
    /// Never ahead of the server, as the reading is older than its receipt.
    fn at(&self, elapsed: Duration) -> Timestamp {
        self.time + elapsed - self.received
    }
}

impl Timekeeper {
    /// No knowledge yet; every partition is unavailable.
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        source: StoreTime,
        place: &str,
        partitions: u16,
    ) -> Self {
        let state = Readings { since: vec![None; usize::from(partitions)], ..Readings::default() };
        Self { clock, source, place: place.to_owned(), state: Mutex::new(state) }
    }

    /// The clock that counts elapsed time and sleeps.
    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The time argument of the script: 0 for the server's own.
    pub(super) fn script_time(&self) -> u64 {
        match self.source {
            StoreTime::Server => 0,
            StoreTime::Clock => self.clock.now().as_micros(),
        }
    }

    /// The store's time.
    pub(super) fn now(&self) -> Timestamp {
        self.reckon(&self.lock())
    }

    /// Since when a partition answers.
    pub(super) fn since(&self, partition: Partition) -> Option<Timestamp> {
        self.lock().since.get(usize::from(partition.0)).copied().flatten()
    }

    /// Takes the time of a reply; `sent` is when it was requested, as the clock's elapsed time.
    pub(super) fn observe(&self, server: Timestamp, sent: Duration) {
        let time = match self.source {
            StoreTime::Server => server,
            StoreTime::Clock => self.clock.now(),
        };
        let received = self.clock.elapsed();
        let reading = Reading { time, received, round_trip: received.saturating_sub(sent) };
        let mut state = self.lock();
        let Some(old) = state.reading else {
            state.reading = Some(reading);
            return;
        };
        let slowest = old.at(sent);
        let fastest = old.at(received) + old.round_trip;
        let stepped = time + TOLERANCE < slowest || fastest + TOLERANCE < time;
        if stepped {
            tracing::warn!(store = %self.place, expected = %old.at(received), found = %time, "the store's clock stepped; nothing expires for a while");
            for since in state.since.iter_mut().flatten() {
                *since = time;
            }
        }
        // A slow reply must not turn the time back, and an old reading must not outlive the drift between the clocks.
        if stepped || old.at(received) <= time || received.saturating_sub(old.received) > TOLERANCE
        {
            state.reading = Some(reading);
        }
    }

    /// The warning about the store's clock, as in the log.
    pub(super) fn remark(&self) -> Option<String> {
        self.lock().remark.as_ref().map(|remark| remark.text.clone())
    }

    /// Takes the time of the last commit from the metas.
    pub(super) fn compare(&self, last: Timestamp) {
        let mut state = self.lock();
        let now = self.reckon(&state);
        let clock = format!("the clock of {}", self.place);
        let first = !std::mem::replace(&mut state.compared, true);
        if let Some(behind) = clocks::behind(&clock, now, last) {
            if state.remark.as_ref().is_some_and(|remark| remark.passes) {
                return;
            }
            state.note(true, format!("{behind}; due times are that much too late: set that clock right; no restart is needed"));
        } else if let Some(ahead) = clocks::far_ahead(&clock, now, last).filter(|_| first) {
            state.note(false, format!("{ahead}; if it is wrong, stop longhaul at once and correct it: operations that expire by this clock are deleted"));
        } else if state.remark.take_if(|remark| remark.passes).is_some() {
            tracing::info!(store = %self.place, "the store's clock agrees with the stored times again");
        }
    }

    /// The partition responds. Returns whether it was unavailable.
    pub(super) fn answered(&self, partition: Partition) -> bool {
        self.answered_all(&[partition])
    }

    /// The partitions respond. Returns whether one was unavailable.
    pub(super) fn answered_all(&self, partitions: &[Partition]) -> bool {
        let mut state = self.lock();
        let now = self.reckon(&state);
        let mut was_away = false;
        for partition in partitions {
            if let Some(since) = state.since.get_mut(usize::from(partition.0)) {
                was_away |= since.is_none();
                since.get_or_insert(now);
            }
        }
        was_away
    }

    /// The partition does not answer. Returns whether it did before.
    pub(super) fn away(&self, partition: Partition) -> bool {
        let mut state = self.lock();
        state.since.get_mut(usize::from(partition.0)).is_some_and(|since| since.take().is_some())
    }

    /// No partition answers. Returns whether one did before.
    pub(super) fn all_away(&self) -> bool {
        let mut state = self.lock();
        let before = state.since.clone();
        state.since.fill(None);
        before.iter().any(Option::is_some)
    }

    fn reckon(&self, state: &Readings) -> Timestamp {
        match self.source {
            StoreTime::Server => {
                state.reading.map_or(Timestamp::EPOCH, |reading| reading.at(self.clock.elapsed()))
            }
            StoreTime::Clock => self.clock.now(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Readings> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readings {
    fn note(&mut self, passes: bool, text: String) {
        tracing::warn!("{text}");
        self.remark = Some(Remark { text, passes });
    }
}

/// A clock that is off by more has stepped; a reading older than this is replaced by any newer one.
const TOLERANCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const ONLY: Partition = Partition(0);
    const DAY: Duration = Duration::from_hours(24);

    fn timekeeper(clock: &Arc<ManualClock>) -> Timekeeper {
        Timekeeper::new(clock.clone(), StoreTime::Server, "redis", 1)
    }

    #[test]
    fn the_estimate_is_never_ahead_of_the_server_and_a_slow_reply_is_no_step() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let (time, server) = (timekeeper(&clock), Timestamp::from_micros(1_700_000_000_000_000));
        time.observe(server, Duration::ZERO);
        time.answered(ONLY);
        clock.advance(Duration::from_secs(5));
        assert_eq!(time.now(), server + Duration::from_secs(5));

        // Read 5 s after the first, received 1.5 s later.
        clock.advance(Duration::from_millis(1_500));
        time.observe(server + Duration::from_secs(5), Duration::from_secs(5));
        assert_eq!(time.now(), server + Duration::from_secs(5));
        clock.advance(Duration::from_millis(100));
        time.observe(server + Duration::from_millis(6_600), clock.elapsed());
        assert_eq!(time.now(), server + Duration::from_millis(6_600));
        assert_eq!(time.since(ONLY), Some(server));

        // A reply that took long just after a quick one does not turn the estimate back.
        clock.advance(Duration::from_millis(50));
        time.observe(server + Duration::from_millis(6_610), Duration::from_millis(6_600));
        assert_eq!(time.now(), server + Duration::from_millis(6_650));
    }

    #[test]
    fn a_clock_far_from_what_is_stored_is_remarked_upon_until_it_is_right() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let (time, server) = (timekeeper(&clock), Timestamp::from_micros(1_700_000_000_000_000));
        time.observe(server, Duration::ZERO);
        for last in [Timestamp::EPOCH, server, server + Duration::from_millis(900)] {
            time.compare(last);
            assert_eq!(time.remark(), None, "{last}");
        }
        time.compare(server + DAY);
        let said = time.remark().expect("behind");
        assert!(said.contains("clock of redis says") && said.contains("1day before"), "{said}");
        clock.advance(Duration::from_secs(2));
        time.observe(server + DAY * 40, clock.elapsed());
        time.compare(server + DAY);
        assert_eq!(time.remark(), None, "a server that runs may have had nothing to do");

        let started = timekeeper(&clock);
        started.observe(server + DAY * 40, clock.elapsed());
        for _ in 0..2 {
            started.compare(server);
            let said = started.remark().expect("ahead");
            assert!(said.contains("1month") && said.contains("stop longhaul"), "{said}");
        }
    }

    #[test]
    fn a_step_of_the_clock_begins_the_time_of_answering_anew() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let (time, server) = (timekeeper(&clock), Timestamp::from_micros(1_700_000_000_000_000));
        time.observe(server, Duration::ZERO);
        time.answered(ONLY);
        for stepped in [server + Duration::from_mins(1), server - Duration::from_mins(1)] {
            time.observe(stepped, clock.elapsed());
            assert_eq!((time.now(), time.since(ONLY)), (stepped, Some(stepped)));
        }
        assert!(time.away(ONLY) && !time.all_away() && time.since(ONLY).is_none());
        time.observe(server, clock.elapsed());
        assert!(time.since(ONLY).is_none() && time.answered(ONLY) && !time.answered(ONLY));
    }
}
