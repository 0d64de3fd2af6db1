//! Keeps a stream to the server open: reads it, keeps its timers, and reconnects when it breaks.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::connection::Connection;
use super::session::Session;
use super::shared::SharedSession;
use crate::limits::RECONNECT_PAUSE;
use crate::proto::longhaul::v1::ServeQueueResponse;

/// Why a worker ended early, or without the server having acknowledged all results.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The server refuses this worker; a retry would not help.
    #[error("the server refuses this worker ({:?}): {}", .0.code(), .0.message())]
    Refused(Box<Status>),
    /// The server was unreachable until the leases were lost; this many operations will run again.
    #[error("the server did not acknowledge the ends of {0} operations in time")]
    Unacknowledged(usize),
}

/// How a stream ended.
enum StreamEnd {
    /// The worker closed it, and everything is acknowledged.
    Closed,
    /// It broke; reconnect.
    Broken(Status),
}

/// Opens one stream after the other.
pub(super) struct StreamRunner {
    pub(super) shared: Arc<SharedSession>,
    pub(super) connection: Connection,
    pub(super) queue: String,
    /// The duration of a lease; a server that sends nothing for this long is given up.
    pub(super) lease: Duration,
    /// How long handlers may run on after the worker was asked to stop; without a limit if unset.
    pub(super) drain: Option<Duration>,
}

impl StreamRunner {
    /// Serves until `stop`, then drains.
    pub(super) async fn run(self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let ended = tokio::select! {
            ended = self.keep() => ended,
            error = self.finish(stop) => Err(error),
        };
        self.shared.end_handlers().await;
        ended
    }

    /// Opens streams until the server refuses the worker or the worker closes the stream.
    async fn keep(&self) -> Result<(), RunError> {
        let (mut pause, mut served_at) = (Duration::ZERO, self.shared.clock.elapsed());
        let mut waiting = false;
        loop {
            let (mut served, began) = (false, self.shared.clock.elapsed());
            let status = match self.serve(&mut served).await {
                StreamEnd::Closed => return Ok(()),
                StreamEnd::Broken(status) => status,
            };
            let now = self.shared.clock.elapsed();
            if served {
                served_at = now;
                waiting = false;
            }
            served &= now >= began + SERVED;
            let holds = self.shared.with(|session, _| {
                session.disconnect();
                session.holds()
            });
            if is_final(&status) {
                return Err(RunError::Refused(Box::new(status)));
            }
            pause = if served { Duration::ZERO } else { next_pause(pause) };
            let longest = longest_pause(holds, now < served_at + self.lease);
            let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
            let rest = jittered(pause.max(asked.unwrap_or_default()).min(longest));
            if std::mem::replace(&mut waiting, true) {
                tracing::debug!(code = ?status.code(), error = status.message(), again_in = ?rest, "still waiting");
            } else {
                tracing::warn!(
                    queue = self.queue,
                    code = ?status.code(),
                    error = status.message(),
                    "waiting for {}",
                    self.connection.server()
                );
            }
            let close = self.shared.closing.clone();
            if close.is_cancelled() {
                self.shared.clock.sleep(rest).await;
            } else {
                tokio::select! { () = self.shared.clock.sleep(rest) => {}, () = close.cancelled() => {} }
            }
        }
    }

    /// Serves one stream to its end.
    async fn serve(&self, served: &mut bool) -> StreamEnd {
        let clock = &self.shared.clock;
        let holds = self.shared.with(|session, _| session.holds());
        let patience = if holds { self.lease.min(ATTEMPT) } else { self.lease };
        let opened = tokio::select! {
            opened = self.connection.open(self.shared.open()) => opened,
            () = clock.sleep(patience) => Err(Status::unavailable("the server does not answer")),
            () = self.nothing_left() => return StreamEnd::Closed,
        };
        let mut incoming = match opened {
            Ok(incoming) => incoming,
            Err(status) => return StreamEnd::Broken(status),
        };
        let due =
            || self.shared.with(|session, now| (session.due(), session.due().saturating_sub(now)));
        let (mut alarm, rest) = due();
        let mut sleep = clock.sleep(rest);
        loop {
            tokio::select! {
                message = incoming.message() => {
                    if let Some(ended) = self.read(message, served) {
                        return ended;
                    }
                }
                () = self.shared.rearm.notified() => {
                    let (sooner, rest) = due();
                    if sooner < alarm {
                        (alarm, sleep) = (sooner, clock.sleep(rest));
                    }
                }
                () = &mut sleep => {
                    if !self.shared.with(Session::tick) {
                        return StreamEnd::Broken(Status::unavailable("the server is silent"));
                    }
                    let (next, rest) = due();
                    (alarm, sleep) = (next, clock.sleep(rest));
                }
            }
        }
    }

    /// Resolves once the worker is closing and everything is acknowledged.
    async fn nothing_left(&self) {
        self.shared.closing.cancelled().await;
        self.shared.idle().await;
    }

    /// Handles a message. Returns how the stream ended, if it did.
    fn read(
        &self,
        message: Result<Option<ServeQueueResponse>, Status>,
        served: &mut bool,
    ) -> Option<StreamEnd> {
        match message {
            Ok(Some(response)) => {
                if response.welcome.is_some() {
                    *served = true;
                    tracing::info!(queue = self.queue, "serving");
                }
                let drain = response.drain_duration.is_some();
                if drain {
                    *served = false;
                    tracing::info!(
                        queue = self.queue,
                        "asked to finish: the server is shutting down, or an operator has drained this worker"
                    );
                }
                let read = self.shared.with(|session, now| session.read(response, now));
                read.err().map(|error| StreamEnd::Broken(Status::aborted(error.to_string())))
            }
            Ok(None) if self.shared.with(|session, _| session.is_closed()) => {
                Some(StreamEnd::Closed)
            }
            Ok(None) => {
                Some(StreamEnd::Broken(Status::unavailable("the server closed the stream")))
            }
            Err(status) => Some(StreamEnd::Broken(status)),
        }
    }

    /// Waits for `stop`, then drains. Resolves only if the server does not acknowledge everything in time.
    async fn finish(&self, stop: impl Future<Output = ()>) -> RunError {
        stop.await;
        let (shared, clock) = (&self.shared, &self.shared.clock);
        tracing::info!(queue = self.queue, "stopping: leasing no more operations");
        shared.with(|session, _| session.drain());
        match self.drain {
            None => shared.idle().await,
            Some(patience) => tokio::select! {
                () = shared.idle() => {}
                () = clock.sleep(patience) => {
                    tracing::warn!(queue = self.queue, "releasing operations that have not finished");
                    shared.abort.cancel();
                    // A handler that never awaits cannot be aborted; its lease expires.
                    tokio::select! { () = shared.idle() => {}, () = clock.sleep(ABORT) => {} }
                }
            },
        }
        shared.with(|session, _| session.close());
        shared.closing.cancel();
        clock.sleep(self.lease).await;
        RunError::Unacknowledged(shared.with(|session, _| session.unacknowledged()))
    }
}

/// Whether a retry would not help. A proxy's own error is retried: the server behind it may be well.
fn is_final(status: &Status) -> bool {
    let from_a_proxy = status.message().starts_with(MAPPED_FROM_HTTP);
    let refused = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
    );
    refused && !from_a_proxy
}

/// While leases are held pauses are short: a server that has restarted waits only so long for its workers.
const fn longest_pause(holds: bool, lives: bool) -> Duration {
    match (holds, lives) {
        (true, true) => LONGEST_WHILE_HELD,
        (true, false) => RECONNECT_PAUSE,
        (false, _) => LONGEST_PAUSE,
    }
}

/// The first reconnect is immediate, since leases outlive the stream by seconds only.
fn next_pause(pause: Duration) -> Duration {
    if pause.is_zero() { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) }
}

/// Spreads the reconnects of many workers.
fn jittered(pause: Duration) -> Duration {
    let share = (RandomState::new().hash_one(0) % 1_000) as u32;
    pause * 4 / 5 + (pause * 2 / 5 + JITTER) * share / 1_000
}

/// How tonic's message for an HTTP response that is not gRPC begins.
const MAPPED_FROM_HTTP: &str = "grpc-status header missing";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// By default leases outlive a stream by 3 s.
const LONGEST_WHILE_HELD: Duration = Duration::from_millis(500);
const JITTER: Duration = Duration::from_millis(30);
/// How long an attempt to reach the server may take while leases are held.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A stream that lasted this long resets the pause.
const SERVED: Duration = Duration::from_secs(1);
/// How long to wait for aborted handlers.
const ABORT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MIN_RETURN_GRACE;

    #[test]
    fn pauses_grow_and_stay_bounded_and_spread() {
        let mut pause = Duration::ZERO;
        for _ in 0..20 {
            pause = next_pause(pause);
            let spread = jittered(pause);
            assert!(spread >= pause * 4 / 5 && spread <= pause * 6 / 5 + JITTER, "{spread:?}");
        }
        assert_eq!(pause, LONGEST_PAUSE);
    }

    #[test]
    fn a_worker_that_holds_leases_tries_again_within_what_the_server_grants() {
        for lives in [true, false] {
            let pause = longest_pause(true, lives);
            assert!(pause <= RECONNECT_PAUSE);
            // The attempt may have begun just before the server came back.
            let longest = ATTEMPT + pause * 6 / 5 + JITTER;
            assert!(longest + Duration::from_secs(1) <= MIN_RETURN_GRACE, "{longest:?}");
        }
    }
}
