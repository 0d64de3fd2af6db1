//! What to measure, and how.

use std::time::Duration;

use clap::ValueEnum;

use super::receiver::ReceiverTls;
use crate::client::ServerTarget;

/// What to measure, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub server: ServerTarget,
    /// How long each measurement counts; fan-out and latencies end by number.
    pub duration: Duration,
    /// What to measure.
    pub scenarios: Vec<Scenario>,
    /// Processes whose CPU time is measured.
    pub pids: Vec<u32>,
    /// Connections of callers and producers.
    pub connections: usize,
    /// Calls in flight at the same time.
    pub in_flight: usize,
    /// Leases that workers hold at the same time.
    pub workers: usize,
    /// Watchers of one operation, and streams of sets.
    pub watchers: usize,
    /// Jobs with schedules.
    pub jobs: usize,
    /// Callbacks of an operation, each to a receiver of its own.
    pub callbacks: usize,
    /// TLS of the receivers of callbacks.
    pub receiver_tls: Option<ReceiverTls>,
    /// Threads of the client.
    pub threads: usize,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// GetOperation.
    Gets,
    /// StartOperation.
    Starts,
    /// The same, of callers that are refused when the server has too many, and try again when it says.
    Overload,
    /// Start, lease, one report, complete, read the result.
    Cycles,
    /// The same, where all operations have one concurrency key with a limit of 100.
    KeyCycles,
    /// The same with 64 keys.
    KeysCycles,
    /// Behind 100,000 operations of one parent, another parent starts one, 20 times: how soon a worker has it.
    Newcomer,
    /// Start, wait for the result, next.
    RoundTrips,
    /// The same with workers on streams, without reading the result.
    StreamCycles,
    /// The same, 32 starts in one call.
    StreamBatches,
    /// Start, wait for the result, next, with workers on streams.
    StreamRoundTrips,
    /// One operation at a time: how soon a worker has it, and a waiter its result.
    Latency,
    /// The same with the worker on a stream.
    StreamLatency,
    /// One operation with many watchers.
    FanOut,
    /// GET of a status over HTTP/1.1, a connection for each call in flight.
    HttpGets,
    /// The same with `If-None-Match`: 304.
    HttpGetsUnchanged,
    /// GET of a status over HTTP/2.
    Http2Gets,
    /// The same with `If-None-Match`: 304.
    Http2GetsUnchanged,
    /// Starts by POST over HTTP/1.1.
    HttpStarts,
    /// The same over HTTP/2.
    Http2Starts,
    /// Idle watchers of server-sent events, a connection each: the memory that each takes.
    HttpWatchers,
    /// The same over HTTP/2.
    Http2Watchers,
    /// Start, lease, complete, and callbacks to receivers of this process: callbacks per second. The server must allow
    /// http and loopback, as `longhaul dev` does.
    Callbacks,
    /// The same over TLS, with --receiver-cert.
    CallbacksTls,
    /// The same cycles with callbacks to a receiver that never answers: how long starts take beside it.
    CallbacksHung,
    /// The same cycles without callbacks, to compare with.
    CallbacksNone,
    /// Streams of sets over ten parents, with 1,000 changes a second.
    WatchSets,
    /// The same with a tenth of the streams over one parent.
    WatchOneSet,
    /// Jobs with schedules: what they cost while none is due, and how late they fire.
    Jobs,
}

impl Scenario {
    /// Those of gRPC, in the order in which they run.
    pub const GRPC: [Self; 10] = [
        Self::Gets,
        Self::Starts,
        Self::Cycles,
        Self::StreamCycles,
        Self::StreamBatches,
        Self::RoundTrips,
        Self::StreamRoundTrips,
        Self::Latency,
        Self::StreamLatency,
        Self::FanOut,
    ];
}
