//! A worker that waits for leases, and the inbox with what the server has for it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::engine::access::LeaseScope;
use crate::engine::error::Result;
use crate::engine::leases::grant::Grant;
use crate::engine::leases::news::News;
use crate::engine::queues::bucket::Bucket;
use crate::engine::roster::activity::QueueActivity;
use crate::engine::roster::registry::{AskedStream, StreamState};
use crate::operation::lease::Holder;
use crate::operation::worker::WorkerProcess;

/// The worker, its lease options, and how many more leases it can take.
pub(in crate::engine) struct Waiter {
    pub(in crate::engine) worker: String,
    /// Its process, as far as it said.
    pub(in crate::engine) process: WorkerProcess,
    pub(in crate::engine) duration: Duration,
    /// From which parents it gets operations.
    pub(in crate::engine) scope: LeaseScope,
    /// The stream that will hold the leases; a unary worker has none, and leaves once it got something.
    pub(in crate::engine) holder: Option<Holder>,
    /// What happens in its queue.
    activity: Arc<QueueActivity>,
    free: AtomicI64,
    /// An operator has drained the worker.
    drained: AtomicBool,
    /// Wants an answer after the next poll of the queue, even an empty one.
    leaving: AtomicBool,
    inbox: Mutex<Inbox>,
    told: Notify,
}

/// Leases that the worker has not fetched yet.
#[derive(Default)]
pub(in crate::engine) struct Inbox {
    /// Leases.
    pub(in crate::engine) grants: Vec<Grant>,
    /// Changes of operations that it holds.
    pub(in crate::engine) news: Vec<News>,
    /// Who wants to know how the stream is doing.
    pub(in crate::engine) asked: Vec<oneshot::Sender<StreamState>>,
    /// The end of the inbox, with its reason.
    pub(in crate::engine) end: Option<Result<()>>,
    closed: bool,
}

/// Reserved room for leases; the unused part is returned.
pub(in crate::engine) struct Offer {
    pub(in crate::engine) waiter: Arc<Waiter>,
    left: usize,
    /// Where unused room is given back to, too, if the leases of the queue are limited.
    bucket: Option<Arc<Bucket>>,
}

/// A worker as it presents itself to a queue.
pub(in crate::engine) struct Presented {
    pub(in crate::engine) worker: String,
    pub(in crate::engine) process: WorkerProcess,
    pub(in crate::engine) duration: Duration,
    /// From which parents it gets operations.
    pub(in crate::engine) scope: LeaseScope,
    /// What happens in the queue.
    pub(in crate::engine) activity: Arc<QueueActivity>,
}

impl Waiter {
    /// A unary worker that takes up to `max` leases at once.
    pub(in crate::engine) fn once(presented: Presented, max: usize) -> Self {
        Self { free: AtomicI64::new(max as i64), ..Self::new(presented, None) }
    }

    /// A stream, without room yet.
    pub(in crate::engine) fn of_stream(presented: Presented, holder: Holder) -> Self {
        Self::new(presented, Some(holder))
    }

    fn new(presented: Presented, holder: Option<Holder>) -> Self {
        let Presented { worker, process, duration, scope, activity } = presented;
        Self {
            worker,
            process,
            duration,
            scope,
            holder,
            activity,
            free: AtomicI64::new(0),
            drained: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            inbox: Mutex::default(),
            told: Notify::new(),
        }
    }

    /// Makes room, or takes it back.
    pub(in crate::engine) fn add_room(&self, room: i64) {
        self.free.fetch_add(room, Ordering::AcqRel);
    }

    /// Whether it can take more.
    fn has_room(&self) -> bool {
        self.free.load(Ordering::Acquire) > 0 && !self.is_drained()
    }

    /// Sets room aside, at most `most`.
    pub(in crate::engine) fn offer(self: &Arc<Self>, most: usize) -> Option<Offer> {
        if self.is_drained() {
            return None;
        }
        let taken = |free: i64| free.clamp(0, most as i64);
        let before = self
            .free
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| Some(free - taken(free)))
            .unwrap_or(0);
        let left = taken(before) as usize;
        (left > 0).then(|| Offer { waiter: self.clone(), left, bucket: None })
    }

    /// Hands leases over, unless the worker is gone.
    pub(in crate::engine) fn give(
        &self,
        grants: Vec<Grant>,
    ) -> std::result::Result<(), Vec<Grant>> {
        let mut inbox = self.inbox();
        if inbox.closed {
            return Err(grants);
        }
        inbox.grants.extend(grants);
        drop(inbox);
        self.told.notify_one();
        Ok(())
    }

    /// Adds a change of an operation that it holds.
    pub(in crate::engine) fn tell(&self, news: News) {
        let mut inbox = self.inbox();
        if !inbox.closed {
            inbox.news.push(news);
            drop(inbox);
            self.told.notify_one();
        }
    }

    /// Notes whether an operator has drained the worker.
    pub(in crate::engine) fn set_drained(&self, drained: bool) {
        if self.drained.swap(drained, Ordering::AcqRel) != drained {
            self.told.notify_one();
        }
    }

    /// Whether an operator has drained the worker.
    pub(in crate::engine) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    /// Closes the inbox.
    pub(in crate::engine) fn dismiss(&self, end: Result<()>) {
        self.inbox().end = Some(end);
        self.told.notify_one();
    }

    /// Resolves once something may be in the inbox.
    pub(in crate::engine) async fn told(&self) {
        self.told.notified().await;
    }

    /// Resolves once there are leases or there will be none.
    pub(in crate::engine) async fn answered(&self) {
        while {
            let inbox = self.inbox();
            inbox.grants.is_empty() && inbox.end.is_none()
        } {
            self.told().await;
        }
    }

    /// Takes everything from the inbox.
    pub(in crate::engine) fn fetch(&self) -> Inbox {
        std::mem::take(&mut *self.inbox())
    }

    /// Takes everything from the inbox, and closes it.
    pub(in crate::engine) fn close(&self) -> Inbox {
        std::mem::replace(&mut *self.inbox(), Inbox { closed: true, ..Inbox::default() })
    }

    /// Whether it can be removed: its worker is gone, or has received an empty reply.
    pub(in crate::engine) fn is_over(&self) -> bool {
        let inbox = self.inbox();
        inbox.closed || inbox.end.is_some()
    }

    /// Whether a poll of the queue is worth it: a unary worker that has something is about to leave with that.
    pub(in crate::engine) fn waits(&self) -> bool {
        self.has_room() && (self.holder.is_some() || self.inbox().grants.is_empty())
    }

    /// Has the answer come after the next poll, even an empty one.
    pub(in crate::engine) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    pub(in crate::engine) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AskedStream for Waiter {
    fn ask(&self, answer: oneshot::Sender<StreamState>) {
        let mut inbox = self.inbox();
        if !inbox.closed {
            inbox.asked.push(answer);
            drop(inbox);
            self.told.notify_one();
        }
    }
}

impl Offer {
    /// The same room, for which tokens were taken.
    pub(in crate::engine) fn paid_from(mut self, bucket: &Arc<Bucket>) -> Self {
        self.bucket = Some(bucket.clone());
        self
    }

    /// How many leases it is for.
    pub(in crate::engine) const fn room(&self) -> usize {
        self.left
    }

    /// Hands leases over; those that the worker is no longer there for come back.
    pub(in crate::engine) fn fill(&mut self, grants: Vec<Grant>) -> Vec<Grant> {
        let count = grants.len().min(self.left);
        match self.waiter.give(grants) {
            Ok(()) => {
                self.left -= count;
                self.waiter.activity.leased(count);
                Vec::new()
            }
            Err(unheard) => unheard,
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.waiter.add_room(self.left as i64);
        if let Some(bucket) = &self.bucket {
            bucket.give_back(self.left);
        }
    }
}
