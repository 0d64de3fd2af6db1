//! A waiter's registration with the dispatcher of its queue.

use std::sync::Arc;

use crate::engine::dispatch::batch::LeaseBatch;
use crate::engine::dispatch::dispatcher::Dispatch;
use crate::engine::dispatch::waiters::Waiters;
use crate::engine::error::Result;
use crate::engine::leases::waiter::Waiter;

/// A waiter in its queue. When dropped, it leaves, and leases that it received and did not fetch are released.
pub(in crate::engine) struct Registration {
    dispatch: Arc<Dispatch>,
    waiters: Arc<Waiters>,
    pub(in crate::engine) waiter: Arc<Waiter>,
}

impl Registration {
    /// Has a waiter wait for a queue.
    pub(in crate::engine) fn enter(dispatch: &Arc<Dispatch>, queue: &str, waiter: Waiter) -> Self {
        let waiter = Arc::new(waiter);
        let waiters = dispatch.enter(queue, Arc::clone(&waiter));
        Self { dispatch: Arc::clone(dispatch), waiters, waiter }
    }

    /// Has the answer come after the next poll, even an empty one.
    pub(in crate::engine) fn leave(&self) {
        self.waiter.leave();
        self.waiters.wake.notify_one();
    }

    /// Makes room for more leases, or takes it back.
    pub(in crate::engine) fn add_room(&self, room: i64) {
        self.waiter.add_room(room);
        if room > 0 {
            self.waiters.room();
        }
    }

    /// Leaves the queue, and returns leases that it received before.
    pub(in crate::engine) fn into_batch(self) -> Result<LeaseBatch> {
        let inbox = self.waiter.close();
        match inbox.end {
            Some(Err(error)) if inbox.grants.is_empty() => Err(error),
            _ => Ok(LeaseBatch::new(Arc::clone(&self.dispatch.grants), inbox.grants)),
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.dispatch.grants.take_back(&self.waiter, self.waiter.close().grants);
        // A dispatcher without waiters ends.
        self.waiters.wake.notify_one();
    }
}
