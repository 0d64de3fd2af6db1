//! What the two sides of a worker's stream say, in the engine's terms.

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::mpsc;

use crate::clock::Timestamp;
use crate::engine::error::{Error, Result};
use crate::engine::leases::leased::Leased;
use crate::operation::command::Command;
use crate::operation::lease::Token;
use crate::operation::name::{Name, Queue};

/// What arrives, in order.
pub type Incoming = Pin<Box<dyn Stream<Item = Input> + Send>>;
/// What is sent; an error is the last.
pub type Outgoing = mpsc::Receiver<Result<Response>>;

/// What arrives on a stream.
#[derive(Debug)]
pub enum Input {
    /// A message; an error where it cannot be one.
    Request(Result<Request>),
    /// The worker closed its side.
    HalfClosed,
    /// The stream is broken.
    Broken,
}

/// Whatever the worker has to say, in one.
#[derive(Debug)]
pub struct Request {
    /// 1, 2, 3 …
    pub sequence: i64,
    /// The newest response that the worker has read.
    pub seen_sequence: i64,
    /// In the first message and only there.
    pub hello: Option<Hello>,
    /// How many leases it wants to hold.
    pub slots: Option<i32>,
    /// What it says of what it holds, in order.
    pub calls: Vec<Call>,
}

/// Who the worker is.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The queue to serve.
    pub queue: Queue,
    /// What the worker calls itself.
    pub worker: String,
    /// How long a lease lasts from each message.
    pub duration: Duration,
    /// How long leases outlive a broken stream.
    pub grace: Duration,
    /// What it holds from before: the name as it was said, and what was made of it.
    pub held: Vec<(String, Result<(Name, Token)>)>,
}

/// One call about one operation.
#[derive(Debug)]
pub struct Call {
    /// In which list it was.
    pub kind: CallKind,
    /// The name as it was said.
    pub name: String,
    /// What was made of it.
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

/// Whatever the server has to say, in one.
#[derive(Debug, Default)]
pub struct Response {
    /// 1, 2, 3 …
    pub sequence: i64,
    /// In the first message and only there.
    pub welcome: Option<Welcome>,
    /// New work.
    pub leases: Vec<Leased>,
    /// News of what the worker holds.
    pub signals: Vec<Signal>,
    /// All requests up to this one are handled.
    pub acknowledged_sequence: i64,
    /// News of calls.
    pub outcomes: Vec<CallOutcome>,
    /// The server goes away: so long may what is held still take.
    pub drain_duration: Option<Duration>,
}

/// The answer to Hello.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// How often either side says something.
    pub heartbeat_interval: Duration,
    /// What Hello named and the worker does not hold.
    pub lost: Vec<String>,
}

/// What is asked about an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its name.
    pub name: Name,
    /// Its worker shall stop.
    pub cancel_requested: bool,
    /// Its worker shall park it.
    pub pause_requested: bool,
}

/// What became of a call, or of a lease without one.
#[derive(Debug)]
pub struct CallOutcome {
    /// Of the request; 0: there was no call.
    pub sequence: i64,
    /// Which list.
    pub kind: Option<CallKind>,
    /// The name as it was said.
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
