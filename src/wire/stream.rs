//! Conversions for the messages of `ServeQueue`.

use super::fields::{duration, name, text, token};
use super::status::to_message;
use super::work;
use crate::engine::workers::stream::{
    CallKind, CallOutcome, Hello, StreamCall, StreamRequest, StreamResponse,
};
use crate::engine::{Error, LeaseScope, Result};
use crate::limits::{DEFAULT_LEASE, DEFAULT_RECONNECT_GRACE, MAX_HELD, MAX_LABEL_NAME_BYTES};
use crate::operation::command::Command;
use crate::operation::name::{Name, Queue};
use crate::proto::longhaul::v1 as pb;

/// Reads a message of a worker. An error in one of its calls is an error of that call alone.
pub fn request(message: pb::ServeQueueRequest) -> Result<StreamRequest> {
    let mut calls = Vec::new();
    calls.extend(
        message.reports.into_iter().map(|said| {
            call(CallKind::Report, said.name.clone(), work::report(said).map(for_stream))
        }),
    );
    calls.extend(
        message
            .completions
            .into_iter()
            .map(|said| call(CallKind::Completion, said.name.clone(), work::complete(said))),
    );
    calls.extend(
        message
            .failures
            .into_iter()
            .map(|said| call(CallKind::Failure, said.name.clone(), work::fail(said))),
    );
    calls.extend(
        message
            .releases
            .into_iter()
            .map(|said| call(CallKind::Release, said.name.clone(), work::release(said))),
    );
    calls.extend(
        message
            .suspensions
            .into_iter()
            .map(|said| call(CallKind::Suspension, said.name.clone(), work::suspend(said))),
    );
    Ok(StreamRequest {
        sequence: message.sequence,
        seen_sequence: message.seen_sequence,
        hello: message.hello.map(hello).transpose()?,
        slots: message.slots,
        calls,
    })
}

const fn call(kind: CallKind, name: String, command: Result<(Name, Command)>) -> StreamCall {
    StreamCall { kind, name, command }
}

/// The duration of the leases was named in Hello, and holds for the whole stream.
fn for_stream((name, mut command): (Name, Command)) -> (Name, Command) {
    if let Command::Report(report) = &mut command {
        report.renew.duration = None;
    }
    (name, command)
}

fn hello(hello: pb::serve_queue_request::Hello) -> Result<Hello> {
    if hello.held.len() > MAX_HELD {
        let message =
            format!("hello.held has {} items, at most {MAX_HELD} are allowed", hello.held.len());
        return Err(Error::field("hello.held", message).with("limit", MAX_HELD));
    }
    let lease = work::lease_duration("hello.lease_duration", hello.lease_duration)?
        .unwrap_or(DEFAULT_LEASE);
    let grace = duration("hello.reconnect_grace", hello.reconnect_grace)?;
    let held = hello.held.into_iter().map(|held| {
        let read = name(&held.name).and_then(|name| Ok((name, token(&held.lease_token)?)));
        (held.name, read)
    });
    Ok(Hello {
        queue: Queue::parse(&hello.queue)
            .map_err(|error| Error::field("hello.queue", error.to_string()))?,
        worker: text("hello.worker", hello.worker, MAX_LABEL_NAME_BYTES)?,
        process: work::process("hello.process", hello.process)?,
        scope: LeaseScope::default(),
        duration: lease,
        grace: grace.unwrap_or(DEFAULT_RECONNECT_GRACE).min(lease),
        held: held.collect(),
    })
}

/// A message for a worker.
pub fn response(response: StreamResponse) -> pb::ServeQueueResponse {
    use pb::serve_queue_response as reply;
    let span = |span| prost_types::Duration::try_from(span).ok();
    pb::ServeQueueResponse {
        sequence: response.sequence,
        welcome: response.welcome.map(|welcome| reply::Welcome {
            heartbeat_interval: span(welcome.heartbeat_interval),
            lost: welcome.lost,
        }),
        leases: response.leases.into_iter().map(work::lease_message).collect(),
        signals: response
            .signals
            .into_iter()
            .map(|signal| reply::Signal {
                name: signal.name.to_string(),
                directive: Some(pb::Directive {
                    cancel_requested: signal.cancel_requested,
                    pause_requested: signal.pause_requested,
                    drain_duration: None,
                }),
            })
            .collect(),
        acknowledged_sequence: response.acknowledged_sequence,
        outcomes: response.outcomes.into_iter().map(outcome).collect(),
        drain_duration: response.drain_duration.and_then(span),
    }
}

fn outcome(outcome: CallOutcome) -> pb::serve_queue_response::Outcome {
    use pb::serve_queue_response::outcome::Call;
    let call = match outcome.kind {
        None => Call::Unspecified,
        Some(CallKind::Report) => Call::Report,
        Some(CallKind::Completion) => Call::Completion,
        Some(CallKind::Failure) => Call::Failure,
        Some(CallKind::Release) => Call::Release,
        Some(CallKind::Suspension) => Call::Suspension,
    };
    pb::serve_queue_response::Outcome {
        sequence: outcome.sequence,
        call: call.into(),
        name: outcome.name,
        error: outcome.error.map(|error| to_message(&error)),
        discarded: outcome.discarded,
        will_retry: outcome.will_retry,
        schedule_time: outcome.schedule_time.map(Into::into),
    }
}
