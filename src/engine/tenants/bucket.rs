//! Rates.

use std::time::Duration;

use crate::limits::SLOWEST_READ;

/// Lets through so many in a second, and at once as many as in one second.
#[derive(Clone, Copy)]
pub(super) struct TenantBucket {
    level: f64,
    at: Duration,
}

impl TenantBucket {
    /// One that has all that it can hold.
    pub(super) const fn full(now: Duration) -> Self {
        Self { level: f64::MAX, at: now }
    }

    /// Takes one, or says when there will be one.
    pub(super) fn take(&mut self, now: Duration, rate: u32) -> std::result::Result<(), Duration> {
        self.take_many(now, rate, 1)
    }

    /// Takes so many at once, or says when there will be as many. More than it ever holds are taken from a full one.
    pub(super) fn take_many(
        &mut self,
        now: Duration,
        rate: u32,
        count: usize,
    ) -> std::result::Result<(), Duration> {
        let level = self.level_at(now, rate);
        let needed = f64::from(u32::try_from(count).unwrap_or(u32::MAX).min(rate));
        if rate == 0 || level >= needed {
            self.level = level - count as f64;
            return Ok(());
        }
        self.level = level;
        Err(Duration::from_secs_f64((needed - level) / f64::from(rate)))
    }

    /// Takes one that may not be there yet, and says when it will be.
    pub(super) fn reserve(&mut self, now: Duration, rate: u32) -> Duration {
        if rate == 0 {
            return Duration::ZERO;
        }
        self.owe(now, rate, 1);
        Duration::from_secs_f64((-self.level).max(0.0) / f64::from(rate))
    }

    /// How long until so many can be taken and half of what it holds is left; more than it ever holds once it is full.
    pub(super) fn until_spare(&mut self, now: Duration, rate: u32, count: usize) -> Duration {
        if rate == 0 || count == 0 {
            return Duration::ZERO;
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let needed = f64::from(count.saturating_add(rate / 2).min(rate));
        let level = self.level_at(now, rate);
        self.level = level;
        Duration::from_secs_f64(((needed - level) / f64::from(rate)).max(0.0))
    }

    /// Takes so many whether they are there or not. Who takes some afterwards waits for them, but not longer than a read.
    pub(super) fn owe(&mut self, now: Duration, rate: u32, count: usize) {
        if rate > 0 {
            let deepest = deepest(rate);
            self.level = (self.level_at(now, rate) - count as f64).max(deepest);
        }
    }

    fn level_at(&mut self, now: Duration, rate: u32) -> f64 {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        let rate = f64::from(rate);
        passed.mul_add(rate, self.level).min(rate)
    }
}

/// No deeper than a read waits, so that a tenant that takes less is soon as fast as before.
fn deepest(rate: u32) -> f64 {
    -SLOWEST_READ.as_secs_f64() * f64::from(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_takes_as_much_as_it_has_callbacks_and_one_without_any_nothing() {
        let mut bucket = TenantBucket { level: f64::MAX, at: Duration::ZERO };
        let at = Duration::from_secs;
        assert_eq!(bucket.take_many(at(1), 4, 3), Ok(()));
        assert_eq!(bucket.take_many(at(1), 4, 0), Ok(()));
        assert_eq!(bucket.take_many(at(1), 4, 2), Err(Duration::from_millis(250)));
        // One with more than it ever holds waits until it is full, and others wait for the rest.
        assert_eq!(bucket.take_many(at(2), 4, 10), Ok(()));
        assert_eq!(bucket.take_many(at(3), 4, 1), Err(Duration::from_millis(750)));
        assert_eq!(bucket.take_many(at(4), 4, 1), Ok(()));
        assert_eq!(bucket.take_many(at(4), 0, 100), Ok(()), "without a limit");
    }

    #[test]
    fn what_is_spare_leaves_half_to_others_and_the_whole_of_a_rate_of_one() {
        let mut bucket = TenantBucket::full(Duration::ZERO);
        let at = Duration::from_millis;
        for _ in 0..5 {
            assert_eq!(bucket.until_spare(at(0), 10, 1), Duration::ZERO);
            bucket.take(at(0), 10).expect("room");
        }
        assert_eq!(bucket.until_spare(at(0), 10, 1), at(100));
        bucket.take(at(0), 10).expect("the other half");
        let mut slow = TenantBucket::full(Duration::ZERO);
        assert_eq!(slow.until_spare(at(0), 1, 3), Duration::ZERO);
        slow.owe(at(0), 1, 3);
        assert_eq!(slow.until_spare(at(0), 1, 1), at(3_000));
        slow.owe(at(0), 1, 1_000);
        assert_eq!(slow.until_spare(at(0), 1, 1), SLOWEST_READ + at(1_000));
        assert_eq!(slow.until_spare(at(0), 1, 0), Duration::ZERO, "none is wanted");
    }
}
