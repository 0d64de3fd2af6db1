//! Waiting for operations, and watching one or a set of them.

pub(in crate::engine) mod hub;
pub(in crate::engine) mod sets;
pub(in crate::engine) mod wait;
pub(in crate::engine) mod watch;
