//! Informs the tasks of this server of commits and hints: callers that watch, streams that hold leases, dispatchers,
//! and the scheduler.
//!
//! Nothing here waits or reads. It wakes tasks, and each acts on its own.

pub(in crate::engine) mod notifier;
