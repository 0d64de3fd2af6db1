//! Refusals, and the names of tenants.

use std::time::Duration;

use crate::engine::error::{Error, Reason};

/// The tenant that a parent belongs to.
pub(super) fn tenant_of(parent: &str) -> &str {
    parent.match_indices('/').nth(1).map_or(parent, |(end, _)| &parent[..end])
}

pub(super) fn too_fast(name: &str, what: &str) -> impl FnOnce(Duration) -> Box<Error> {
    move |pause| {
        refused(name, &format!("makes more {what} in a second than it may; wait a little"), pause)
    }
}

pub(super) fn refused(name: &str, why: &str, pause: Duration) -> Box<Error> {
    let tenant = if name.is_empty() { "the root" } else { name };
    Error::new(Reason::TenantLimit, format!("tenant {tenant:?} {why}"))
        .with("tenant", tenant)
        .retry_after(pause.max(SHORTEST_RETRY))
}

/// When to try again what depends on the caller alone.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// The shortest time to try again after.
const SHORTEST_RETRY: Duration = Duration::from_millis(10);
