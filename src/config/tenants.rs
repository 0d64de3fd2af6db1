//! Limits of tenants.

use serde::Deserialize;

use super::number::number;
use crate::engine::TenantLimits;

/// What each tenant may take of one server; see [`TenantLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSettings {
    #[serde(deserialize_with = "number")]
    requests_per_second: u32,
    #[serde(deserialize_with = "number")]
    starts_per_second: u32,
    #[serde(deserialize_with = "number")]
    operations: u64,
    #[serde(deserialize_with = "number")]
    stored_bytes: u64,
    #[serde(deserialize_with = "number")]
    watchers: u32,
    #[serde(deserialize_with = "number")]
    callbacks_per_second: u32,
    #[serde(deserialize_with = "number")]
    endpoints: u32,
}

impl From<TenantSettings> for TenantLimits {
    fn from(settings: TenantSettings) -> Self {
        let TenantSettings { requests_per_second, starts_per_second, operations, .. } = settings;
        let TenantSettings { stored_bytes, watchers, callbacks_per_second, endpoints, .. } =
            settings;
        Self {
            requests_per_second,
            starts_per_second,
            operations,
            stored_bytes,
            watchers,
            callbacks_per_second,
            endpoints,
        }
    }
}
