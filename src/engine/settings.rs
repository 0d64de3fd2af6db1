//! The settings of an engine.

use std::sync::Arc;
use std::time::Duration;

use super::access::Policy;
use super::bindings::IdentityBinding;
use super::jwt::Issuer;
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
    /// What each tenant may take.
    pub tenant_limits: TenantLimits,
    /// The headers of a start that the URIs of its callbacks may be made of, in lower case.
    pub callback_headers: Vec<String>,
    /// Carries deliveries to their receivers; without one they wait in the store.
    pub carrier: Option<Arc<dyn Carrier>>,
    /// How long an attempt of a delivery may take.
    pub delivery_timeout: Duration,
    /// The pauses between the attempts of a delivery.
    pub delivery_pauses: Vec<Duration>,
    /// What this server calls itself where a receiver is asked to agree.
    pub delivery_origin: String,
    /// How callers prove who they are.
    pub identity: IdentitySettings,
}

/// How callers prove who they are; without any way, all may do everything.
#[derive(Clone, Debug, Default)]
pub struct IdentitySettings {
    /// By tokens of the API.
    pub tokens: bool,
    /// By the certificates of their connections.
    pub certificates: bool,
    /// By JWTs of these issuers.
    pub issuers: Vec<Issuer>,
    /// What callers with certificates and JWTs may do.
    pub bindings: Vec<IdentityBinding>,
}

impl IdentitySettings {
    /// Whether there is any way.
    pub fn is_any(&self) -> bool {
        self.tokens || self.certificates || !self.issuers.is_empty()
    }
}

/// What each tenant may take of one server; zero is without a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Calls of callers in a second.
    pub requests_per_second: u32,
    /// Starts in a second.
    pub starts_per_second: u32,
    /// Stored operations, whichever server has them.
    pub operations: u64,
    /// About how many bytes these may take.
    pub stored_bytes: u64,
    /// Watches at the same time.
    pub watchers: u32,
    /// Callbacks that starts ask for in a second.
    pub callbacks_per_second: u32,
    /// Webhook endpoints, whichever server made them.
    pub endpoints: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            progress_interval: DEFAULT_PROGRESS_INTERVAL,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            types: Registry::builtin(),
            policy: Policy::default(),
            identity: IdentitySettings::default(),
            tenant_limits: TenantLimits::default(),
            callback_headers: READABLE.map(str::to_owned).into(),
            carrier: None,
            delivery_timeout: DEFAULT_DELIVERY_TIMEOUT,
            delivery_pauses: DELIVERY_PAUSES.to_vec(),
            delivery_origin: "longhaul".to_owned(),
        }
    }
}

impl TenantLimits {
    pub(super) fn are_any(&self) -> bool {
        *self != Self::default()
    }
}

/// Headers without secrets.
const READABLE: [&str; 5] =
    ["callback-url", "idempotency-key", "progressurl", "traceparent", "x-request-id"];
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
