//! Keeps a stream to the server: reads it, watches the time, and begins anew where it broke.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::connection::Connection;
use super::desk::Desk;
use super::session::Session;
use crate::limits::RECONNECT_PAUSE;
use crate::proto::longhaul::v1::ServeQueueResponse;

/// Why a worker ended before it was asked to, or before it could say all it had to say.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The server will not have this worker; asking again is of no use.
    #[error("the server refuses this worker ({:?}): {}", .0.code(), .0.message())]
    Refused(Box<Status>),
    /// The server was away until the leases were lost; these many operations will be done again.
    #[error("the server did not acknowledge the ends of {0} operations in time")]
    Unacknowledged(usize),
}

/// How a stream ended.
enum Ended {
    /// As the worker wished: nothing is left.
    Closed,
    /// It is to be begun anew.
    Broken(Status),
}

/// What keeps the stream.
pub(super) struct Keeper {
    pub(super) desk: Arc<Desk>,
    pub(super) connection: Connection,
    pub(super) queue: String,
    /// Silence of the server beyond this means that nobody is there.
    pub(super) lease: Duration,
    /// How long handlers may go on after the worker was asked to stop; as long as they like where unset.
    pub(super) drain: Option<Duration>,
}

impl Keeper {
    /// Serves until `stop`, then finishes.
    pub(super) async fn run(self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let ended = tokio::select! {
            ended = self.keep() => ended,
            error = self.finish(stop) => Err(error),
        };
        self.desk.end_handlers().await;
        ended
    }

    /// Serves until it is refused or closed.
    async fn keep(&self) -> Result<(), RunError> {
        let (mut pause, mut served_at) = (Duration::ZERO, self.desk.clock.elapsed());
        let mut waiting = false;
        loop {
            let (mut served, began) = (false, self.desk.clock.elapsed());
            let status = match self.serve(&mut served).await {
                Ended::Closed => return Ok(()),
                Ended::Broken(status) => status,
            };
            let now = self.desk.clock.elapsed();
            if served {
                served_at = now;
                waiting = false;
            }
            served &= now >= began + SERVED;
            let holds = self.desk.with(|session, _| {
                session.cut();
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
            let close = self.desk.closing.clone();
            if close.is_cancelled() {
                self.desk.clock.sleep(rest).await;
            } else {
                tokio::select! { () = self.desk.clock.sleep(rest) => {}, () = close.cancelled() => {} }
            }
        }
    }

    /// One stream, to its end.
    async fn serve(&self, served: &mut bool) -> Ended {
        let clock = &self.desk.clock;
        let holds = self.desk.with(|session, _| session.holds());
        let patience = if holds { self.lease.min(ATTEMPT) } else { self.lease };
        let opened = tokio::select! {
            opened = self.connection.open(self.desk.open()) => opened,
            () = clock.sleep(patience) => Err(Status::unavailable("the server does not answer")),
            () = self.nothing_left() => return Ended::Closed,
        };
        let mut incoming = match opened {
            Ok(incoming) => incoming,
            Err(status) => return Ended::Broken(status),
        };
        let due =
            || self.desk.with(|session, now| (session.due(), session.due().saturating_sub(now)));
        let (mut alarm, rest) = due();
        let mut sleep = clock.sleep(rest);
        loop {
            tokio::select! {
                message = incoming.message() => {
                    if let Some(ended) = self.read(message, served) {
                        return ended;
                    }
                }
                () = self.desk.rearm.notified() => {
                    let (sooner, rest) = due();
                    if sooner < alarm {
                        (alarm, sleep) = (sooner, clock.sleep(rest));
                    }
                }
                () = &mut sleep => {
                    if !self.desk.with(Session::tick) {
                        return Ended::Broken(Status::unavailable("the server has fallen silent"));
                    }
                    let (next, rest) = due();
                    (alarm, sleep) = (next, clock.sleep(rest));
                }
            }
        }
    }

    /// Resolves once the worker closes, with nothing to say any more.
    async fn nothing_left(&self) {
        self.desk.closing.cancelled().await;
        self.desk.idle().await;
    }

    /// Takes in what was read; how the stream ended where it did.
    fn read(
        &self,
        message: Result<Option<ServeQueueResponse>, Status>,
        served: &mut bool,
    ) -> Option<Ended> {
        match message {
            Ok(Some(response)) => {
                if response.welcome.is_some() {
                    *served = true;
                    tracing::info!(queue = self.queue, "serving");
                }
                let drain = response.drain_duration.is_some();
                if drain {
                    *served = false;
                    tracing::info!(queue = self.queue, "the server goes away");
                }
                let read = self.desk.with(|session, now| session.read(response, now));
                read.err().map(|error| Ended::Broken(Status::aborted(error.to_string())))
            }
            Ok(None) if self.desk.with(|session, _| session.is_closed()) => Some(Ended::Closed),
            Ok(None) => Some(Ended::Broken(Status::unavailable("the server closed the stream"))),
            Err(status) => Some(Ended::Broken(status)),
        }
    }

    /// Waits to be asked, and sees to an orderly end; resolves only where there is none.
    async fn finish(&self, stop: impl Future<Output = ()>) -> RunError {
        stop.await;
        let (desk, clock) = (&self.desk, &self.desk.clock);
        tracing::info!(queue = self.queue, "stopping: no more work is taken");
        desk.with(|session, _| session.drain());
        match self.drain {
            None => desk.idle().await,
            Some(patience) => tokio::select! {
                () = desk.idle() => {}
                () = clock.sleep(patience) => {
                    tracing::warn!(queue = self.queue, "giving back what has not finished");
                    desk.abort.cancel();
                    // A handler that never awaits anything cannot be cut; the server takes its operation back.
                    tokio::select! { () = desk.idle() => {}, () = clock.sleep(CUT) => {} }
                }
            },
        }
        desk.with(|session, _| session.close());
        desk.closing.cancel();
        clock.sleep(self.lease).await;
        RunError::Unacknowledged(desk.with(|session, _| session.unacknowledged()))
    }
}

/// Whether asking again is of no use. What a proxy answers by itself passes: it says nothing of the server behind it.
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

/// While leases are held the server may have just come back, and then waits a certain time for this worker.
const fn longest_pause(holds: bool, lives: bool) -> Duration {
    match (holds, lives) {
        (true, true) => LONGEST_WHILE_HELD,
        (true, false) => RECONNECT_PAUSE,
        (false, _) => LONGEST_PAUSE,
    }
}

/// At once at first, since leases outlive the stream by seconds only.
fn next_pause(pause: Duration) -> Duration {
    if pause.is_zero() { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) }
}

/// So that a thousand workers do not come back in the same moment.
fn jittered(pause: Duration) -> Duration {
    let share = (RandomState::new().hash_one(0) % 1_000) as u32;
    pause * 4 / 5 + (pause * 2 / 5 + JITTER) * share / 1_000
}

/// How tonic begins the message of an answer that is HTTP and no gRPC.
const MAPPED_FROM_HTTP: &str = "grpc-status header missing";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Leases outlive a stream by 3 s unless somebody asked for more.
const LONGEST_WHILE_HELD: Duration = Duration::from_millis(500);
const JITTER: Duration = Duration::from_millis(30);
/// How long an attempt to reach the server may take while leases are held.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A stream that lived so long was a good one.
const SERVED: Duration = Duration::from_secs(1);
/// How long handlers take to be cut.
const CUT: Duration = Duration::from_secs(1);

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
            // It may have begun just before the server came back.
            let longest = ATTEMPT + pause * 6 / 5 + JITTER;
            assert!(longest + Duration::from_secs(1) <= MIN_RETURN_GRACE, "{longest:?}");
        }
    }
}
