//! Commands to operations, one or many in one commit, and the progress that is held back for the next.

pub(in crate::engine) mod apply;
pub(in crate::engine) mod coalescer;
pub(in crate::engine) mod progress;
