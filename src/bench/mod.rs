//! Measures a running server from outside, as its clients see it.
//!
//! Starts no server. Knows only the protocol: generated clients on several connections, spread over a few threads with a
//! runtime each, since a client that wastes the cores that it shares with the server would measure itself. Everything is
//! started below a parent and in queues of this run, and expires an hour later, the shortest time that the server keeps.

mod callbacks;
mod client;
mod cpu;
pub mod echo;
mod http;
mod jobs;
mod latency;
mod lists;
mod load;
mod newcomer;
mod options;
mod receiver;
mod report;
mod run;
mod sets;
mod streams;

use std::net::SocketAddr;

use anyhow::Context;

use crate::clock::SystemClock;
use crate::server::connections::raise_open_files;

use self::http::{ClientKnows, HttpVersion};
pub use self::lists::{ListOptions, measure as lists};
pub use self::options::{Options, Scenario};
pub use self::receiver::ReceiverTls;
pub use self::report::{CpuTime, Measured, MemoryUse, Quantiles, Report};

/// Measures.
///
/// # Errors
/// If the server cannot be reached or refuses a call.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    // Watchers over HTTP/1.1 take a connection each.
    raise_open_files();
    let session = run::BenchRun::new(options, SystemClock::new());
    let mut results = Vec::new();
    for scenario in &options.scenarios {
        results.extend(measure(&session, *scenario)?);
    }
    Ok(Report::new(options, results))
}

fn measure(session: &run::BenchRun, scenario: Scenario) -> anyhow::Result<Vec<Measured>> {
    let options = &session.options;
    Ok(vec![match scenario {
        Scenario::Gets => load::gets(session)?,
        Scenario::Starts => load::starts(session)?,
        Scenario::Overload => load::overload(session)?,
        Scenario::Cycles => load::cycles(session, "cycles", 0)?,
        Scenario::KeyCycles => load::cycles(session, "key-cycles", 1)?,
        Scenario::KeysCycles => load::cycles(session, "keys-cycles", 64)?,
        Scenario::Newcomer => newcomer::run(session)?,
        Scenario::RoundTrips => load::round_trips(session)?,
        Scenario::StreamCycles => streams::cycles(session, "stream-cycles", 1)?,
        Scenario::StreamBatches => streams::cycles(session, "stream-batches", 32)?,
        Scenario::StreamRoundTrips => streams::round_trips(session)?,
        Scenario::Latency => latency::one_at_a_time(session, false)?,
        Scenario::StreamLatency => latency::one_at_a_time(session, true)?,
        Scenario::FanOut => latency::fan_out(session)?,
        Scenario::HttpGets => {
            http::gets(session, "http-gets", HttpVersion::Http1, ClientKnows::Nothing)?
        }
        Scenario::HttpGetsUnchanged => {
            http::gets(session, "http-gets-unchanged", HttpVersion::Http1, ClientKnows::Newest)?
        }
        Scenario::Http2Gets => {
            http::gets(session, "http2-gets", HttpVersion::Http2, ClientKnows::Nothing)?
        }
        Scenario::Http2GetsUnchanged => {
            http::gets(session, "http2-gets-unchanged", HttpVersion::Http2, ClientKnows::Newest)?
        }
        Scenario::HttpStarts => http::starts(session, "http-starts", HttpVersion::Http1)?,
        Scenario::Http2Starts => http::starts(session, "http2-starts", HttpVersion::Http2)?,
        Scenario::HttpWatchers => {
            http::idle_watchers(session, "http-watchers", HttpVersion::Http1)?
        }
        Scenario::Http2Watchers => {
            http::idle_watchers(session, "http2-watchers", HttpVersion::Http2)?
        }
        Scenario::Callbacks => callbacks::delivered(session, "callbacks", None)?,
        Scenario::CallbacksTls => {
            let tls = options.receiver_tls.clone();
            let tls = tls.context("callbacks-tls needs --receiver-cert and --receiver-key")?;
            callbacks::delivered(session, "callbacks-tls", Some(tls))?
        }
        Scenario::CallbacksHung => callbacks::hung(session)?,
        Scenario::CallbacksNone => callbacks::none(session)?,
        Scenario::WatchSets => sets::watch_sets(session, "watch-sets", options.watchers, 10)?,
        Scenario::WatchOneSet => {
            sets::watch_sets(session, "watch-one-set", options.watchers.div_ceil(10), 1)?
        }
        Scenario::Jobs => return jobs::measure(session),
    }])
}

/// Serves the echo that a server is compared with, until the process is ended.
///
/// # Errors
/// If it cannot listen.
pub fn serve_echo(listen: SocketAddr) -> anyhow::Result<()> {
    echo::serve(listen)
}
