//! `longhaul work`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::connection::{ServerArg, TypesArg};
use super::exit::Failure;
use super::serve::shutdown_signals;
use crate::client::Client;
use crate::worker::command::{Options, find_program, work};

/// Arguments of `work`.
#[derive(Debug, Args)]
#[command(after_long_help = CONTRACT)]
pub(super) struct WorkArgs {
    #[command(flatten)]
    server: ServerArg,
    #[command(flatten)]
    types: TypesArg,
    /// The queue to work on
    #[arg(long, default_value = "default", value_name = "QUEUE")]
    queue: String,
    /// Name of this worker, shown to people; by default that of this host and process
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// How many programs run at the same time, up to 10,000
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    concurrency: u16,
    /// How long a lease lasts after the last message of this worker; clamped to 1 s to 24 h
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    lease_duration: Duration,
    /// How long after SIGTERM a cancelled program is killed
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    kill_after: Duration,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) async fn run(args: WorkArgs) -> Result<(), Failure> {
    // Report errors now, before any operation is leased.
    if let Err(error) = find_program(&args.command[0]) {
        return Err(Failure::Usage(error.to_string()));
    }
    let registry = args.types.registry()?;
    let client = Client::lazy(&args.server.address)
        .map_err(|error| Failure::Usage(format!("--server {}: {}", error.server, error.cause)))?;
    let options = Options {
        queue: args.queue,
        worker: args.worker,
        command: args.command,
        concurrency: usize::from(args.concurrency),
        lease: args.lease_duration,
        kill_after: args.kill_after,
        longhaul: this_binary()?,
    };
    let stop = shutdown_signals().map_err(anyhow::Error::from)?;
    let worked = work(&client, registry, options, stop.cancelled_owned()).await;
    Ok(worked.map_err(anyhow::Error::from)?)
}

/// This binary, also if an upgrade has replaced its file.
fn this_binary() -> anyhow::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { Ok(std::env::current_exe()?) }
}

/// A summary of `docs/work.md`.
const CONTRACT: &str = "\
What the program gets
  standard input  the request as one line of JSON, or nothing
  environment     LONGHAUL_OPERATION, LONGHAUL_ATTEMPT, LONGHAUL_METHOD, LONGHAUL_FENCING_NUMBER

What it prints
  standard output  lines `progress 0.4 message`: progress, from 0 to 1
                   the last JSON value on lines of its own, one or several: the response (2 MiB)
  standard error   goes to the log; the last 20 lines are the error of an attempt that fails

How it ends
  exit 0           the operation succeeded; without JSON the response is empty
  exit 75          a temporary failure (UNAVAILABLE): tried again, as `start --max-attempts` allows
  other exits      the operation failed (UNKNOWN); so does one that a signal ended

When the operation is cancelled, the program and all in its process group get SIGTERM, and SIGKILL
after --kill-after. It is then CANCELLED, unless the program exits 0 with a response: SUCCEEDED.
What the program leaves running in its process group is killed when the program has ended; nothing
outlives the worker, however that ends.

docs/work.md has the whole contract.";
