//! How to open an embedded store.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::clock::{Clock, SystemClock};
use crate::store::keyspace::Origin;
use crate::store::layout::Layout;

/// How to open an embedded store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory; created if missing.
    pub path: PathBuf,
    /// How the indexes are used; `longhaul::record::layout()` for a store of operations.
    pub layout: Layout,
    /// Creates a store if there is none.
    pub create: bool,
    /// The only keyspace that is acceptable; any, or a new one, where `None`.
    pub keyspace: Option<Uuid>,
    /// Makes or continues the copy of another store, instead of opening one.
    pub import: Option<Origin>,
    /// Opens a store that has lost acknowledged commits.
    pub accept_loss: bool,
    /// Bytes of free disk below which new records are refused, so that stored operations can be completed.
    pub reserve_bytes: u64,
    /// The source of the store's time.
    pub clock: Arc<dyn Clock>,
    /// The clock that measures waits for the disk: a disk does not wait for a clock that a test moves.
    pub stopwatch: Arc<dyn Clock>,
}

impl Options {
    /// The defaults for a store in the directory `path`.
    pub fn new(path: impl Into<PathBuf>, layout: Layout) -> Self {
        Self {
            path: path.into(),
            layout,
            create: true,
            keyspace: None,
            import: None,
            accept_loss: false,
            reserve_bytes: DEFAULT_RESERVE,
            clock: SystemClock::new(),
            stopwatch: SystemClock::new(),
        }
    }
}

/// Disk space that is kept free for completing stored operations.
pub const DEFAULT_RESERVE: u64 = 256 << 20;
