//! The store's time: the wall clock, kept from going back, and watched for steps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::warn;

use crate::clock::{Clock, Timestamp};

/// The clock of an embedded store.
#[derive(Debug)]
pub(super) struct StoreTime {
    clock: Arc<dyn Clock>,
    last_revision: AtomicU64,
    steady: Mutex<Steady>,
}

#[derive(Debug)]
struct Steady {
    /// The wall clock, and the time that never steps, when somebody last asked.
    seen: (Timestamp, Duration),
    since: Timestamp,
}

impl StoreTime {
    /// Time for a store whose last revision is known, steady from now on.
    pub(super) fn new(clock: Arc<dyn Clock>, last_revision: u64) -> Self {
        let seen = (clock.now(), clock.elapsed());
        let since = seen.0.max(Timestamp::from_micros(last_revision));
        if since.since(seen.0) > TOLERATED_STEP {
            warn!(
                last = %since, found = %seen.0,
                "the wall clock is behind the last commit; until it has caught up nothing falls due"
            );
        }
        Self {
            clock,
            last_revision: AtomicU64::new(last_revision),
            steady: Mutex::new(Steady { seen, since }),
        }
    }

    /// Now, never before the last revision. Notices steps of the wall clock.
    pub(super) fn now(&self) -> Timestamp {
        self.observe().0
    }

    /// Since when the wall clock has gone on evenly.
    pub(super) fn steady_since(&self) -> Timestamp {
        self.observe().1
    }

    /// Notes the last revision that is on disk.
    pub(super) fn advance(&self, revision: u64) {
        self.last_revision.store(revision, Ordering::Release);
    }

    fn observe(&self) -> (Timestamp, Timestamp) {
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = (self.clock.now(), self.clock.elapsed());
        let now = seen.0.max(Timestamp::from_micros(self.last_revision.load(Ordering::Acquire)));
        // Compared with the last look, not with the first: a clock that is slewed must not add up to a step.
        let expected = steady.seen.0 + seen.1.saturating_sub(steady.seen.1);
        let step = expected.since(seen.0).max(seen.0.since(expected));
        if step > TOLERATED_STEP {
            steady.since = now;
            warn!(
                expected = %expected, found = %seen.0,
                "the wall clock has stepped; expiries are held back as after a restart"
            );
        }
        steady.seen = seen;
        (now, steady.since)
    }
}

/// A larger step must not expire leases that nobody could have renewed.
const TOLERATED_STEP: Duration = Duration::from_secs(1);
