//! Limits repeated log lines.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// Admits one line of each kind per [`INTERVAL`].
pub struct Throttle {
    clock: Arc<dyn Clock>,
    kinds: Mutex<BTreeMap<&'static str, Last>>,
}

/// The last admitted line of a kind.
struct Last {
    at: Duration,
    left_out: u64,
}

impl Throttle {
    /// A throttle that has admitted nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, kinds: Mutex::default() }
    }

    /// Admits a line of this kind if one is due, and returns how many were left out since the last one.
    pub fn admit(&self, kind: &'static str) -> Option<u64> {
        let now = self.clock.elapsed();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = kinds.get_mut(kind)
            && now.saturating_sub(last.at) < INTERVAL
        {
            last.left_out += 1;
            return None;
        }
        let last = kinds.insert(kind, Last { at: now, left_out: 0 });
        Some(last.map_or(0, |last| last.left_out))
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Throttle").finish_non_exhaustive()
    }
}

/// The shortest time between two lines of a kind.
pub const INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};

    #[test]
    fn one_line_of_a_kind_is_let_through_in_ten_seconds_and_tells_of_those_left_out() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let throttle = Throttle::new(clock.clone());
        let mut lines = Vec::new();
        for _ in 0..340 {
            lines.extend(throttle.admit("store"));
            clock.advance(Duration::from_millis(100));
        }
        assert_eq!(lines, [0, 99, 99, 99]);
        assert_eq!(throttle.admit("another"), Some(0));
    }
}
