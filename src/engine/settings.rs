//! The settings of an engine.

use std::sync::Arc;
use std::time::Duration;

use super::access::Policy;
use crate::limits::{DEFAULT_DELIVERY_TIMEOUT, DEFAULT_PROGRESS_INTERVAL, DEFAULT_STALL_TIMEOUT};
use crate::post::Carrier;
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
    /// Carries deliveries to their receivers; without one they wait in the store.
    pub carrier: Option<Arc<dyn Carrier>>,
    /// How long an attempt of a delivery may take.
    pub delivery_timeout: Duration,
    /// The pauses between the attempts of a delivery.
    pub delivery_pauses: Vec<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            progress_interval: DEFAULT_PROGRESS_INTERVAL,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            types: Registry::builtin(),
            policy: Policy::default(),
            carrier: None,
            delivery_timeout: DEFAULT_DELIVERY_TIMEOUT,
            delivery_pauses: DELIVERY_PAUSES.to_vec(),
        }
    }
}

/// The usual pauses between the attempts of a delivery: about three days in all.
pub(super) const DELIVERY_PAUSES: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];
