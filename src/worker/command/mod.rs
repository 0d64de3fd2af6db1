//! `longhaul work`: any program as a worker.
//!
//! The program gets the request as JSON on standard input. Lines `progress 0.4 message` on its standard output become
//! progress, and the JSON that ends its output becomes the response. An exit code other than 0 fails the operation.
//! `docs/work.md` has the whole contract.

mod ending;
mod guard;
mod lines;
mod lookup;
mod options;
mod output;
mod program;
mod response;
mod runner;

use std::future::Future;
use std::io;
use std::sync::Arc;

use self::guard::ProgramGuard;
use self::runner::Runner;
use super::builder::Worker;
use super::serve::RunError;
use crate::client::Client;
use crate::clock::SystemClock;
use crate::types::Registry;

pub use self::guard::{GATE, GUARD, gate, guard};
pub use self::lookup::{ProgramError, find_program};
pub use self::options::Options;

/// Why a worker that runs programs ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The process that ends the programs with the worker cannot be started.
    #[error("cannot start the guard of the programs: {0}")]
    Guard(io::Error),
    /// The worker itself ended.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Works until `stop`, then waits for running programs.
///
/// # Errors
/// As [`Worker::run_until`], and if the guard cannot be started.
pub async fn work(
    client: &Client,
    registry: Registry,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Result<(), WorkError> {
    let mut worker = Worker::builder(client)
        .queue(&options.queue)
        .concurrency(options.concurrency)
        .lease_duration(options.lease);
    if let Some(name) = &options.worker {
        worker = worker.name(name);
    }
    let guard = Arc::new(ProgramGuard::start(&options.longhaul).map_err(WorkError::Guard)?);
    let runner = Arc::new(Runner { options, registry, guard, clock: SystemClock::new() });
    let worker = worker.fallback(move |context, request| {
        let runner = runner.clone();
        async move { runner.run(&context, request).await }
    });
    Ok(worker.run_until(stop).await?)
}
