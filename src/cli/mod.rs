//! The command line.

mod bench;
mod dev;
mod output;
mod serve;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, EmbeddedOverrides, Overrides, RedisOverrides};

/// A server for long-running operations.
#[derive(Debug, Parser)]
#[command(name = "longhaul", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve operations
    Serve(ServeArgs),
    /// Serve operations with a sample worker, to try things out
    Dev(DevArgs),
    /// Measure a server that runs
    Bench(bench::BenchArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    place: Place,
    /// Settings file (TOML); see default.toml for every setting
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Serve plain text beyond loopback
    #[arg(long)]
    insecure: bool,
    /// Where the store is away at start, wait and say NOT_SERVING
    #[arg(long)]
    wait_for_store: bool,
    /// Serve only this keyspace; its id is logged at start
    #[arg(long, value_name = "ID")]
    keyspace: Option<String>,
    /// Open an embedded store although acknowledged writes are missing from it
    #[arg(long)]
    accept_loss: bool,
    /// The durability that Redis must be set up for: memory or fsync
    #[arg(long, value_name = "LEVEL")]
    durability: Option<String>,
}

#[derive(Debug, Args)]
struct DevArgs {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// Where to listen [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where operations are kept: embedded:PATH or redis://HOST:PORT
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and usage errors: clap knows where to print what, and that a usage error is exit code 2.
        Err(error) => error.exit(),
    };
    output::start_logging();
    let result = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Dev(args) => dev::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

impl Place {
    fn overrides(&self) -> Overrides {
        Overrides { listen: self.listen.clone(), store: self.store.clone(), ..Overrides::default() }
    }
}

impl ServeArgs {
    fn config(&self) -> anyhow::Result<Config> {
        let overrides = Overrides {
            insecure: self.insecure.then_some(true),
            wait_for_store: self.wait_for_store.then_some(true),
            keyspace: self.keyspace.clone(),
            embedded: self.accept_loss.then_some(EmbeddedOverrides { accept_loss: true }),
            redis: self.durability.clone().map(|durability| RedisOverrides { durability }),
            ..self.place.overrides()
        };
        Ok(Config::load(self.config.as_deref(), &environment(), &overrides)?)
    }
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
