//! The messages of a worker's stream, as types of the engine.

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::mpsc;

use crate::clock::Timestamp;
use crate::engine::access::LeaseScope;
use crate::engine::error::{Error, Result};
use crate::engine::leases::leased::Leased;
use crate::operation::command::Command;
use crate::operation::lease::Token;
use crate::operation::name::{Name, Queue};
use crate::operation::worker::WorkerProcess;

/// Incoming messages, in order.
pub type Incoming = Pin<Box<dyn Stream<Item = Input> + Send>>;
/// Outgoing messages; an error is the last.
pub type Outgoing = mpsc::Receiver<Result<StreamResponse>>;

/// An event on the incoming side of a stream.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are messages")]
pub enum Input {
    /// A message; an error where it cannot be one.
    Request(Result<StreamRequest>),
    /// The worker closed its side.
    HalfClosed,
    /// The stream is broken.
    Broken,
}

/// One message of the worker.
#[derive(Debug)]
pub struct StreamRequest {
    /// 1, 2, 3 …
    pub sequence: i64,
    /// The newest response that the worker has read.
    pub seen_sequence: i64,
    /// In the first message and only there.
    pub hello: Option<Hello>,
    /// How many leases it wants to hold.
    pub slots: Option<i32>,
    /// Its calls, in order.
    pub calls: Vec<StreamCall>,
}

/// The worker.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The queue to serve.
    pub queue: Queue,
    /// The name that the worker gives itself.
    pub worker: String,
    /// The worker's process, as far as it says.
    pub process: WorkerProcess,
    /// From which parents it gets operations.
    pub scope: LeaseScope,
    /// How long a lease lasts from each message.
    pub duration: Duration,
    /// How long leases outlive a broken stream.
    pub grace: Duration,
    /// Leases held from before: the name as sent, and the parsed claim.
    pub held: Vec<(String, Result<(Name, Token)>)>,
}

/// One call about one operation.
#[derive(Debug)]
pub struct StreamCall {
    /// In which list it was.
    pub kind: CallKind,
    /// The name as sent.
    pub name: String,
    /// The parsed command.
    pub command: Result<(Name, Command)>,
}

/// The lists of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are what they are known by")]
pub enum CallKind {
    Report,
    Completion,
    Failure,
    Release,
    Suspension,
}

/// One message of the server.
#[derive(Debug, Default)]
pub struct StreamResponse {
    /// 1, 2, 3 …
    pub sequence: i64,
    /// In the first message and only there.
    pub welcome: Option<Welcome>,
    /// New work.
    pub leases: Vec<Leased>,
    /// Changes of leases that the worker holds.
    pub signals: Vec<Signal>,
    /// All requests up to this one are handled.
    pub acknowledged_sequence: i64,
    /// News of calls.
    pub outcomes: Vec<CallOutcome>,
    /// The server is draining: held operations may take this much longer.
    pub drain_duration: Option<Duration>,
}

/// The answer to Hello.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// The heartbeat interval of both sides.
    pub heartbeat_interval: Duration,
    /// Leases in Hello that the worker does not hold.
    pub lost: Vec<String>,
}

/// A request about an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its name.
    pub name: Name,
    /// The worker is to stop.
    pub cancel_requested: bool,
    /// The worker is to suspend it.
    pub pause_requested: bool,
}

/// The outcome of a call, or of a lease without a call.
#[derive(Debug)]
pub struct CallOutcome {
    /// Of the request; 0: there was no call.
    pub sequence: i64,
    /// Which list.
    pub kind: Option<CallKind>,
    /// The name as sent.
    pub name: String,
    /// Why it was refused.
    pub error: Option<Box<Error>>,
    /// The operation had been deleted.
    pub discarded: bool,
    /// Another attempt follows.
    pub will_retry: bool,
    /// When it may begin.
    pub schedule_time: Option<Timestamp>,
}
