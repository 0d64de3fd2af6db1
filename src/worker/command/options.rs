//! Options of the worker.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Options of the worker.
#[derive(Clone, Debug)]
pub struct Options {
    /// The queue.
    pub queue: String,
    /// The worker's name, instead of that of this host and process.
    pub worker: Option<String>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// How many operations run at the same time.
    pub concurrency: usize,
    /// How long each lease lasts from the last message of the worker.
    pub lease: Duration,
    /// How long after SIGTERM a cancelled program is killed.
    pub kill_after: Duration,
    /// The longhaul binary, which also runs as [`guard`](super::guard()) and [`gate`](super::gate()) of the programs.
    pub longhaul: PathBuf,
}
