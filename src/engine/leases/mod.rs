//! Leases on this server: granted to a waiting worker, or held by a stream. Passive: nothing here reads, commits or runs.

pub(in crate::engine) mod grant;
pub(in crate::engine) mod holders;
pub(in crate::engine) mod leased;
pub(in crate::engine) mod news;
pub(in crate::engine) mod waiter;
