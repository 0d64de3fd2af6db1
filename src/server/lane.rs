//! The number of the runtime that a task runs on.
//!
//! A thread-local, since only the thread that polls a task knows: the hub, the dispatchers and the agents act for tasks of
//! every runtime, and a number that they carried with them would be wrong. The store gets [`current`] when it is opened.

use std::cell::Cell;

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// The runtime of this thread: 0 for the main one, then in the order of the cores.
pub fn current() -> usize {
    LANE.get()
}

/// Sets the runtime of this thread.
pub(super) fn enter(lane: usize) {
    LANE.set(lane);
}
