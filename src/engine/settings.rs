//! The settings of an engine.

use std::time::Duration;

use super::access::Policy;
use crate::limits::{DEFAULT_PROGRESS_INTERVAL, DEFAULT_STALL_TIMEOUT};
use crate::types::Registry;

/// The settings of an engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Progress reports of an operation are merged into one commit per interval; zero commits each.
    pub progress_interval: Duration,
    /// A lease without progress for this long counts as stalled; zero disables this.
    pub stall_timeout: Duration,
    /// The known message types.
    pub types: Registry,
    /// The policy for callers.
    pub policy: Policy,
    /// The headers of a start that the URIs of its callbacks may be made of, in lower case.
    pub callback_headers: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            progress_interval: DEFAULT_PROGRESS_INTERVAL,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            types: Registry::builtin(),
            policy: Policy::default(),
            callback_headers: READABLE.map(str::to_owned).into(),
        }
    }
}

/// Headers without secrets.
const READABLE: [&str; 5] =
    ["callback-url", "idempotency-key", "progressurl", "traceparent", "x-request-id"];
