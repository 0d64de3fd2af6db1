//! Instants, and the clock, which tests can move.
//!
//! No other module reads the system clock or sleeps, so a test with a [`ManualClock`] controls all time.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// An instant in microseconds since the Unix epoch, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The epoch: earlier than every instant of a store.
    pub const EPOCH: Self = Self(0);
    /// The last instant that RFC 3339 and protobuf can represent: the end of the year 9999.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// From microseconds since the epoch; clamped to [`Self::MAX`].
    pub const fn from_micros(micros: u64) -> Self {
        if micros > Self::MAX.0 { Self::MAX } else { Self(micros) }
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time since `earlier`; zero if that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        prost_types::Timestamp::from(*self).fmt(formatter)
    }
}

impl From<Timestamp> for prost_types::Timestamp {
    fn from(timestamp: Timestamp) -> Self {
        Self {
            seconds: (timestamp.0 / 1_000_000) as i64,
            nanos: (timestamp.0 % 1_000_000 * 1_000) as i32,
        }
    }
}

/// From a protobuf timestamp, truncated to microseconds; clamped to the epoch.
impl From<&prost_types::Timestamp> for Timestamp {
    fn from(timestamp: &prost_types::Timestamp) -> Self {
        let seconds = u64::try_from(timestamp.seconds).unwrap_or(0);
        let micros = u64::try_from(timestamp.nanos).unwrap_or(0) / 1_000;
        Self::from_micros(seconds.saturating_mul(1_000_000).saturating_add(micros))
    }
}

/// From a protobuf duration; `None` if it is negative. The conversion of prost-types negates it, which overflows for one
/// value.
pub fn length(duration: &prost_types::Duration) -> Option<Duration> {
    let duration = duration.normalized();
    let (seconds, nanos) = (u64::try_from(duration.seconds), u32::try_from(duration.nanos));
    Some(Duration::new(seconds.ok()?, nanos.ok()?))
}

/// A clock.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Monotonic time since a fixed moment.
    fn elapsed(&self) -> Duration;
    /// How long the machine has been suspended since boot, which [`Self::elapsed`] does not count.
    fn slept(&self) -> Duration {
        Duration::ZERO
    }
    /// Sleeps for `duration` from this call on, as [`Self::elapsed`] counts.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The system clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::elapsed`] starts at zero.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now() })
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH + since_epoch
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    #[cfg(target_os = "linux")]
    fn slept(&self) -> Duration {
        use rustix::time::{ClockId, clock_gettime};
        let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
        // In this order, so that time between the two readings is not counted as suspended.
        let boot = read(ClockId::Boottime);
        boot.saturating_sub(read(ClockId::Monotonic))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

/// A clock that a test moves; moving it wakes its sleepers.
#[derive(Debug)]
pub struct ManualClock {
    origin: Timestamp,
    elapsed: watch::Sender<Duration>,
    step: Mutex<(Duration, Duration)>,
    slept: Mutex<Duration>,
}

impl ManualClock {
    /// A clock at `origin`.
    pub fn new(origin: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            origin,
            elapsed: watch::Sender::new(Duration::ZERO),
            step: Mutex::default(),
            slept: Mutex::default(),
        })
    }

    /// Advances time by `duration` and wakes the sleepers that are due.
    pub fn advance(&self, duration: Duration) {
        self.elapsed.send_modify(|elapsed| *elapsed += duration);
    }

    /// Sets the wall clock forward by `step` without advancing elapsed time, as an operator does.
    pub fn step_wall_clock(&self, step: Duration) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = (step, Duration::ZERO);
    }

    /// Sets the wall clock back by `step`.
    pub fn step_wall_clock_back(&self, step: Duration) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = (Duration::ZERO, step);
    }

    /// Suspends the machine: only the wall clock advances.
    pub fn sleep_machine(&self, duration: Duration) {
        *self.slept.lock().unwrap_or_else(PoisonError::into_inner) += duration;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let (ahead, behind) = *self.step.lock().unwrap_or_else(PoisonError::into_inner);
        self.origin + *self.elapsed.borrow() + self.slept() + ahead - behind
    }

    fn elapsed(&self) -> Duration {
        *self.elapsed.borrow()
    }

    fn slept(&self) -> Duration {
        *self.slept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut elapsed = self.elapsed.subscribe();
        let end = *elapsed.borrow() + duration;
        async move {
            if elapsed.wait_for(|now| *now >= end).await.is_err() {
                // The clock was dropped: never wake.
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_instants_keep_their_microseconds() {
        let instant = Timestamp::from_micros(1_700_000_000_123_456);
        assert_eq!(Timestamp::from(&prost_types::Timestamp::from(instant)), instant);
        let before_epoch = prost_types::Timestamp { seconds: -5, nanos: 0 };
        assert_eq!(Timestamp::from(&before_epoch), Timestamp::EPOCH);
    }

    #[test]
    fn no_length_of_time_is_too_much_to_read() {
        let read = |seconds, nanos| length(&prost_types::Duration { seconds, nanos });
        assert_eq!(read(1, 500_000_000), Some(Duration::from_millis(1_500)));
        assert_eq!(read(2, -500_000_000), Some(Duration::from_millis(1_500)));
        for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, 0), (i64::MIN, i32::MIN)] {
            assert_eq!(read(seconds, nanos), None, "{seconds} {nanos}");
        }
        let longest = read(i64::MAX, i32::MAX).expect("a length");
        assert_eq!(longest, Duration::new(i64::MAX as u64, 999_999_999));
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers_when_their_time_has_come() {
        let clock = ManualClock::new(Timestamp::from_micros(5));
        let mut sleep = clock.sleep(Duration::from_secs(2));
        clock.advance(Duration::from_secs(1));
        assert!((&mut sleep).now_or_never().is_none());
        clock.advance(Duration::from_secs(1));
        sleep.await;
        assert_eq!(clock.now(), Timestamp::from_micros(2_000_005));
    }
}
