//! Says what happens often once in a while.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// One kind of message.
#[derive(Debug)]
pub(super) struct Throttle {
    clock: Arc<dyn Clock>,
    told: Mutex<Option<Duration>>,
    times: AtomicU64,
}

impl Throttle {
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { clock: Arc::clone(clock), told: Mutex::default(), times: AtomicU64::new(0) }
    }

    /// How often it has happened since it was told last, if it is to be told now.
    pub(super) fn tell(&self) -> Option<u64> {
        self.times.fetch_add(1, Ordering::Relaxed);
        let now = self.clock.elapsed();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| now.saturating_sub(told) < PAUSE) {
            return None;
        }
        *told = Some(now);
        drop(told);
        Some(self.times.swap(0, Ordering::Relaxed))
    }
}

const PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};

    #[test]
    fn what_happens_often_is_told_once_in_a_while_with_its_number() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let throttle = Throttle::new(&(Arc::clone(&clock) as Arc<dyn Clock>));
        assert_eq!(throttle.tell(), Some(1));
        assert_eq!((throttle.tell(), throttle.tell()), (None, None));
        clock.advance(PAUSE);
        assert_eq!(throttle.tell(), Some(3));
    }
}
