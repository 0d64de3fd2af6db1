//! Waiting with a bound.

use std::time::Duration;

use longhaul::clock::{Clock, SystemClock};
use tonic::{Code, Status};

/// The most time that a test waits for anything.
pub(super) const LONG: Duration = Duration::from_secs(40);
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits for `future`.
pub(super) async fn within<T>(bound: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(bound, Box::pin(future)).await;
    outcome.unwrap_or_else(|_| panic!("waited {bound:?} in vain for {what}"))
}

/// Waits for `future`, generously.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    within(LONG, what, future).await
}

/// Polls until there is a value.
pub(super) async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let clock = SystemClock::new();
    let seen = async {
        loop {
            if let Some(seen) = Box::pin(look()).await {
                return seen;
            }
            clock.sleep(INTERVAL).await;
        }
    };
    soon(what, seen).await
}

/// Calls again while the answer is UNAVAILABLE, as a client should; any other refusal is a failure.
pub(super) async fn retried<T, F>(what: &str, mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, Status>>,
{
    let asked = || {
        let reply = Box::pin(call());
        async {
            match reply.await {
                Ok(reply) => Some(reply),
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{what}: {status:?}");
                    None
                }
            }
        }
    };
    eventually(what, asked).await
}
