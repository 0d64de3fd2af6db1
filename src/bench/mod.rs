//! Measures a running server from outside, as its clients see it.
//!
//! Starts no server. Knows only the protocol: generated clients on several connections, spread over a few threads with a
//! runtime each, since a client that wastes the cores that it shares with the server would measure itself. Everything is
//! started below a parent and in queues of this run, and expires an hour later, the shortest time that the server keeps.

mod client;
mod cpu;
pub mod echo;
mod latency;
mod load;
mod report;
mod run;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;

use crate::clock::{Clock, SystemClock};

pub use self::report::{CpuTime, Measured, Quantiles, Report};

/// What to measure, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// `HOST:PORT` of the server.
    pub server: String,
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
    /// Watchers of one operation.
    pub watchers: usize,
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
    /// Start, lease, one report, complete, read the result.
    Cycles,
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
}

impl Scenario {
    /// All, in the order in which they run.
    pub const ALL: [Self; 10] = [
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

/// Measures.
///
/// # Errors
/// If the server cannot be reached or refuses a call.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let session = run::BenchRun::new(options, SystemClock::new());
    let mut results = Vec::new();
    for scenario in &options.scenarios {
        results.push(match scenario {
            Scenario::Gets => load::gets(&session)?,
            Scenario::Starts => load::starts(&session)?,
            Scenario::Cycles => load::cycles(&session)?,
            Scenario::RoundTrips => load::round_trips(&session)?,
            Scenario::StreamCycles => streams::cycles(&session, "stream-cycles", 1)?,
            Scenario::StreamBatches => streams::cycles(&session, "stream-batches", 32)?,
            Scenario::StreamRoundTrips => streams::round_trips(&session)?,
            Scenario::Latency => latency::one_at_a_time(&session, false)?,
            Scenario::StreamLatency => latency::one_at_a_time(&session, true)?,
            Scenario::FanOut => latency::fan_out(&session)?,
        });
    }
    Ok(Report::new(options, results))
}

/// Serves the echo that a server is compared with, until the process is ended.
///
/// # Errors
/// If it cannot listen.
pub fn serve_echo(listen: SocketAddr) -> anyhow::Result<()> {
    echo::serve(listen)
}

/// A unique id of the run.
fn run_id(clock: &Arc<dyn Clock>) -> String {
    format!("bench-{}", clock.now().as_micros())
}
