//! Messages of the server.

use std::time::Duration;

use tonic::Code;

use super::calls::PendingCall;
use super::{HeldJob, Schedule, Session, UnsentReport};
use crate::proto::google::rpc;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::serve_queue_response::outcome::Call as Kind;
use crate::proto::longhaul::v1::serve_queue_response::{Outcome, Signal, Welcome};
use crate::worker::job::{Cancelled, NewJob};
use crate::worker::session::Update;

/// A message with the wrong sequence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent message {found} instead of {wanted}")]
pub(in super::super) struct OutOfSequence {
    wanted: i64,
    found: i64,
}

impl Session {
    /// Handles a message.
    ///
    /// # Errors
    /// If it is not the next one; the stream must be closed.
    pub(in super::super) fn read(
        &mut self,
        response: pb::ServeQueueResponse,
        now: Duration,
    ) -> Result<(), OutOfSequence> {
        let wanted = self.stream.received + 1;
        if response.sequence != wanted {
            return Err(OutOfSequence { wanted, found: response.sequence });
        }
        self.stream.received = wanted;
        self.stream.received_at = now;
        if let Some(welcome) = response.welcome {
            self.welcome(welcome);
        }
        for outcome in response.outcomes {
            self.outcome(outcome, now);
        }
        self.acknowledge(response.acknowledged_sequence, now);
        for lease in response.leases {
            self.take(lease, now);
        }
        for signal in response.signals {
            self.signal(&signal, now);
        }
        if response.drain_duration.is_some() {
            self.stream.draining = true;
            for held in self.held.values() {
                held.job.direct(|directives| directives.drain = true);
            }
        }
        Ok(())
    }

    fn welcome(&mut self, welcome: Welcome) {
        let interval = welcome.heartbeat_interval.as_ref().and_then(crate::clock::length);
        self.stream.heartbeat = interval.filter(|interval: &Duration| !interval.is_zero());
        for name in welcome.lost {
            let Some(id) = self.by_name.get(&name).copied() else { continue };
            // An ended job may be listed because its end was committed; the repeated call will tell.
            if self.held.get(&id).is_some_and(|held| !held.ended) {
                self.lose(id);
            }
        }
    }

    fn take(&mut self, lease: pb::Lease, now: Duration) {
        self.last_id += 1;
        let (id, name) = (self.last_id, lease.operation.clone());
        if let Some(before) = self.by_name.insert(name, id) {
            self.lose(before);
        }
        let cancelled = lease.cancel_requested;
        let start = NewJob::new(id, lease);
        let job = start.job.clone();
        let held = HeldJob {
            job: job.clone(),
            unsent: UnsentReport::default(),
            schedule: Schedule::None,
            reports: 0,
            reporting: false,
            next_progress: Duration::ZERO,
            ended: self.draining,
        };
        self.held.insert(id, held);
        if self.draining {
            // The lease was sent before the server knew that we are draining.
            self.calls.push_back(PendingCall::release(&job));
            return;
        }
        self.stream.unseen.push(start);
        if cancelled {
            self.cancel(id, now);
        }
    }

    fn signal(&mut self, signal: &Signal, now: Duration) {
        let Some(id) = self.by_name.get(&signal.name).copied() else { return };
        let directive = signal.directive.unwrap_or_default();
        if let Some(held) = self.held.get(&id) {
            held.job.direct(|directives| {
                directives.pause = directive.pause_requested;
                directives.drain |= directive.drain_duration.is_some();
            });
        }
        if directive.cancel_requested {
            self.cancel(id, now);
        }
    }

    /// Tells the handler, and acknowledges the request to the server.
    fn cancel(&mut self, id: u64, now: Duration) {
        let Some(held) = self.held.get(&id).filter(|held| !held.ended) else { return };
        if !held.job.stop.is_cancelled() {
            held.job.cancel(Cancelled::Requested);
            self.update(id, Update::CancelAcknowledged, None, now);
        }
    }

    fn outcome(&mut self, outcome: Outcome, now: Duration) {
        let kind = outcome.call();
        let Some(error) = outcome.error else {
            if outcome.discarded {
                tracing::info!(
                    operation = outcome.name,
                    "ended, but the operation had been deleted: the result is discarded"
                );
            }
            return;
        };
        if outcome.sequence == 0 || kind == Kind::Unspecified {
            if let Some(id) = self.by_name.get(&outcome.name).copied()
                && self.held.get(&id).is_some_and(|held| !held.ended)
            {
                self.lose(id);
            }
            return;
        }
        let Some(call) = self.answered(outcome.sequence, kind, &outcome.name) else { return };
        let id = call.id;
        let Some(held) = self.held.get_mut(&id) else { return };
        if !call.is_final() {
            held.reporting = false;
        }
        let job = held.job.clone();
        if is_gone(&error) {
            if call.is_final() {
                tracing::warn!(
                    operation = job.lease.operation,
                    attempt = job.lease.attempt,
                    message = error.message,
                    "this worker no longer held the operation, so its result was discarded"
                );
            }
            self.lose(id);
            return;
        }
        super::refused(&job, &call, &error);
        self.replace(&job, call, error);
        self.schedule_report(id, now);
    }

    /// Takes the call that an outcome is about, which is thereby acknowledged.
    fn answered(&mut self, sequence: i64, kind: Kind, name: &str) -> Option<PendingCall> {
        let sent = &mut self.stream.sent;
        let (_, calls) = sent.iter_mut().find(|(sent, _)| *sent == sequence)?;
        let index = calls.iter().position(|call| call.is(kind, name))?;
        Some(calls.remove(index))
    }

    fn acknowledge(&mut self, sequence: i64, now: Duration) {
        while self.stream.sent.front().is_some_and(|(sent, _)| *sent <= sequence) {
            let Some((_, calls)) = self.stream.sent.pop_front() else { return };
            for call in calls {
                let id = call.id;
                if call.is_final() {
                    self.forget(id);
                } else if let Some(held) = self.held.get_mut(&id) {
                    held.reporting = false;
                    self.schedule_report(id, now);
                }
                call.resolve(&Ok(()));
            }
        }
    }
}

/// The server accepts no further calls: the worker does not hold this lease, or the operation ended.
fn is_gone(error: &rpc::Status) -> bool {
    matches!(Code::from_i32(error.code), Code::FailedPrecondition | Code::NotFound)
}
