//! The wake-ups of the dispatchers of this server, by queue.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// One for each queue that has a dispatcher here.
#[derive(Default)]
pub(in crate::engine) struct Wakes {
    queues: Mutex<HashMap<String, Arc<Wake>>>,
}

/// Wakes the dispatcher of one queue.
#[derive(Default)]
pub(in crate::engine) struct Wake {
    notify: Notify,
    /// It is about to be woken, once the servers that rank higher have had their head start.
    delayed: AtomicBool,
}

impl Wakes {
    /// A dispatcher begins.
    pub(in crate::engine) fn add(&self, queue: &str) -> Arc<Wake> {
        let wake = Arc::new(Wake::default());
        self.lock().insert(queue.to_owned(), Arc::clone(&wake));
        wake
    }

    /// A dispatcher has ended.
    pub(in crate::engine) fn remove(&self, queue: &str) {
        self.lock().remove(queue);
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

    /// The dispatcher to wake later, unless there is none, or that is about to be done.
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
        self.notify.notify_one();
    }

    /// The head start of other servers is over.
    pub(in crate::engine) fn after_delay(&self) {
        self.delayed.store(false, Ordering::Release);
        self.now();
    }

    pub(in crate::engine) async fn notified(&self) {
        self.notify.notified().await;
    }
}
