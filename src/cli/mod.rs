//! The command line.

mod bench;
mod call_args;
mod calls;
mod connection;
mod deliveries;
mod dev;
mod exit;
mod export;
mod follow;
mod fullscreen;
mod gauge;
mod import;
mod job;
mod job_output;
mod labels;
mod live;
mod logs;
mod option_args;
mod output;
mod place;
mod plain;
mod proto;
mod queues;
mod receiving;
mod record;
mod reencrypt;
mod rerun;
mod screen;
mod serve;
mod served;
mod start;
mod stats;
mod steer;
mod table;
mod tokens;
mod top;
mod type_sets;
mod types;
mod upgrade;
mod webhooks;
mod work;
mod workers;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::exit::Failure;
use crate::worker::command::{GATE, GUARD, gate, guard};

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
    Serve(serve::ServeArgs),
    /// Serve operations with a sample worker, to try things out
    Dev(dev::DevArgs),
    /// Measure a running server
    Bench(bench::BenchArgs),
    /// Work on a queue: run a program for each operation
    Work(work::WorkArgs),
    /// Ends the programs of `work` when it ends
    #[command(name = GUARD, hide = true)]
    WorkGuard,
    /// Executes a program of `work`
    #[command(name = GATE, hide = true)]
    WorkGate {
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Start an operation and print its name
    Start(Box<start::StartArgs>),
    /// Show an operation
    Get(calls::NameArgs),
    /// List operations, newest first within their parent
    List(calls::ListArgs),
    /// Count operations by state, and what waits and runs in each queue
    Stats(stats::StatsArgs),
    /// Show what a server does: rates, queues, running operations and failures
    Top(top::TopArgs),
    /// Wait until operations are done, and print their results
    Wait(calls::FollowArgs),
    /// Show the progress of operations until they are done
    Watch(calls::FollowArgs),
    /// Cancel operations; a worker that runs one is asked to stop
    Cancel(steer::NamesArgs),
    /// Delete operations; a worker that runs one is not stopped
    Delete(steer::NamesArgs),
    /// Pause operations until they are resumed
    Pause(steer::PauseArgs),
    /// Resume paused operations, with input if their worker asked for it
    Resume(steer::ResumeArgs),
    /// Start a finished operation again, as a new one
    Rerun(rerun::RerunArgs),
    /// Configure jobs and run them, by hand or on a schedule
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Show everything that the server stores about an operation
    Record(calls::NameArgs),
    /// List, show, pause, resume and limit queues
    Queue(queues::QueueArgs),
    /// List workers and what they hold, and drain them
    Worker(workers::WorkerArgs),
    /// Give a server message types of payloads, and list, show or delete those that it has
    Types(type_sets::TypeSetsArgs),
    /// Create tokens for callers and workers, and list, rotate or revoke them
    Token(tokens::TokensArgs),
    /// Make a link: a token for some verbs on one operation, for a while
    Link(tokens::LinkArgs),
    /// Manage the addresses that are called on events of operations
    Webhook(Box<webhooks::WebhookArgs>),
    /// List and show deliveries to webhook endpoints and callbacks, and send them again
    Delivery(deliveries::DeliveryArgs),
    /// Write all records of a store to a file
    Export(export::ExportArgs),
    /// Make a store from the file of an export
    Import(import::ImportArgs),
    /// Raise the format of a store, once every server runs this version
    Upgrade(upgrade::UpgradeArgs),
    /// Encrypt everything in a store with the first key, so that former keys can be removed
    Reencrypt(reencrypt::ReencryptArgs),
    /// Write the interface definitions, from which stubs are generated
    Proto(proto::ProtoArgs),
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and usage errors: clap prints them, with exit code 2 for a usage error.
        Err(error) => error.exit(),
    };
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => {
            logs::start("info");
            Ok(serve::run(&args)?)
        }
        Command::Dev(args) => {
            logs::start("info");
            Ok(dev::run(&args)?)
        }
        Command::Bench(args) => {
            logs::start("error");
            Ok(bench::run(&args)?)
        }
        Command::Upgrade(args) => {
            logs::start("warn");
            let runtime = serve::runtime().map_err(anyhow::Error::from)?;
            Ok(runtime.block_on(upgrade::run(args))?)
        }
        Command::Reencrypt(args) => {
            logs::start("warn");
            let runtime = serve::runtime().map_err(anyhow::Error::from)?;
            Ok(runtime.block_on(reencrypt::run(args))?)
        }
        Command::Import(args) => {
            logs::start("warn");
            let runtime = serve::runtime().map_err(anyhow::Error::from)?;
            Ok(runtime.block_on(import::run(args))?)
        }
        Command::Proto(args) => Ok(proto::run(&args)?),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "longhaul", &mut std::io::stdout());
            Ok(())
        }
        Command::WorkGuard => Ok(guard().map_err(anyhow::Error::from)?),
        Command::WorkGate { command } => {
            let (code, fault) = gate(&command);
            output::note(&format!("longhaul: {fault}"));
            Err(Failure::Told(code))
        }
        Command::Work(args) => {
            logs::start("info");
            serve::runtime().map_err(anyhow::Error::from)?.block_on(work::run(args))
        }
        call => {
            logs::start("error");
            let server = server(&call).to_owned();
            let called = serve::runtime().map_err(anyhow::Error::from)?.block_on(call_server(call));
            called.map_err(|failure| failure.of(&server))
        }
    }
}

/// The server that a command calls.
fn server(command: &Command) -> &str {
    match command {
        Command::Start(args) => args.server(),
        Command::List(args) => args.server(),
        Command::Stats(args) => args.server(),
        Command::Top(args) => args.server(),
        Command::Wait(args) | Command::Watch(args) => args.server(),
        Command::Get(args) | Command::Record(args) => args.server(),
        Command::Export(args) => args.server(),
        Command::Cancel(args) | Command::Delete(args) => args.server(),
        Command::Pause(args) => args.server(),
        Command::Resume(args) => args.server(),
        Command::Rerun(args) => args.server(),
        Command::Job(command) => command.server(),
        Command::Types(args) => args.server(),
        Command::Webhook(args) => args.server(),
        Command::Delivery(args) => args.server(),
        Command::Queue(args) => args.server(),
        Command::Worker(args) => args.server(),
        Command::Token(args) => args.server(),
        Command::Link(args) => args.server(),
        Command::Serve(_)
        | Command::Dev(_)
        | Command::Work(_)
        | Command::WorkGuard
        | Command::WorkGate { .. }
        | Command::Bench(_)
        | Command::Import(_)
        | Command::Upgrade(_)
        | Command::Reencrypt(_)
        | Command::Proto(_)
        | Command::Completions { .. } => "",
    }
}

async fn call_server(command: Command) -> Result<(), Failure> {
    match command {
        Command::Start(args) => start::run(*args).await,
        Command::Get(args) => calls::get(args).await,
        Command::List(args) => calls::list(args).await,
        Command::Stats(args) => stats::run(args).await,
        Command::Top(args) => top::run(args).await,
        Command::Wait(args) => calls::wait(args).await,
        Command::Watch(args) => calls::watch(args).await,
        Command::Cancel(args) => steer::cancel(args).await,
        Command::Delete(args) => steer::delete(args).await,
        Command::Pause(args) => steer::pause(args).await,
        Command::Resume(args) => steer::resume(args).await,
        Command::Rerun(args) => rerun::run(args).await,
        Command::Job(command) => job::run(command).await,
        Command::Record(args) => calls::record(args).await,
        Command::Types(args) => type_sets::run(args).await,
        Command::Webhook(args) => webhooks::run(*args).await,
        Command::Delivery(args) => deliveries::run(args).await,
        Command::Queue(args) => queues::run(args).await,
        Command::Worker(args) => workers::run(args).await,
        Command::Token(args) => tokens::run(args).await,
        Command::Link(args) => tokens::link(args).await,
        Command::Export(args) => export::run(&args).await,
        Command::Serve(_)
        | Command::Dev(_)
        | Command::Work(_)
        | Command::WorkGuard
        | Command::WorkGate { .. }
        | Command::Bench(_)
        | Command::Import(_)
        | Command::Upgrade(_)
        | Command::Reencrypt(_)
        | Command::Proto(_)
        | Command::Completions { .. } => Ok(()),
    }
}
