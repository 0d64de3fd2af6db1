//! The leases that a queue with a limit of leases in a second may give now: a token bucket, so that they are spread evenly.
//!
//! Each server has a bucket of its own, filled at its share of the limit. What a server has not used for a moment is kept,
//! at most [`BURST`] of it, and at least one lease.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The tokens of one queue on this server.
#[derive(Debug)]
pub(in crate::engine) struct Bucket {
    /// Leases in a second over all servers.
    rate: f64,
    level: Mutex<Level>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    tokens: f64,
    /// As of when, as the engine's clock counts elapsed time.
    at: Duration,
    /// When leases were last wanted.
    wanted: Option<Duration>,
    /// How many servers share the limit.
    servers: u32,
}

impl Bucket {
    /// A bucket with one token.
    pub(super) fn new(rate: f64, now: Duration) -> Self {
        let level = Level { tokens: 1.0, at: now, wanted: None, servers: 1 };
        Self { rate, level: Mutex::new(level) }
    }

    /// Leases in a second over all servers.
    pub(super) const fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes up to `most` tokens.
    pub(in crate::engine) fn take(&self, most: usize, now: Duration) -> usize {
        let mut level = self.level();
        self.fill(&mut level, now);
        level.wanted = Some(now);
        let taken = (level.tokens.max(0.0) as usize).min(most);
        level.tokens -= taken as f64;
        taken
    }

    /// Returns tokens that were not used.
    pub(in crate::engine) fn give_back(&self, tokens: usize) {
        self.level().tokens += tokens as f64;
    }

    /// How long until there is a token again, and a moment at least: many leases in a second are given a few at a time.
    pub(in crate::engine) fn next(&self, now: Duration) -> Duration {
        let mut level = self.level();
        self.fill(&mut level, now);
        let missing = (1.0 - level.tokens).max(0.0) / self.share(&level);
        Duration::from_secs_f64(missing.min(LONGEST)).max(MOMENT)
    }

    /// The limit is shared by so many servers from now on.
    pub(in crate::engine) fn share_among(&self, servers: u32, now: Duration) {
        let mut level = self.level();
        self.fill(&mut level, now);
        level.servers = servers.max(1);
    }

    /// When leases were last wanted.
    pub(in crate::engine) fn wanted(&self) -> Option<Duration> {
        self.level().wanted
    }

    fn fill(&self, level: &mut Level, now: Duration) {
        let share = self.share(level);
        let passed = now.saturating_sub(level.at).as_secs_f64();
        let most = (share * BURST.as_secs_f64()).max(1.0);
        // What was given back may be more than that.
        level.tokens = (level.tokens + passed * share).min(most.max(level.tokens));
        level.at = level.at.max(now);
    }

    /// Leases in a second on this server.
    fn share(&self, level: &Level) -> f64 {
        self.rate / f64::from(level.servers)
    }

    fn level(&self) -> MutexGuard<'_, Level> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was not used for longer is lost.
const BURST: Duration = Duration::from_millis(100);
/// The shortest wait for tokens.
const MOMENT: Duration = Duration::from_millis(10);
/// The longest wait for a token, in seconds.
const LONGEST: f64 = 3_600.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// How many leases are given in that time to workers that always want more.
    fn given(bucket: &Bucket, from: Duration, length: Duration) -> usize {
        let (mut now, mut given) = (from, 0);
        while now < from + length {
            let taken = bucket.take(256, now);
            given += taken;
            if taken == 0 {
                now += bucket.next(now);
            }
        }
        given
    }

    #[test]
    fn leases_are_spread_evenly_at_every_rate() {
        for rate in [0.5, 1.0, 7.0, 100.0, 5_000.0, 250_000.0] {
            let bucket = Bucket::new(rate, Duration::ZERO);
            let mut all = 0;
            for second in 0..60 {
                let leases = given(&bucket, Duration::from_secs(second), Duration::from_secs(1));
                let most = rate * 1.1 + 1.0;
                assert!(leases as f64 <= most, "{leases} in a second at {rate}");
                all += leases;
            }
            let error = all as f64 / (60.0 * rate) - 1.0;
            assert!((-0.03..=0.04).contains(&error), "{all} in a minute at {rate}");
        }
    }

    #[test]
    fn an_idle_queue_saves_no_more_than_a_moment() {
        let bucket = Bucket::new(200.0, Duration::ZERO);
        assert_eq!(bucket.take(256, Duration::from_secs(600)), 20);
        assert_eq!(bucket.take(256, Duration::from_secs(600)), 0);
        bucket.give_back(3);
        assert_eq!(bucket.take(256, Duration::from_secs(600)), 3);
        let slow = Bucket::new(0.01, Duration::ZERO);
        assert_eq!(slow.take(256, Duration::from_secs(600)), 1);
        assert_eq!(slow.next(Duration::from_secs(600)), Duration::from_secs(100));
    }

    #[test]
    fn a_share_is_that_of_the_servers_that_lease() {
        let bucket = Bucket::new(100.0, Duration::ZERO);
        bucket.share_among(4, Duration::ZERO);
        let leases = given(&bucket, Duration::ZERO, Duration::from_secs(10));
        assert!((250..=252).contains(&leases), "{leases}");
    }
}
