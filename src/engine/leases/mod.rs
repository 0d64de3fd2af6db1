//! Leases on this server: given to a waiting worker, and held by a stream. Passive: nothing here reads, commits or runs.

pub(in crate::engine) mod grant;
pub(in crate::engine) mod holders;
pub(in crate::engine) mod leased;
pub(in crate::engine) mod news;
pub(in crate::engine) mod waiter;
