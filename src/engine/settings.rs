//! The settings of an engine.

use std::time::Duration;

use super::access::Policy;
use super::bindings::IdentityBinding;
use super::jwt::Issuer;
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            progress_interval: DEFAULT_PROGRESS_INTERVAL,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            types: Registry::builtin(),
            policy: Policy::default(),
            identity: IdentitySettings::default(),
        }
    }
}
