//! The calls of a stream's messages: handled together, in order, until the store has taken them.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::messages::{CallKind, CallOutcome, StreamCall};
use super::patience::PAUSE;
use super::rooms::StreamRooms;
use crate::engine::commands::apply::{Done, KeyedCommand};
use crate::engine::error::{Error, Reason, Result};
use crate::operation::command::Command;
use crate::operation::lease::Token;
use crate::operation::name::Name;
use crate::store::Key;

/// The calls of one or more messages on their way.
pub(super) type Handling = BoxFuture<'static, Handled>;

/// The outcomes.
pub(super) struct Handled {
    /// All messages up to this one are handled.
    pub(super) sequence: i64,
    /// The outcome for the worker.
    pub(super) outcomes: Vec<CallOutcome>,
    /// Leases that live no more.
    pub(super) ended: Vec<(Key, Token)>,
}

/// A call with the sequence of its message.
pub(super) struct Numbered {
    pub(super) sequence: i64,
    pub(super) call: StreamCall,
}

/// A call that waits for its outcome.
struct PreparedCall {
    sequence: i64,
    kind: CallKind,
    name: Name,
    keyed: KeyedCommand,
}

impl StreamRooms {
    /// Handles all calls up to that message. If the store is in trouble it retries: the caller decides when to give up.
    pub(super) async fn handle(self: Arc<Self>, calls: Vec<Numbered>, sequence: i64) -> Handled {
        let mut handled = Handled { sequence, outcomes: Vec::new(), ended: Vec::new() };
        let mut waiting = Vec::with_capacity(calls.len());
        for Numbered { sequence, call } in calls {
            let StreamCall { kind, name: said, command } = call;
            match command {
                Ok((name, command)) => {
                    let keyed = self.prepare_call(&name, command);
                    waiting.extend(keyed.map(|keyed| PreparedCall { sequence, kind, name, keyed }));
                }
                Err(error) => handled.outcomes.push(refusal(sequence, kind, said, error)),
            }
        }
        while !waiting.is_empty() {
            let commands = waiting.iter().map(|waiting| waiting.keyed.clone()).collect();
            let outcomes = self.commands.apply_all(commands).await;
            let mut again = Vec::new();
            for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
                match outcome {
                    Err(error) if error.reason == Reason::StoreUnavailable => again.push(waiting),
                    outcome => handled.take(waiting, outcome),
                }
            }
            waiting = again;
            if !waiting.is_empty() {
                self.context.sleep(PAUSE).await;
            }
        }
        handled.outcomes.sort_by_key(|outcome| outcome.sequence);
        handled
    }

    /// A command for the store; `None` if progress is held back.
    fn prepare_call(&self, name: &Name, command: Command) -> Option<KeyedCommand> {
        let key = self.context.key(name);
        let command = match command {
            Command::Report(report) => Command::Report(self.reports.hold_back(key, report)?),
            other => other,
        };
        Some(KeyedCommand { key, command })
    }
}

impl Handled {
    fn take(&mut self, waiting: PreparedCall, outcome: Result<Option<Done>>) {
        let PreparedCall { sequence, kind, name, keyed } = waiting;
        let done = match outcome {
            Ok(Some(done)) => done,
            Ok(None) => {
                let error = Error::not_found(&name);
                self.end(&keyed);
                return self.outcomes.push(refusal(sequence, kind, name.to_string(), error));
            }
            Err(error) => {
                if error.reason != Reason::InvalidArgument && error.reason.ends_lease() {
                    self.end(&keyed);
                }
                return self.outcomes.push(refusal(sequence, kind, name.to_string(), error));
            }
        };
        let holds = |token| {
            done.operation()
                .and_then(|operation| operation.state.lease())
                .is_some_and(|lease| lease.token == token)
        };
        if keyed.command.token().is_some_and(|token| !holds(token)) {
            self.end(&keyed);
        }
        let answer = done.answer;
        if answer.discarded || answer.will_retry {
            self.outcomes.push(CallOutcome {
                sequence,
                kind: Some(kind),
                name: name.to_string(),
                error: None,
                discarded: answer.discarded,
                will_retry: answer.will_retry,
                schedule_time: answer.schedule_time,
            });
        }
    }

    fn end(&mut self, keyed: &KeyedCommand) {
        self.ended.extend(keyed.command.token().map(|token| (keyed.key, token)));
    }
}

impl Reason {
    /// Whether a worker that receives this error no longer holds the operation.
    const fn ends_lease(self) -> bool {
        matches!(
            self,
            Self::LeaseLost
                | Self::InvalidState
                | Self::OperationNotFound
                | Self::OperationDeleted
                | Self::OperationExpired
        )
    }
}

fn refusal(sequence: i64, kind: CallKind, name: String, error: Box<Error>) -> CallOutcome {
    CallOutcome {
        sequence,
        kind: Some(kind),
        name,
        error: Some(error),
        discarded: false,
        will_retry: false,
        schedule_time: None,
    }
}
