//! The dispatcher of each queue: one task that serves all workers waiting here, in the order of their arrival. Workers that get
//! the operations of some parents only have dispatchers of their own, one for all with the same parents.
//!
//! It polls the queue when a worker arrives, when a worker has room again and more may be ready, and when a hint says that
//! an operation became ready. It lives while a worker waits. After a poll that found nothing more, the queue is *quiet*, and a
//! start may commit with the lease of a waiting worker in it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::access::LeaseScope;
use crate::engine::context::Context;
use crate::engine::dispatch::grants::Grants;
use crate::engine::dispatch::poller::{PollBounds, Poller};
use crate::engine::dispatch::turns::Turns;
use crate::engine::dispatch::waiters::{AT_A_POLL, Waiters};
#[cfg(test)]
use crate::engine::gates::desk::Gates;
use crate::engine::leases::waiter::{Offer, Waiter};
use crate::engine::queues::bucket::Bucket;
use crate::engine::queues::known::{KnownQueues, QueueTerms};
use crate::operation::gate::GateLimit;
use crate::record::queue::PARTITION;
use crate::store::StoreError;

/// The dispatchers of one server, by queue.
pub(in crate::engine) struct Dispatch {
    context: Arc<Context>,
    known: Arc<KnownQueues>,
    poller: Poller,
    pub(super) grants: Arc<Grants>,
    queues: Mutex<HashMap<String, Vec<Arc<Waiters>>>>,
    /// Of queues whose workers have all been served, so that a worker that asks again and again meets all parents.
    past: Mutex<HashMap<(String, LeaseScope), Turns>>,
}

impl Dispatch {
    pub(in crate::engine) fn new(
        context: Arc<Context>,
        known: Arc<KnownQueues>,
        poller: Poller,
        grants: Arc<Grants>,
    ) -> Self {
        Self { context, known, poller, grants, queues: Mutex::default(), past: Mutex::default() }
    }

    /// Adds a waiter to those of a queue, which gets a dispatcher if it has none.
    pub(super) fn enter(self: &Arc<Self>, queue: &str, waiter: Arc<Waiter>) -> Arc<Waiters> {
        waiter.set_drained(self.is_drained(queue, &waiter));
        let mut queues = self.queues();
        let groups = queues.get(queue).map_or(&[][..], |groups| &groups[..]);
        let group = groups.iter().find(|group| group.scope == waiter.scope).cloned();
        let waiters = group.unwrap_or_else(|| {
            let wake = self.known.wakes().add(queue);
            let waiters = Arc::new(Waiters::new(queue, waiter.scope.clone(), wake));
            queues.entry(queue.to_owned()).or_default().push(Arc::clone(&waiters));
            let dispatcher = Arc::clone(self).run(Arc::clone(&waiters));
            self.context.tasks.spawn("dispatcher", dispatcher);
            waiters
        });
        // Under the lock of all queues: the dispatcher cannot have gone in between.
        waiters.push(waiter);
        waiters
    }

    /// Reserves room for up to `most` starts below a parent in a queue, with workers that have nothing else ready.
    pub(in crate::engine) fn eager(&self, queue: &str, parent: &str, most: usize) -> Vec<Offer> {
        let mut tried = 0;
        loop {
            let (waiters, is_last) = {
                let queues = self.queues();
                let groups = queues.get(queue).map_or(&[][..], |groups| &groups[..]);
                let mut groups =
                    groups.iter().filter(|group| group.is_quiet() && group.scope.covers(parent));
                (groups.nth(tried).cloned(), groups.next().is_none())
            };
            let offers = waiters.map_or_else(Vec::new, |waiters| self.eager_offers(&waiters, most));
            if is_last || !offers.is_empty() {
                return offers;
            }
            tried += 1;
        }
    }

    fn eager_offers(&self, waiters: &Waiters, most: usize) -> Vec<Offer> {
        let queue = waiters.queue.as_str();
        let Some(terms) = self.known.of(queue) else { return waiters.single_offers(most) };
        // The dispatcher may not have noticed yet.
        self.note_drained(waiters, Some(&terms));
        // Where a slot is needed, only a poll takes one.
        if terms.settings.paused || terms.settings.max_running > 0 {
            return Vec::new();
        }
        let Some(bucket) = &terms.bucket else { return waiters.single_offers(most) };
        let tokens = bucket.take(most, self.context.clock.elapsed());
        if tokens == 0 {
            // What is started now must not wait behind what is started when there are tokens again.
            waiters.set_quiet(false);
            return Vec::new();
        }
        let offers = waiters.single_offers(tokens);
        bucket.give_back(tokens - offers.len());
        offers.into_iter().map(|offer| offer.paid_from(bucket)).collect()
    }

    /// The aging interval of a queue, unless it is as for every queue.
    pub(in crate::engine) fn aging_interval(&self, queue: &str) -> Option<Duration> {
        self.known.aging_interval(queue)
    }

    /// How many operations of a queue may run at the same time, if that is limited.
    pub(in crate::engine) fn max_running(&self, queue: &str) -> Option<GateLimit> {
        self.known.limit_of(queue)
    }

    async fn run(self: Arc<Self>, waiters: Arc<Waiters>) {
        let mut turns = self.past().remove(&waiters.group()).unwrap_or_default();
        loop {
            waiters.wake.notified().await;
            self.note_drained(&waiters, self.known.of(&waiters.queue).as_deref());
            if !waiters.somebody_waits() {
                // The requested poll runs when there is room.
                waiters.set_quiet(false);
            }
            while let Err(error) = self.serve(&waiters, &mut turns).await {
                waiters.refuse_all(&error);
                // Streams keep waiting: the store comes back, and a stream cannot receive this error.
                if !waiters.somebody_waits() {
                    break;
                }
                self.context.sleep(AWAY).await;
            }
            if self.retire(&waiters, &mut turns) {
                return;
            }
        }
    }

    /// Polls the queue until no worker waits or nothing is ready.
    async fn serve(&self, waiters: &Waiters, turns: &mut Turns) -> Result<(), StoreError> {
        let (mut fruitless, mut unfit) = (0, 0);
        while waiters.somebody_waits() && !self.context.is_draining() {
            let present = waiters.count();
            let terms = self.known.read_of(&waiters.queue).await?;
            self.note_drained(waiters, terms.as_deref());
            if terms.as_ref().is_some_and(|terms| terms.settings.paused) {
                // The end of the pause wakes this dispatcher.
                waiters.set_quiet(false);
                waiters.dismiss(present);
                return Ok(());
            }
            let bucket = terms.as_ref().and_then(|terms| terms.bucket.as_ref());
            let tokens = match bucket {
                Some(bucket) => bucket.take(AT_A_POLL, self.context.clock.elapsed()),
                None => AT_A_POLL,
            };
            if let Some(bucket) = bucket.filter(|_| tokens == 0) {
                waiters.set_quiet(false);
                waiters.dismiss(present);
                self.wait_for_tokens(waiters, bucket).await;
                continue;
            }
            waiters.set_polling(true);
            let max_running = self.max_running(&waiters.queue);
            let bounds = PollBounds { unfit, most: tokens, max_running };
            let polled = self.poller.poll(waiters, turns, bounds).await;
            waiters.set_polling(false);
            let polled = polled?;
            if let Some(bucket) = bucket {
                bucket.give_back(tokens - polled.given);
            }
            unfit = polled.unfit;
            if polled.served || polled.learned {
                fruitless = 0;
                continue;
            }
            if !polled.raced {
                waiters.dismiss(present);
                return Ok(());
            }
            fruitless += 1;
            if fruitless > RACES {
                // Operations that no worker accepts stay at the head of the queue: constant polling would not help.
                waiters.dismiss(present);
                tokio::select! {
                    () = waiters.wake.notified() => {}
                    () = self.context.sleep(PAUSE * (fruitless - RACES).min(MAX_PAUSES)) => {}
                }
            }
        }
        Ok(())
    }

    /// Whether an operator has drained the worker, as far as this server knows.
    fn is_drained(&self, queue: &str, waiter: &Waiter) -> bool {
        let Some(terms) = self.known.of(queue) else { return false };
        terms.is_drained(waiter, self.context.store.now(PARTITION))
    }

    /// Tells waiters whether an operator has drained their workers.
    fn note_drained(&self, waiters: &Waiters, terms: Option<&QueueTerms>) {
        let drains = terms.is_some_and(|terms| !terms.settings.drained.is_empty());
        if waiters.drains.swap(drains, Ordering::AcqRel) || drains {
            let now = self.context.store.now(PARTITION);
            waiters.note_drained(|waiter| terms.is_some_and(|terms| terms.is_drained(waiter, now)));
        }
    }

    /// Waits until the limit of the queue allows a lease, or something has changed.
    async fn wait_for_tokens(&self, waiters: &Waiters, bucket: &Bucket) {
        let pause = bucket.next(self.context.clock.elapsed());
        tokio::select! {
            () = waiters.wake.notified() => {}
            () = self.context.sleep(pause) => {}
        }
    }

    /// Ends a dispatcher without waiters. The next one goes on with the turns.
    fn retire(&self, waiters: &Waiters, turns: &mut Turns) -> bool {
        let mut queues = self.queues();
        let idle = waiters.is_deserted();
        if idle && let Some(groups) = queues.get_mut(&waiters.queue) {
            // Under the lock of all queues: the next dispatcher begins after this.
            self.keep(waiters, std::mem::take(turns));
            groups.retain(|group| Arc::as_ptr(group) != std::ptr::from_ref(waiters));
            if groups.is_empty() {
                queues.remove(&waiters.queue);
            }
            self.known.wakes().remove(&waiters.queue, &waiters.wake);
        }
        idle
    }

    fn keep(&self, waiters: &Waiters, turns: Turns) {
        if !turns.has_backlog() {
            return;
        }
        let mut past = self.past();
        if past.len() >= MAX_PAST
            && let Some(any) = past.keys().next().cloned()
        {
            past.remove(&any);
        }
        past.insert(waiters.group(), turns);
    }

    fn past(&self) -> MutexGuard<'_, HashMap<(String, LeaseScope), Turns>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Waiters>>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueTerms {
    /// Whether an operator has drained that worker.
    fn is_drained(&self, waiter: &Waiter, now: Timestamp) -> bool {
        self.settings.is_drained(&waiter.worker, &waiter.process, now)
    }
}

#[cfg(test)]
impl Dispatch {
    /// Whether a start in that queue may lease eagerly.
    pub(in crate::engine) fn is_quiet(&self, queue: &str) -> bool {
        self.queues().get(queue).is_some_and(|groups| groups.iter().all(|group| group.is_quiet()))
    }

    /// The gates that its leases pass.
    pub(in crate::engine) fn gates(&self) -> &Gates {
        &self.grants.gates
    }

    /// How many dispatchers there are.
    pub(in crate::engine) fn count(&self) -> usize {
        self.queues().values().map(Vec::len).sum()
    }
}

/// Queues whose turns are remembered without a worker that waits. Beyond that, the turns of some begin again.
const MAX_PAST: usize = 256;
/// Polls without success that follow each other at once.
const RACES: u32 = 3;
/// Added to the pause before the next poll for each poll without success.
const PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSES: u32 = 100;
/// How long after a store's refusal the next poll is.
const AWAY: Duration = Duration::from_secs(1);
