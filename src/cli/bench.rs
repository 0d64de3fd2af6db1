//! `longhaul bench`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

use super::connection::ServerArg;
use super::exit::Failure;
use super::output;
use super::place::environment;
use crate::archive::{Import, ImportState, Synthetic, load};
use crate::bench::{self, ListOptions, Options, ReceiverTls, Scenario};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Overrides};
use crate::limits::MAX_CALLBACKS;
use crate::server::opening;

/// Measures a running server. The operations that it starts expire after an hour.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
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
    /// Measure only these; by default all over gRPC
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
    /// Jobs with schedules, of which 1,000 fire each second
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    jobs: usize,
    /// Callbacks of an operation, each to a receiver of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=MAX_CALLBACKS as i64))]
    callbacks: u16,
    /// Certificate of the receivers in callbacks-tls (PEM), which the server must trust
    #[arg(long, value_name = "FILE", requires = "receiver_key")]
    receiver_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "receiver_cert")]
    receiver_key: Option<PathBuf>,
    /// Threads of this client; by default one per core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Serve an echo, to compare a server with it
    #[arg(long, value_name = "ADDRESS:PORT", hide = true)]
    serve_echo: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Measure pages of a long list, one call at a time
    List(PagesArgs),
    /// Fill a store that no server uses with operations to measure it with: one in 10,000 has failed, one in 100 waits
    Load(LoadArgs),
}

#[derive(Debug, Args)]
struct PagesArgs {
    #[command(flatten)]
    server: ServerArg,
    /// How to print the results
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// The parent whose operations are listed
    #[arg(long, default_value = LOADED, value_name = "PARENT")]
    parent: String,
    /// Calls of each kind
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    calls: usize,
    /// How many pages deep to look
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pages: usize,
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// The store: embedded:PATH or redis://HOST:PORT
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Settings file (TOML); see default.toml for every setting
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// How many operations to write
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    operations: u64,
    /// Their parent
    #[arg(long, default_value = LOADED, value_name = "PARENT")]
    parent: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    match &args.command {
        Some(BenchCommand::List(args)) => lists(args),
        Some(BenchCommand::Load(args)) => fill(args),
        None => measure(args),
    }
}

fn measure(args: &BenchArgs) -> anyhow::Result<()> {
    if let Some(listen) = args.serve_echo {
        return bench::serve_echo(listen);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options {
        server: args.server.target().map_err(usage)?,
        duration: Duration::try_from_secs_f64(args.seconds)?,
        scenarios: if args.only.is_empty() { Scenario::GRPC.to_vec() } else { args.only.clone() },
        pids: args.pids.clone(),
        connections: args.connections.max(1),
        in_flight: args.in_flight.max(1),
        workers: args.workers.max(1),
        watchers: args.watchers.max(1),
        jobs: args.jobs.max(1),
        callbacks: args.callbacks.into(),
        receiver_tls: receiver_tls(args)?,
        threads: args.threads.unwrap_or(cores).max(1),
    };
    let report = bench::run(&options)?;
    output::text(&match args.output {
        Output::Text => report.text(),
        Output::Json => report.json()?,
    });
    Ok(())
}

fn receiver_tls(args: &BenchArgs) -> anyhow::Result<Option<ReceiverTls>> {
    let (Some(certificate), Some(key)) = (&args.receiver_cert, &args.receiver_key) else {
        return Ok(None);
    };
    let read = |path: &PathBuf| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    ReceiverTls::new(&read(certificate)?, &read(key)?).map(Some)
}

fn lists(args: &PagesArgs) -> anyhow::Result<()> {
    let options = ListOptions {
        server: args.server.target().map_err(usage)?,
        parent: args.parent.clone(),
        calls: args.calls.max(1),
        pages: args.pages.max(2),
    };
    let results = bench::lists(&options)?;
    match args.output {
        Output::Text => {
            for result in results {
                for quantiles in result.quantiles {
                    output::line(&format!(
                        "{:<12} p50 {} us, p99 {} us, max {} us",
                        result.name, quantiles.p50_us, quantiles.p99_us, quantiles.max_us
                    ));
                }
            }
        }
        Output::Json => output::text(&serde_json::to_string_pretty(&results)?),
    }
    Ok(())
}

fn usage(failure: Failure) -> anyhow::Error {
    anyhow::anyhow!(failure.message())
}

fn fill(args: &LoadArgs) -> anyhow::Result<()> {
    let overrides = Overrides { store: args.store.clone(), ..Overrides::default() };
    let config = Config::load(args.config.as_deref(), &environment(), &overrides)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = SystemClock::new();
        let store = opening::open(&config, &clock).await?;
        let import =
            Import { store: Arc::clone(&store), clock, state: Arc::<ImportState>::default() };
        let what = Synthetic { operations: args.operations, parent: args.parent.clone() };
        let began = import.clock.elapsed();
        let loaded = load(&import, what).await;
        let took = import.clock.elapsed().saturating_sub(began);
        store.close().await;
        loaded?;
        let rate = args.operations as f64 / took.as_secs_f64();
        output::line(&format!("wrote {} operations, {rate:.0}/s", args.operations));
        Ok(())
    })
}

const LOADED: &str = "benches/loaded";
