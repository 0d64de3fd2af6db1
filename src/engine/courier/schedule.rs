//! When a delivery is tried again.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::limits::DELIVERY_JITTER;

/// The time of the next attempt after `attempts`; `None` if there is none. The receiver may have asked to wait for `asked`.
/// `chance` is from 0 to 1.
pub(super) fn next_attempt(
    pauses: &[Duration],
    attempts: u32,
    asked: Duration,
    chance: f64,
    now: Timestamp,
) -> Option<Timestamp> {
    let pause = pauses.get((attempts as usize).checked_sub(1)?)?;
    let pause = pause.mul_f64(1.0 + DELIVERY_JITTER * chance);
    Some(now + pause.max(asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::settings::DELIVERY_PAUSES;

    #[test]
    fn attempts_follow_the_schedule_with_jitter_and_not_before_the_receiver_wants_one() {
        let now = Timestamp::from_micros(1_000_000);
        let pause = |attempts, asked, chance| {
            next_attempt(&DELIVERY_PAUSES, attempts, Duration::from_secs(asked), chance, now)
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
