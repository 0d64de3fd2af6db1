//! What an operator may set of the engine.

use std::time::Duration;

use super::access::Policy;
use crate::limits::{DEFAULT_PROGRESS_INTERVAL, DEFAULT_STALL_TIMEOUT};
use crate::types::Registry;

/// The settings of an engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Reports of progress are gathered, for each operation, into one commit in so long; zero commits each.
    pub progress_interval: Duration,
    /// What is leased and without progress for so long counts as stalled; zero: nothing does.
    pub stall_timeout: Duration,
    /// The message types that are known.
    pub types: Registry,
    /// What callers may do.
    pub policy: Policy,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            progress_interval: DEFAULT_PROGRESS_INTERVAL,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            types: Registry::builtin(),
            policy: Policy::default(),
        }
    }
}
