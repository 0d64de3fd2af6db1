//! What the server says.

use std::time::Duration;

use tonic::Code;

use super::words::Word;
use super::{Held, Mark, Pending, Session};
use crate::proto::google::rpc;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::serve_queue_response::outcome::Call as Kind;
use crate::proto::longhaul::v1::serve_queue_response::{Outcome, Signal, Welcome};
use crate::worker::job::{Cancelled, Start};
use crate::worker::session::Note;

/// The server does not keep to the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent message {found} where {wanted} was due")]
pub(in super::super) struct OutOfSequence {
    wanted: i64,
    found: i64,
}

impl Session {
    /// Takes in a message.
    ///
    /// # Errors
    /// Where it is not the next one: the stream is to be given up.
    pub(in super::super) fn read(
        &mut self,
        response: pb::ServeQueueResponse,
        now: Duration,
    ) -> Result<(), OutOfSequence> {
        let wanted = self.stream.heard + 1;
        if response.sequence != wanted {
            return Err(OutOfSequence { wanted, found: response.sequence });
        }
        self.stream.heard = wanted;
        self.stream.heard_at = now;
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
                held.job.wish(|wishes| wishes.drain = true);
            }
        }
        Ok(())
    }

    fn welcome(&mut self, welcome: Welcome) {
        let interval = welcome.heartbeat_interval.as_ref().and_then(crate::clock::length);
        self.stream.heartbeat = interval.filter(|interval: &Duration| !interval.is_zero());
        for name in welcome.lost {
            let Some(id) = self.by_name.get(&name).copied() else { continue };
            // Whose end was said before may be among them because it counted: the repeat will tell.
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
        let start = Start::new(id, lease);
        let job = start.job.clone();
        let held = Held {
            job: job.clone(),
            pending: Pending::default(),
            mark: Mark::None,
            reports: 0,
            reporting: false,
            next_progress: Duration::ZERO,
            ended: self.draining,
        };
        self.held.insert(id, held);
        if self.draining {
            // It crossed the message that wants no more.
            self.words.push_back(Word::give_back(&job));
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
            held.job.wish(|wishes| {
                wishes.pause = directive.pause_requested;
                wishes.drain |= directive.drain_duration.is_some();
            });
        }
        if directive.cancel_requested {
            self.cancel(id, now);
        }
    }

    /// Tells the handler, and the server that it knows.
    fn cancel(&mut self, id: u64, now: Duration) {
        let Some(held) = self.held.get(&id).filter(|held| !held.ended) else { return };
        if !held.job.stop.is_cancelled() {
            held.job.cancel(Cancelled::Requested);
            self.note(id, Note::CancelAcknowledged, None, now);
        }
    }

    fn outcome(&mut self, outcome: Outcome, now: Duration) {
        let kind = outcome.call();
        let Some(error) = outcome.error else {
            if outcome.discarded {
                tracing::info!(operation = outcome.name, "ended; nobody will see it");
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
        let Some(word) = self.answered(outcome.sequence, kind, &outcome.name) else { return };
        let id = word.id;
        let Some(held) = self.held.get_mut(&id) else { return };
        if !word.is_last() {
            held.reporting = false;
        }
        let job = held.job.clone();
        if is_gone(&error) {
            if word.is_last() {
                tracing::warn!(
                    operation = job.lease.operation,
                    attempt = job.lease.attempt,
                    message = error.message,
                    "the operation had gone on without this worker; what it said at the end does not count"
                );
            }
            self.lose(id);
            return;
        }
        super::refused(&job, &word, &error);
        self.replace(&job, word, error);
        self.mark(id, now);
    }

    /// The call that an outcome is about; it counts as acknowledged.
    fn answered(&mut self, sequence: i64, kind: Kind, name: &str) -> Option<Word> {
        let sent = &mut self.stream.sent;
        let (_, words) = sent.iter_mut().find(|(said, _)| *said == sequence)?;
        let index = words.iter().position(|word| word.is(kind, name))?;
        Some(words.remove(index))
    }

    fn acknowledge(&mut self, sequence: i64, now: Duration) {
        while self.stream.sent.front().is_some_and(|(said, _)| *said <= sequence) {
            let Some((_, words)) = self.stream.sent.pop_front() else { return };
            for word in words {
                let id = word.id;
                if word.is_last() {
                    self.forget(id);
                } else if let Some(held) = self.held.get_mut(&id) {
                    held.reporting = false;
                    self.mark(id, now);
                }
                word.settle(&Ok(()));
            }
        }
    }
}

/// Nothing that the worker says will be heard: it has not this lease, or it ended.
fn is_gone(error: &rpc::Status) -> bool {
    matches!(Code::from_i32(error.code), Code::FailedPrecondition | Code::NotFound)
}
