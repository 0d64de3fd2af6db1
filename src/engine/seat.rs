//! A worker's place in the line of a queue, and what the server has for it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Engine;
use super::batch::Grant;
use super::error::Result;
use super::held::News;
use crate::operation::lease::Holder;

/// Who wants leases, on what terms, and how many more it can take.
pub(super) struct Seat {
    pub(super) worker: String,
    pub(super) duration: Duration,
    /// The stream that will hold the leases; a unary worker has none, and leaves once it got something.
    pub(super) holder: Option<Holder>,
    free: AtomicI64,
    /// Wants an answer after the next look, even an empty one.
    leaving: AtomicBool,
    inbox: Mutex<Inbox>,
    told: Notify,
}

/// What its worker has not fetched yet.
#[derive(Default)]
pub(super) struct Inbox {
    /// Leases.
    pub(super) grants: Vec<Grant>,
    /// News of what it holds.
    pub(super) news: Vec<News>,
    /// That nothing more will come, and why.
    pub(super) end: Option<Result<()>>,
    closed: bool,
}

/// Room for leases that is set aside; what is left of it goes back.
pub(super) struct Offer {
    pub(super) seat: Arc<Seat>,
    left: usize,
}

/// A seat in the line of a queue; dropped, it is given up.
pub(super) struct Place {
    engine: Engine,
    queue: String,
    pub(super) seat: Arc<Seat>,
}

impl Seat {
    /// A seat of a unary worker that takes up to `max` leases at once.
    pub(super) fn once(worker: String, duration: Duration, max: usize) -> Self {
        Self { free: AtomicI64::new(max as i64), ..Self::new(worker, duration, None) }
    }

    /// A seat of a stream, without room yet.
    pub(super) fn of_stream(worker: String, duration: Duration, holder: Holder) -> Self {
        Self::new(worker, duration, Some(holder))
    }

    fn new(worker: String, duration: Duration, holder: Option<Holder>) -> Self {
        Self {
            worker,
            duration,
            holder,
            free: AtomicI64::new(0),
            leaving: AtomicBool::new(false),
            inbox: Mutex::default(),
            told: Notify::new(),
        }
    }

    /// Makes room, or takes it back.
    pub(super) fn add_room(&self, room: i64) {
        self.free.fetch_add(room, Ordering::AcqRel);
    }

    /// Whether it can take more.
    fn has_room(&self) -> bool {
        self.free.load(Ordering::Acquire) > 0
    }

    /// Sets room aside, at most `most`.
    pub(super) fn offer(self: &Arc<Self>, most: usize) -> Option<Offer> {
        let taken = |free: i64| free.clamp(0, most as i64);
        let before = self
            .free
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| Some(free - taken(free)))
            .unwrap_or(0);
        let left = taken(before) as usize;
        (left > 0).then(|| Offer { seat: self.clone(), left })
    }

    /// Hands leases over, unless the worker is gone.
    pub(super) fn give(&self, grants: Vec<Grant>) -> std::result::Result<(), Vec<Grant>> {
        let mut inbox = self.inbox();
        if inbox.closed {
            return Err(grants);
        }
        inbox.grants.extend(grants);
        drop(inbox);
        self.told.notify_one();
        Ok(())
    }

    /// Tells what changed of something that it holds.
    pub(super) fn tell(&self, news: News) {
        let mut inbox = self.inbox();
        if !inbox.closed {
            inbox.news.push(news);
            drop(inbox);
            self.told.notify_one();
        }
    }

    /// Says that nothing more will come.
    pub(super) fn dismiss(&self, end: Result<()>) {
        self.inbox().end = Some(end);
        self.told.notify_one();
    }

    /// Resolves once something may be in the inbox.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }

    /// Resolves once there are leases or there will be none.
    pub(super) async fn answered(&self) {
        while {
            let inbox = self.inbox();
            inbox.grants.is_empty() && inbox.end.is_none()
        } {
            self.told().await;
        }
    }

    /// Fetches what there is.
    pub(super) fn fetch(&self) -> Inbox {
        std::mem::take(&mut *self.inbox())
    }

    /// Fetches what there is; nothing more can be handed over.
    pub(super) fn close(&self) -> Inbox {
        std::mem::replace(&mut *self.inbox(), Inbox { closed: true, ..Inbox::default() })
    }

    /// Whether it is to be forgotten: its worker is gone, or was told that there is nothing.
    pub(super) fn is_over(&self) -> bool {
        let inbox = self.inbox();
        inbox.closed || inbox.end.is_some()
    }

    /// Whether a look at the queue is worth it: a unary worker that has something is about to leave with that.
    pub(super) fn waits(&self) -> bool {
        self.has_room() && (self.holder.is_some() || self.inbox().grants.is_empty())
    }

    /// Has the answer come after the next look, even an empty one.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Offer {
    /// How many leases it is for.
    pub(super) const fn room(&self) -> usize {
        self.left
    }

    /// Hands leases over; those that the worker is no longer there for come back.
    pub(super) fn fill(&mut self, grants: Vec<Grant>) -> Vec<Grant> {
        let count = grants.len().min(self.left);
        match self.seat.give(grants) {
            Ok(()) => {
                self.left -= count;
                Vec::new()
            }
            Err(unheard) => unheard,
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.seat.add_room(self.left as i64);
    }
}

impl Place {
    pub(super) const fn new(engine: Engine, queue: String, seat: Arc<Seat>) -> Self {
        Self { engine, queue, seat }
    }

    /// Has the answer come after the next look, even an empty one.
    pub(super) fn leave(&self) {
        self.seat.leave();
        self.engine.inner.dispatchers.wake(&self.queue);
    }

    /// Makes room for more leases, or takes it back.
    pub(super) fn add_room(&self, room: i64) {
        self.seat.add_room(room);
        if room > 0 {
            self.engine.inner.dispatchers.room(&self.queue);
        }
    }

    /// Gives the seat up, and takes what was handed over before.
    pub(super) fn close(&self) -> Result<Vec<Grant>> {
        let inbox = self.seat.close();
        match inbox.end {
            Some(Err(error)) if inbox.grants.is_empty() => Err(error),
            _ => Ok(inbox.grants),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.engine.take_back(&self.seat, self.seat.close().grants);
        // A dispatcher for whom nobody waits any more goes too.
        self.engine.inner.dispatchers.retire_soon(&self.queue);
    }
}
