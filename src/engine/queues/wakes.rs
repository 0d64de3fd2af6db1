//! The wake-ups of the dispatchers of this server, by queue.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// One for each queue that has dispatchers here.
#[derive(Default)]
pub(in crate::engine) struct Wakes {
    queues: Mutex<HashMap<String, Arc<Wake>>>,
}

/// Wakes the dispatchers of one queue.
#[derive(Default)]
pub(in crate::engine) struct Wake {
    dispatchers: Mutex<Vec<Arc<Notify>>>,
    /// They are about to be woken, once the servers that rank higher have had their head start.
    delayed: AtomicBool,
}

impl Wakes {
    /// A dispatcher begins.
    pub(in crate::engine) fn add(&self, queue: &str) -> Arc<Notify> {
        let dispatcher = Arc::new(Notify::new());
        let mut queues = self.lock();
        let wake = queues.entry(queue.to_owned()).or_default();
        wake.dispatchers().push(Arc::clone(&dispatcher));
        dispatcher
    }

    /// A dispatcher has ended.
    pub(in crate::engine) fn remove(&self, queue: &str, dispatcher: &Arc<Notify>) {
        let mut queues = self.lock();
        let Some(wake) = queues.get(queue) else { return };
        let mut dispatchers = wake.dispatchers();
        dispatchers.retain(|other| !Arc::ptr_eq(other, dispatcher));
        let is_last = dispatchers.is_empty();
        drop(dispatchers);
        if is_last {
            queues.remove(queue);
        }
    }

    /// Something became ready in a queue.
    pub(in crate::engine) fn wake(&self, queue: &str) {
        if let Some(wake) = self.lock().get(queue) {
            wake.now();
        }
    }

    /// Something may have become ready anywhere.
    pub(in crate::engine) fn wake_all(&self) {
        self.lock().values().for_each(|wake| wake.now());
    }

    /// The dispatchers to wake later, unless there are none, or that is about to be done.
    pub(in crate::engine) fn delay(&self, queue: &str) -> Option<Arc<Wake>> {
        let wake = self.lock().get(queue).cloned()?;
        (!wake.delayed.swap(true, Ordering::AcqRel)).then_some(wake)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Wake>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake {
    pub(in crate::engine) fn now(&self) {
        self.dispatchers().iter().for_each(|dispatcher| dispatcher.notify_one());
    }

    /// The head start of other servers is over.
    pub(in crate::engine) fn after_delay(&self) {
        self.delayed.store(false, Ordering::Release);
        self.now();
    }

    fn dispatchers(&self) -> MutexGuard<'_, Vec<Arc<Notify>>> {
        self.dispatchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
