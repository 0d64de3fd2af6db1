//! Whether there is another attempt, and when (AIP-194).

use std::time::Duration;

use crate::code::Code;

use super::options::RetryPolicy;
use super::record::Operation;
use crate::limits::{
    BACKOFF_JITTER, DEFAULT_BACKOFF_MULTIPLIER, DEFAULT_INITIAL_BACKOFF, DEFAULT_MAX_ATTEMPTS,
    DEFAULT_MAX_BACKOFF,
};

impl Operation {
    /// Whether the policy tries again after an error of that code.
    pub(super) fn retries_code(&self, code: Code) -> bool {
        let policy = self.spec.options.retry_policy.as_ref();
        let named = policy.is_some_and(|policy| policy.retryable_codes.contains(&code));
        code == Code::Unavailable || named
    }

    /// How many attempts there may be.
    pub(super) fn max_attempts(&self) -> u32 {
        let policy = self.spec.options.retry_policy.as_ref();
        policy.and_then(|policy| policy.max_attempts).unwrap_or(DEFAULT_MAX_ATTEMPTS)
    }

    /// The pause before the next attempt, after so many attempts.
    pub(super) fn backoff(&self) -> Duration {
        backoff(self.spec.options.retry_policy.as_ref(), self.attempts_used, self.jitter())
    }

    /// Between -1 and 1, always the same for the same input: the decision is pure.
    fn jitter(&self) -> f64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.uid.as_bytes()).update(&self.attempts_used.to_be_bytes());
        let hash = hasher.finalize();
        let number = hash.as_bytes().first_chunk().copied().map_or(0, u32::from_be_bytes);
        f64::from(number) / f64::from(u32::MAX) * 2.0 - 1.0
    }
}

fn backoff(policy: Option<&RetryPolicy>, attempts: u32, jitter: f64) -> Duration {
    let initial =
        policy.and_then(|policy| policy.initial_backoff).unwrap_or(DEFAULT_INITIAL_BACKOFF);
    // An explicit first pause is not cut by a default maximum.
    let longest = policy
        .and_then(|policy| policy.max_backoff)
        .unwrap_or_else(|| DEFAULT_MAX_BACKOFF.max(initial));
    let multiplier =
        policy.and_then(|policy| policy.backoff_multiplier).unwrap_or(DEFAULT_BACKOFF_MULTIPLIER);
    let exponent = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
    let pause = initial.as_secs_f64() * multiplier.powi(exponent);
    let pause = pause.min(longest.as_secs_f64()) * jitter.mul_add(BACKOFF_JITTER, 1.0);
    Duration::try_from_secs_f64(pause).unwrap_or(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_pause_above_the_default_of_the_longest_is_kept() {
        let hour = Some(Duration::from_hours(1));
        let policy = RetryPolicy { initial_backoff: hour, ..RetryPolicy::default() };
        assert_eq!(backoff(Some(&policy), 1, 0.0), Duration::from_hours(1));
        assert_eq!(backoff(Some(&policy), 2, 0.0), Duration::from_hours(1));
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_spread() {
        let seconds = |attempts, jitter| backoff(None, attempts, jitter).as_secs_f64();
        assert!((seconds(1, 0.0) - 1.0).abs() < 1e-9);
        assert!((seconds(3, 0.0) - 4.0).abs() < 1e-9);
        assert!((seconds(3, 1.0) - 4.8).abs() < 1e-9);
        assert!((seconds(3, -1.0) - 3.2).abs() < 1e-9);
        assert!((seconds(1_000_000, 0.0) - 300.0).abs() < 1e-9);
    }
}
