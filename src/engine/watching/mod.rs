//! Waiting for operations and watching them.

pub(in crate::engine) mod hub;
pub(in crate::engine) mod wait;
pub(in crate::engine) mod watch;
