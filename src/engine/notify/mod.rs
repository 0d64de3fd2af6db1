//! What a commit, or a hint of one, tells the tasks of this server: callers that watch, streams that hold leases, dispatchers,
//! and the scheduler.
//!
//! Nothing here waits or reads. Whoever must act is woken, and acts in its own task.

pub(in crate::engine) mod notifier;
pub(in crate::engine) mod wakes;
