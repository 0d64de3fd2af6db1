//! When a connection ends without its client: silent, deaf, wasteful, idle or old.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, pending};
use tokio::select;

use super::account::Account;
use crate::clock::Clock;
use crate::limits::{
    CONNECTION_GRACE, DEFAULT_CONNECTION_AGE, DEFAULT_CONNECTION_IDLE, MAX_ABANDONED, SILENCE,
    UNREAD_TIME,
};

/// Follows one connection.
pub(super) struct Lifetime {
    clock: Arc<dyn Clock>,
    limits: AgeLimits,
    /// Until it is old; afterwards until its calls must have ended.
    age: BoxFuture<'static, ()>,
    look: BoxFuture<'static, ()>,
    unread: Unread,
    retired: bool,
}

/// How long connections last; zero is without end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgeLimits {
    /// From the first byte.
    pub(crate) age: Duration,
    /// Without a call.
    pub(crate) idle: Duration,
}

impl Default for AgeLimits {
    fn default() -> Self {
        Self { age: DEFAULT_CONNECTION_AGE, idle: DEFAULT_CONNECTION_IDLE }
    }
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionFate {
    /// It takes no more calls, and ends once those that run have ended.
    Retire,
    /// It ends at once.
    Close,
}

impl Lifetime {
    pub(super) fn new(clock: &Arc<dyn Clock>, limits: AgeLimits) -> Self {
        let age = if limits.age.is_zero() {
            Box::pin(pending())
        } else {
            clock.sleep(jittered(limits.age))
        };
        Self {
            age,
            look: clock.sleep(LOOK),
            clock: Arc::clone(clock),
            limits,
            unread: Unread::default(),
            retired: false,
        }
    }

    /// Waits until something has to happen to the connection. Safe to drop and to call again.
    pub(super) async fn fate(&mut self, account: &Account) -> ConnectionFate {
        loop {
            select! {
                () = &mut self.age => {
                    if self.retired {
                        return ConnectionFate::Close;
                    }
                    return self.retire();
                }
                () = &mut self.look => {
                    self.look = self.clock.sleep(LOOK);
                    if account.is_silent()
                        || self.unread.is_too_long(account)
                        || account.take_abandoned() > MAX_ABANDONED
                    {
                        return ConnectionFate::Close;
                    }
                    let is_idle = account.idle_time().is_some_and(|idle| idle >= self.limits.idle);
                    if is_idle && !self.limits.idle.is_zero() && !self.retired {
                        return self.retire();
                    }
                }
            }
        }
    }

    fn retire(&mut self) -> ConnectionFate {
        self.retired = true;
        self.age = self.clock.sleep(CONNECTION_GRACE);
        ConnectionFate::Retire
    }
}

/// Notices when what was answered is not read.
#[derive(Default)]
struct Unread {
    written: Option<u64>,
    time: Duration,
}

impl Unread {
    /// Looked at every [`LOOK`].
    fn is_too_long(&mut self, account: &Account) -> bool {
        let written = account.reading();
        if written.is_none() || written != self.written {
            *self = Self { written, time: Duration::ZERO };
            return false;
        }
        self.time += LOOK;
        self.time >= UNREAD_TIME
    }
}

/// A tenth more or less, so that connections that were opened together do not end together.
fn jittered(age: Duration) -> Duration {
    let share = (RandomState::new().hash_one(0) % 1_000) as u32;
    age * 9 / 10 + age / 5 * share / 1_000
}

/// How often a connection is looked at: one that has said nothing by the first time is closed.
pub(super) const LOOK: Duration = SILENCE;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::server::connections::account::Accounts;

    const MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn an_old_connection_retires_within_a_tenth_of_its_age_and_is_closed_after_the_grace() {
        let manual = ManualClock::new(Timestamp::EPOCH);
        let clock: Arc<dyn Clock> = manual.clone();
        let place = Accounts::new(clock.clone(), 1).admit().expect("a place");
        place.0.received(1_000);
        let _call = place.0.call(0).expect("room");
        let limits = AgeLimits { age: MINUTE * 10, idle: MINUTE };
        let mut lifetime = Lifetime::new(&clock, limits);
        manual.advance((MINUTE * 9).saturating_sub(LOOK));
        assert_eq!(lifetime.fate(&place.0).now_or_never(), None, "neither old nor idle");
        manual.advance(MINUTE * 2 + LOOK);
        assert_eq!(lifetime.fate(&place.0).now_or_never(), Some(ConnectionFate::Retire));
        assert_eq!(lifetime.fate(&place.0).now_or_never(), None);
        manual.advance(CONNECTION_GRACE);
        assert_eq!(lifetime.fate(&place.0).now_or_never(), Some(ConnectionFate::Close));
    }

    #[tokio::test]
    async fn a_connection_without_a_call_retires_once_it_is_idle_for_long() {
        let manual = ManualClock::new(Timestamp::EPOCH);
        let clock: Arc<dyn Clock> = manual.clone();
        let place = Accounts::new(clock.clone(), 1).admit().expect("a place");
        place.0.received(1_000);
        let limits = AgeLimits { age: Duration::ZERO, idle: MINUTE };
        let mut lifetime = Lifetime::new(&clock, limits);
        let call = place.0.call(0).expect("room");
        manual.advance(MINUTE * 2);
        assert_eq!(lifetime.fate(&place.0).now_or_never(), None, "a call runs");
        drop(call);
        manual.advance(MINUTE / 2);
        assert_eq!(lifetime.fate(&place.0).now_or_never(), None, "idle for half a minute");
        manual.advance(MINUTE / 2);
        assert_eq!(lifetime.fate(&place.0).now_or_never(), Some(ConnectionFate::Retire));
    }

    #[tokio::test]
    async fn a_connection_that_gives_up_most_of_its_calls_is_closed() {
        let manual = ManualClock::new(Timestamp::EPOCH);
        let clock: Arc<dyn Clock> = manual.clone();
        let place = Accounts::new(clock.clone(), 1).admit().expect("a place");
        place.0.received(1_000);
        let mut lifetime = Lifetime::new(&clock, AgeLimits::default());
        for most in [MAX_ABANDONED, MAX_ABANDONED + 1] {
            for _ in 0..most {
                place.0.abandoned();
            }
            manual.advance(LOOK);
            let is_closed = lifetime.fate(&place.0).now_or_never() == Some(ConnectionFate::Close);
            assert_eq!(is_closed, most > MAX_ABANDONED);
        }
    }
}
