//! Why settings are refused.

/// Why the settings cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);
