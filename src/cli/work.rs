//! `longhaul work`.

use std::time::Duration;

use clap::Args;

use super::calls::ServerArg;
use super::exit::Failure;
use super::serve::shutdown_signals;
use crate::client::Client;
use crate::wire::json::Registry;
use crate::worker::command::{Options, work};

/// What `work` takes.
#[derive(Debug, Args)]
pub(super) struct WorkArgs {
    #[command(flatten)]
    server: ServerArg,
    /// The queue to work on
    #[arg(long, default_value = "default", value_name = "QUEUE")]
    queue: String,
    /// What this worker calls itself
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// Operations at the same time, up to 10,000
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    concurrency: u16,
    /// How long a lease lasts without a word from this worker; brought into 1 s to 24 h
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    lease_duration: Duration,
    /// How long after SIGTERM a cancelled program is killed
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    kill_after: Duration,
    /// The program and its arguments: request as JSON on standard input; lines "progress 0.4 message" and, last, the
    /// response as JSON on standard output
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn run(args: WorkArgs) -> Result<(), Failure> {
    let client = Client::connect(&args.server.address).await?;
    let options = Options {
        queue: args.queue,
        worker: args.worker.unwrap_or_else(|| format!("work-{}", std::process::id())),
        command: args.command,
        concurrency: usize::from(args.concurrency),
        lease: args.lease_duration,
        kill_after: args.kill_after,
    };
    let stop = shutdown_signals().map_err(anyhow::Error::from)?;
    let worked = work(&client, Registry::builtin()?, options, stop.cancelled_owned()).await;
    Ok(worked.map_err(anyhow::Error::from)?)
}
