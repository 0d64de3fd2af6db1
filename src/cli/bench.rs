//! `longhaul bench`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::connection::ServerArg;
use super::output;
use crate::bench::{self, Options, Scenario};

/// Measures a running server. The operations that it starts expire after an hour.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    server: ServerArg,
    /// How to print the results
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// Processes on this machine (the server, Redis) to report CPU time per operation for
    #[arg(long = "pid", value_name = "PID", num_args = 1..)]
    pids: Vec<u32>,
    /// How long to measure each rate
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Measure only these
    #[arg(long, value_enum, value_name = "NAME", num_args = 1..)]
    only: Vec<Scenario>,
    /// Connections to the server
    #[arg(long, value_name = "N", default_value_t = 8)]
    connections: usize,
    /// Calls in flight at the same time
    #[arg(long, value_name = "N", default_value_t = 64)]
    in_flight: usize,
    /// Operations that workers hold at the same time
    #[arg(long, value_name = "N", default_value_t = 64)]
    workers: usize,
    /// Watchers of one operation, and streams of sets
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    watchers: usize,
    /// Threads of this client; by default one per core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Serve an echo, to compare a server with it
    #[arg(long, value_name = "ADDRESS:PORT", hide = true)]
    serve_echo: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    if let Some(listen) = args.serve_echo {
        return bench::serve_echo(listen);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options {
        server: args.server.address.clone(),
        duration: Duration::try_from_secs_f64(args.seconds)?,
        scenarios: if args.only.is_empty() { Scenario::USUAL.to_vec() } else { args.only.clone() },
        pids: args.pids.clone(),
        connections: args.connections.max(1),
        in_flight: args.in_flight.max(1),
        workers: args.workers.max(1),
        watchers: args.watchers.max(1),
        threads: args.threads.unwrap_or(cores).max(1),
    };
    let report = bench::run(&options)?;
    output::text(&match args.output {
        Output::Text => report.text(),
        Output::Json => report.json()?,
    });
    Ok(())
}
