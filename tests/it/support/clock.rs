//! The clock of a fixture: stands still until moved, and counts its sleepers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use longhaul::clock::{Clock, ManualClock, Timestamp};
use tokio::sync::watch;

use super::within;

/// A manual clock that records the requested sleeps, so that a test knows when a task waits.
#[derive(Debug)]
pub(crate) struct TestClock {
    manual: Arc<ManualClock>,
    asked: watch::Sender<Vec<Duration>>,
}

impl TestClock {
    /// A clock that stands in November 2023.
    pub(crate) fn new() -> Arc<Self> {
        let origin = Timestamp::from_micros(1_700_000_000_000_000);
        Arc::new(Self { manual: ManualClock::new(origin), asked: watch::Sender::default() })
    }

    /// Moves time on.
    pub(crate) fn advance(&self, duration: Duration) {
        self.manual.advance(duration);
    }

    /// Sets the wall clock back behind elapsed time by `step`.
    pub(crate) fn step_back(&self, step: Duration) {
        self.manual.step_wall_clock_back(step);
    }

    /// How many sleeps of exactly this duration have been requested.
    pub(crate) fn count(&self, duration: Duration) -> usize {
        self.asked.borrow().iter().filter(|asked| **asked == duration).count()
    }

    /// Resolves once `times` sleeps of exactly this duration have been requested since the clock was made.
    pub(crate) async fn asked_for(&self, duration: Duration, times: usize) {
        let mut asked = self.asked.subscribe();
        let count = |asked: &Vec<Duration>| asked.iter().filter(|d| **d == duration).count();
        let waiting = asked.wait_for(|asked| count(asked) >= times);
        within(&format!("{times} sleeps of {duration:?}"), waiting).await.expect("the clock");
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.manual.now()
    }

    fn elapsed(&self) -> Duration {
        self.manual.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let sleep = self.manual.sleep(duration);
        self.asked.send_modify(|asked| asked.push(duration));
        sleep
    }
}
