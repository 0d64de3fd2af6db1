//! How to open an embedded store.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::clock::{Clock, SystemClock};

/// How to open an embedded store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory; made where there is none.
    pub path: PathBuf,
    /// Makes a store where there is none.
    pub create: bool,
    /// The only keyspace that is acceptable; any, or a new one, where `None`.
    pub keyspace: Option<Uuid>,
    /// Opens a store that has lost acknowledged commits.
    pub accept_loss: bool,
    /// Bytes of disk below which nothing new is taken, so that what there is can be completed.
    pub reserve_bytes: u64,
    /// Where the store's time comes from.
    pub clock: Arc<dyn Clock>,
    /// What waits for the disk are measured with: a disk does not wait for a clock that a test moves.
    pub stopwatch: Arc<dyn Clock>,
}

impl Options {
    /// The defaults for a store in the directory `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            create: true,
            keyspace: None,
            accept_loss: false,
            reserve_bytes: DEFAULT_RESERVE,
            clock: SystemClock::new(),
            stopwatch: SystemClock::new(),
        }
    }
}

/// Disk that is kept for completing what there is.
pub const DEFAULT_RESERVE: u64 = 256 << 20;
