//! The workers that wait for one queue and get operations of the same parents, in the order of their arrival.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::engine::access::LeaseScope;
use crate::engine::leases::waiter::{Offer, Waiter};
use crate::store::StoreError;

/// The waiters of one queue that get operations of the same parents, and the state of their dispatcher.
pub(in crate::engine) struct Waiters {
    pub(in crate::engine) queue: String,
    /// From which parents these waiters get operations.
    pub(super) scope: LeaseScope,
    /// Wakes the dispatcher.
    pub(super) wake: Arc<Notify>,
    waiting: Mutex<VecDeque<Arc<Waiter>>>,
    /// The last poll took all that was ready. Operations that became ready since have requested a poll; until it runs, starts may
    /// lease before it. If there is no room for that poll, the queue is not quiet.
    quiet: AtomicBool,
    /// A poll is running: room of the longest waiters is reserved for its leases.
    polling: AtomicBool,
    /// Workers of the queue are drained, or were at the last look.
    pub(super) drains: AtomicBool,
}

impl Waiters {
    pub(super) fn new(queue: &str, scope: LeaseScope, wake: Arc<Notify>) -> Self {
        Self {
            queue: queue.to_owned(),
            scope,
            wake,
            waiting: Mutex::default(),
            quiet: AtomicBool::new(false),
            polling: AtomicBool::new(false),
            drains: AtomicBool::new(false),
        }
    }

    /// What tells these waiters from others.
    pub(super) fn group(&self) -> (String, LeaseScope) {
        (self.queue.clone(), self.scope.clone())
    }

    /// Adds a waiter.
    pub(super) fn push(&self, waiter: Arc<Waiter>) {
        self.waiting().push_back(waiter);
        self.wake.notify_one();
    }

    /// Notes which workers are drained, and which are not any more.
    pub(super) fn note_drained(&self, is_drained: impl Fn(&Waiter) -> bool) {
        for waiter in &*self.waiting() {
            let drained = is_drained(waiter);
            waiter.set_drained(drained);
            // No poll is for it, so none answers it.
            if drained && waiter.is_leaving() {
                waiter.dismiss(Ok(()));
            }
        }
    }

    /// A waiter has room again: worth a poll only where something may be ready.
    pub(super) fn room(&self) {
        if !self.is_quiet() {
            self.wake.notify_one();
        }
    }

    /// Whether a start in this queue may lease eagerly.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Acquire)
    }

    pub(super) fn set_quiet(&self, quiet: bool) {
        self.quiet.store(quiet, Ordering::Release);
    }

    pub(super) fn set_polling(&self, polling: bool) {
        self.polling.store(polling, Ordering::Release);
    }

    /// Whether any waiter has room or needs a reply; waiters that left are removed.
    pub(super) fn somebody_waits(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.retain(|waiter| !waiter.is_over());
        waiting.iter().any(|waiter| waiter.waits())
    }

    pub(super) fn is_deserted(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.retain(|waiter| !waiter.is_over());
        waiting.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.waiting().len()
    }

    /// Replies to those of the first `present` that waited for just one more poll.
    pub(super) fn dismiss(&self, present: usize) {
        for waiter in self.waiting().iter().take(present).filter(|waiter| waiter.is_leaving()) {
            waiter.dismiss(Ok(()));
        }
    }

    /// Answers all unary workers with the store's refusal.
    pub(super) fn refuse_all(&self, error: &StoreError) {
        for waiter in self.waiting().iter().filter(|waiter| waiter.holder.is_none()) {
            waiter.dismiss(Err(error.clone().into()));
        }
    }

    /// Sets room aside for one poll, in the order of the waiters.
    pub(super) fn offers(&self) -> Vec<Offer> {
        let waiting = self.waiting();
        let with_room = waiting.iter().filter(|waiter| waiter.waits());
        with_room.filter_map(|waiter| waiter.offer(AT_A_POLL)).take(AT_A_POLL).collect()
    }

    /// Reserves room for so many operations, spread over the waiters.
    pub(super) fn single_offers(&self, most: usize) -> Vec<Offer> {
        let polling = self.polling.load(Ordering::Acquire);
        let mut waiting = self.waiting();
        let mut offers = Vec::with_capacity(most.min(waiting.len()));
        // A waiter without room, as during a poll, keeps its position.
        let mut position = 0;
        while offers.len() < most && position < waiting.len() {
            let waiter = &waiting[position];
            // A unary worker that arrived during a poll must not be served before those that arrived earlier.
            let passed_over = (polling && waiter.holder.is_none()) || waiter.is_over();
            let offer = if passed_over { None } else { waiter.offer(1) };
            let Some(offer) = offer else {
                position += 1;
                continue;
            };
            offers.push(offer);
            let served = waiting.remove(position);
            waiting.extend(served);
        }
        offers
    }

    /// A waiter that received a lease moves to the end. Reserved room that was not used is free again for all at once, so that no
    /// waiter is passed over for one behind it.
    pub(super) fn end_poll(&self, offers: Vec<Offer>, got: &[bool]) {
        let mut waiting = self.waiting();
        let served = |waiter: &Arc<Waiter>| {
            let mut offers = offers.iter().zip(got);
            offers.any(|(offer, got)| *got && Arc::ptr_eq(&offer.waiter, waiter))
        };
        let (served, rest): (VecDeque<_>, VecDeque<_>) = waiting.drain(..).partition(served);
        waiting.extend(rest.into_iter().chain(served));
        drop(offers);
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leases that one poll gives at most.
pub(super) const AT_A_POLL: usize = 256;

#[cfg(test)]
mod tests;
