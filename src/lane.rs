//! Which runtime a task runs on, for what each runtime has its own of.

use std::cell::Cell;

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// The runtime of this thread: 0 is the one that serves everybody, others are numbered by whoever made them.
pub fn current() -> usize {
    LANE.get()
}

/// Says which runtime this thread is.
pub fn enter(lane: usize) {
    LANE.set(lane);
}
