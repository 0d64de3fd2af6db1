//! When a delivery is tried again.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::limits::{DELIVERY_JITTER, MAX_DELIVERY_ATTEMPTS};

/// The time of the next attempt after `attempts`; `None` if there is none. The receiver may have asked to wait for `asked`.
/// `chance` is from 0 to 1.
pub(super) fn next_attempt(
    attempts: u32,
    asked: Duration,
    chance: f64,
    now: Timestamp,
) -> Option<Timestamp> {
    let pause = PAUSES.get(attempts as usize)?;
    let pause = pause.mul_f64(1.0 + DELIVERY_JITTER * chance);
    Some(now + pause.max(asked))
}

/// The pauses before each attempt.
const PAUSES: [Duration; MAX_DELIVERY_ATTEMPTS] = [
    Duration::ZERO,
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_follow_the_schedule_with_jitter_and_not_before_the_receiver_wants_one() {
        let now = Timestamp::from_micros(1_000_000);
        let pause = |attempts, asked, chance| {
            next_attempt(attempts, Duration::from_secs(asked), chance, now)
                .map(|time| time.since(now).as_secs())
        };
        assert_eq!(pause(1, 0, 0.0), Some(5));
        assert_eq!(pause(1, 0, 1.0), Some(6));
        assert_eq!(pause(2, 0, 0.5), Some(330));
        assert_eq!(pause(2, 600, 1.0), Some(600));
        assert_eq!(pause(9, 0, 0.0), Some(24 * 3600));
        assert_eq!(pause(10, 0, 0.0), None);
    }
}
