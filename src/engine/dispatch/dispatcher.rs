//! The dispatcher of each queue: one task that serves all workers waiting here, in the order in which they came.
//!
//! It looks at the queue when a worker arrives, when a worker has room again and more may be ready, and when a hint says that
//! something became ready. It lives only while somebody is in the line. Where a look found nothing more, the queue is *quiet*,
//! and a start may commit with the lease of a waiting worker in it (`starts.rs`).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Timestamp;
use crate::engine::dispatch::batch::{Grant, weight};
use crate::engine::dispatch::seat::{Offer, Place, Seat};
use crate::engine::transact::{Assumed, Decision, Ended, Transaction};
use crate::engine::{Engine, random};
use crate::limits::MAX_REPLY_BYTES;
use crate::operation::command::{Command, Take};
use crate::operation::entries::{DueClass, ready_index};
use crate::operation::lease::Token;
use crate::operation::{Applied, Record, apply};
use crate::record::{Before, Change};
use crate::store::{CommitError, Entry, Index, Key, Scan, StoreError};

/// The dispatchers of one server, by queue.
#[derive(Default)]
pub(in crate::engine) struct Dispatchers {
    queues: Mutex<HashMap<String, Arc<Dispatcher>>>,
}

pub(in crate::engine) struct Dispatcher {
    queue: String,
    line: Mutex<VecDeque<Arc<Seat>>>,
    wake: Notify,
    /// The last look took all that was ready. What became so since has asked for another look; until that comes, starts may be
    /// given away before it. Where there is no room for another look, it is not quiet.
    quiet: AtomicBool,
    /// A look is under way: room of those who wait longest is set aside for what it finds.
    looking: AtomicBool,
    /// A look is about to come for what others were left a moment for.
    late: AtomicBool,
}

/// What came of one look at the queue.
#[derive(Clone, Copy)]
struct Round {
    /// Somebody got something.
    served: bool,
    /// Something was there that could not be had: another look makes sense.
    raced: bool,
    /// How much of what was there cannot be taken by anybody now.
    unfit: usize,
}

/// A candidate: what is at the head of the queue, decided for one of those who wait.
struct Candidate {
    key: Key,
    command: Command,
    before: Option<Before<Record>>,
    change: Option<Box<Change<Record>>>,
    /// Which of the offers it is for.
    offer: usize,
    /// It turned out that it cannot be leased.
    refused: bool,
}

/// What one look makes of the head of the queue.
struct Decided {
    candidates: Vec<Candidate>,
    /// How much of it nobody can take.
    unfit: usize,
    /// What ran out of time while it waited, and by which bound.
    overdue: Vec<(DueClass, Key)>,
    /// What has an entry but no record.
    orphans: Vec<Key>,
}

impl Dispatchers {
    /// Something became ready in a queue.
    pub(in crate::engine) fn wake(&self, queue: &str) {
        if let Some(dispatcher) = lock(&self.queues).get(queue) {
            dispatcher.wake.notify_one();
        }
    }

    /// Whom to wake for what others are left a moment for; nobody where nobody is in the line, or that is about to be done.
    pub(in crate::engine) fn hold_back(&self, queue: &str) -> Option<Arc<Dispatcher>> {
        let dispatcher = lock(&self.queues).get(queue).cloned()?;
        (!dispatcher.late.swap(true, Ordering::AcqRel)).then_some(dispatcher)
    }

    /// A worker of a queue has room again: worth a look only where something may be ready.
    pub(in crate::engine) fn room(&self, queue: &str) {
        if let Some(dispatcher) = lock(&self.queues).get(queue)
            && !dispatcher.quiet.load(Ordering::Acquire)
        {
            dispatcher.wake.notify_one();
        }
    }

    /// Room for what is about to be started in a queue where nothing else is ready, for up to `most` operations.
    pub(in crate::engine) fn eager(&self, queue: &str, most: usize) -> Vec<Offer> {
        let dispatcher = lock(&self.queues).get(queue).cloned();
        let quiet = dispatcher.filter(|dispatcher| dispatcher.quiet.load(Ordering::Acquire));
        quiet.map_or_else(Vec::new, |dispatcher| dispatcher.single_offers(most))
    }

    /// Somebody left a line.
    pub(in crate::engine) fn retire_soon(&self, queue: &str) {
        if let Some(dispatcher) = lock(&self.queues).get(queue) {
            dispatcher.wake.notify_one();
        }
    }

    /// Whether a start in that queue may be given away.
    #[cfg(test)]
    pub(in crate::engine) fn is_quiet(&self, queue: &str) -> bool {
        let dispatcher = lock(&self.queues).get(queue).cloned();
        dispatcher.is_some_and(|dispatcher| dispatcher.quiet.load(Ordering::Acquire))
    }

    /// How many there are.
    #[cfg(test)]
    pub(in crate::engine) fn count(&self) -> usize {
        lock(&self.queues).len()
    }

    /// Something may have become ready anywhere.
    pub(in crate::engine) fn wake_all(&self) {
        lock(&self.queues).values().for_each(|dispatcher| dispatcher.wake.notify_one());
    }
}

impl Engine {
    /// Takes a seat in the line of a queue.
    pub(in crate::engine) fn queue_up(&self, queue: &str, seat: Seat) -> Place {
        let seat = Arc::new(seat);
        let mut queues = lock(&self.inner.dispatchers.queues);
        let dispatcher = queues.get(queue).cloned().unwrap_or_else(|| {
            let dispatcher = Arc::new(Dispatcher {
                queue: queue.to_owned(),
                line: Mutex::default(),
                wake: Notify::new(),
                quiet: AtomicBool::new(false),
                looking: AtomicBool::new(false),
                late: AtomicBool::new(false),
            });
            queues.insert(queue.to_owned(), dispatcher.clone());
            let (engine, serving) = (self.clone(), dispatcher.clone());
            self.inner.tasks.spawn("dispatcher", async move { engine.dispatch(serving).await });
            dispatcher
        });
        // Under the lock of all queues: the dispatcher cannot have gone in between.
        lock(&dispatcher.line).push_back(seat.clone());
        drop(queues);
        dispatcher.wake.notify_one();
        Place::new(self.clone(), queue.to_owned(), seat)
    }

    /// What a lease for that seat is asked for with.
    pub(in crate::engine) fn take_for(&self, seat: &Seat) -> Take {
        Take {
            token: Token(random()),
            worker: seat.worker.clone(),
            duration: seat.duration,
            holder: seat.holder,
            stall_timeout: self.inner.settings.stall_timeout,
        }
    }

    async fn dispatch(&self, dispatcher: Arc<Dispatcher>) {
        loop {
            dispatcher.wake.notified().await;
            if !dispatcher.somebody_waits() {
                // The look that was asked for comes when there is room.
                dispatcher.quiet.store(false, Ordering::Release);
            }
            while let Err(error) = self.serve(&dispatcher).await {
                dispatcher.refuse_all(&error);
                // Streams stay in the line: the store comes back, and nobody may tell.
                if !dispatcher.somebody_waits() {
                    break;
                }
                self.idle_for(AWAY).await;
            }
            if self.retire(&dispatcher) {
                return;
            }
        }
    }

    /// Looks at the queue until nobody waits or nothing is there.
    async fn serve(&self, dispatcher: &Dispatcher) -> std::result::Result<(), StoreError> {
        let (mut fruitless, mut unfit) = (0, 0);
        while dispatcher.somebody_waits() && !self.is_draining() {
            let present = dispatcher.length();
            dispatcher.looking.store(true, Ordering::Release);
            let round = self.serve_round(dispatcher, unfit).await;
            dispatcher.looking.store(false, Ordering::Release);
            let round = round?;
            unfit = round.unfit;
            if round.served {
                fruitless = 0;
                continue;
            }
            if !round.raced {
                dispatcher.dismiss(present);
                return Ok(());
            }
            fruitless += 1;
            if fruitless > RACES {
                // What nobody can take stays at the head of the queue: no need to look at it all the time.
                dispatcher.dismiss(present);
                tokio::select! {
                    () = dispatcher.wake.notified() => {}
                    () = self.idle_for(PAUSE * (fruitless - RACES).min(MAX_PAUSES)) => {}
                }
            }
        }
        Ok(())
    }

    /// One look at the queue, for all who wait, beyond `unfit` entries that nobody could take the last time.
    async fn serve_round(
        &self,
        dispatcher: &Dispatcher,
        unfit: usize,
    ) -> std::result::Result<Round, StoreError> {
        let mut offers = dispatcher.offers();
        let wanted = offers.iter().map(Offer::room).sum::<usize>().min(AT_A_LOOK) + unfit;
        let index = Index::new(ready_index(&dispatcher.queue));
        let entries = self.inner.store.scan(Scan::first(index, wanted)).await?;
        let keys: Vec<Key> = entries.iter().filter_map(Entry::key).collect();
        dispatcher.quiet.store(keys.len() < wanted, Ordering::Release);
        if keys.is_empty() {
            dispatcher.end_look(offers, &[]);
            return Ok(Round { served: false, raced: false, unfit: 0 });
        }
        let Decided { candidates, unfit, overdue, orphans } = self.decide(&offers, &keys).await?;
        let taken = self.take_all(&offers, candidates).await;
        let got: Vec<bool> = taken.grants.iter().map(|grants| !grants.is_empty()).collect();
        let served = got.contains(&true);
        for (offer, grants) in offers.iter_mut().zip(taken.grants) {
            let unheard = offer.fill(grants);
            self.take_back(&offer.seat, unheard);
        }
        dispatcher.end_look(offers, &got);
        self.end_overdue(overdue).await;
        let orphan = |entry: &Entry| entry.key().is_some_and(|key| orphans.contains(&key));
        let orphans = entries.into_iter().filter(orphan).collect();
        self.drop_orphans(&Index::new(ready_index(&dispatcher.queue)), orphans).await;
        let raced = unfit > 0 || taken.raced;
        taken.outage.map_or(Ok(Round { served, raced, unfit }), Err)
    }

    /// Reads what is at the head of the queue and gives it to those who wait, first come, first served, and to each no more than
    /// a reply holds. What nobody can take is counted.
    async fn decide(
        &self,
        offers: &[Offer],
        keys: &[Key],
    ) -> std::result::Result<Decided, StoreError> {
        let store = &self.inner.store;
        let (mut waiting, mut given, mut bytes, mut unfit) = (0, 0, 0, 0);
        let records = self.read_each::<Record>(keys).await?;
        let (mut candidates, mut overdue) = (Vec::with_capacity(keys.len()), Vec::new());
        let mut orphans = Vec::new();
        for (key, record) in keys.iter().zip(records) {
            // What cannot be read must not keep everything behind it in the queue from being taken.
            let before = match record {
                Ok(Some(before)) => before,
                nothing => {
                    unfit += 1;
                    orphans.extend(nothing.is_ok().then_some(*key));
                    continue;
                }
            };
            let size = before.record.operation().map_or(0, weight);
            let room = offers.get(waiting).map_or(0, Offer::room);
            if given > 0 && (given >= room || bytes + size > MAX_REPLY_BYTES) {
                (waiting, given, bytes) = (waiting + 1, 0, 0);
            }
            let Some(offer) = offers.get(waiting) else { break };
            let command = Command::Lease(self.take_for(&offer.seat));
            let now = store.now(self.partition(*key));
            if let Ok(Applied::Changed(change)) = apply(&before.record, &command, now) {
                candidates.push(Candidate {
                    key: *key,
                    command,
                    before: Some(before),
                    change: Some(Box::new((*change).into())),
                    offer: waiting,
                    refused: false,
                });
                (given, bytes) = (given + 1, bytes + size);
            } else {
                unfit += 1;
                let late = before.record.operation().and_then(|operation| operation.overdue(now));
                overdue.extend(late.map(|class| (class, *key)));
            }
        }
        Ok(Decided { candidates, unfit, overdue, orphans })
    }

    /// Commits the leases.
    async fn take_all(&self, offers: &[Offer], mut candidates: Vec<Candidate>) -> Taken {
        let mut taken = Taken::of(offers.len());
        for candidate in &candidates {
            self.expect(candidate.key, &offers[candidate.offer].seat);
        }
        let ends = self.transact(&mut candidates).await;
        for (candidate, ended) in candidates.into_iter().zip(ends) {
            let (key, offer) = (candidate.key, candidate.offer);
            let grant = self.granted(candidate, ended, &mut taken);
            match &grant {
                Some(_) => self.inner.metrics.given.by_dispatcher(),
                None => self.inner.held.leave(key, &offers[offer].seat),
            }
            taken.grants[offer].extend(grant);
        }
        taken
    }

    fn granted(
        &self,
        candidate: Candidate,
        ended: Ended<Record>,
        taken: &mut Taken,
    ) -> Option<Grant> {
        let Candidate { key, change, refused, .. } = candidate;
        let record = match ended {
            Ended::Written { record, .. } => record,
            // The store had taken it without saying so.
            Ended::Kept { before: Some(before), .. } if !refused => Some(before.record),
            Ended::Failed(CommitError::Unavailable(error)) => {
                let lost = change.and_then(|change| change.main);
                let lost = lost.and_then(|record| Grant::new(key, record));
                self.release_unseen(lost.into_iter().collect());
                taken.outage = Some(error);
                None
            }
            // Another worker has it.
            Ended::Kept { .. } | Ended::Failed(_) | Ended::Unknown | Ended::Unreadable => {
                taken.raced = true;
                None
            }
        };
        record.and_then(|record| Grant::new(key, record)).and_then(|grant| self.in_time(grant))
    }

    /// Before a lease is committed for a stream: from then on it hears of all that happens to it.
    pub(in crate::engine) fn expect(&self, key: Key, seat: &Arc<Seat>) {
        if seat.holder.is_some() {
            self.inner.held.enter(key, seat);
        }
    }

    /// Ends a dispatcher in whose line nobody is.
    fn retire(&self, dispatcher: &Arc<Dispatcher>) -> bool {
        let mut queues = lock(&self.inner.dispatchers.queues);
        let idle = dispatcher.is_deserted();
        if idle {
            queues.remove(&dispatcher.queue);
        }
        idle
    }
}

impl Transaction for Candidate {
    type Kind = Record;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<Record> {
        self.before.take().map_or(Assumed::Nothing, Assumed::Known)
    }

    fn decide(
        &mut self,
        _engine: &Engine,
        before: Option<&Before<Record>>,
        certain: bool,
        now: Timestamp,
    ) -> Decision<Record> {
        if !certain && let Some(change) = self.change.take() {
            return Decision::Commit(change);
        }
        // After an unknown outcome the token tells whether the lease was given.
        match before.map(|before| apply(&before.record, &self.command, now)) {
            Some(Ok(Applied::Changed(change))) => Decision::Commit(Box::new((*change).into())),
            Some(Ok(Applied::Unchanged(_))) => Decision::Keep,
            Some(Err(_)) | None => {
                self.refused = true;
                Decision::Keep
            }
        }
    }

    fn withdrawn(&mut self, change: Change<Record>) {
        self.change = Some(Box::new(change));
    }

    fn competes(&self) -> bool {
        false
    }
}

/// What came of committing leases.
struct Taken {
    /// For each offer.
    grants: Vec<Vec<Grant>>,
    raced: bool,
    outage: Option<StoreError>,
}

impl Taken {
    fn of(offers: usize) -> Self {
        Self { grants: (0..offers).map(|_| Vec::new()).collect(), raced: false, outage: None }
    }
}

impl Dispatcher {
    /// The moment that others were left is over.
    pub(in crate::engine) fn wake(&self) {
        self.late.store(false, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether anybody has room or wants an answer; those who left are forgotten.
    fn somebody_waits(&self) -> bool {
        let mut line = lock(&self.line);
        line.retain(|seat| !seat.is_over());
        line.iter().any(|seat| seat.waits())
    }

    fn is_deserted(&self) -> bool {
        let mut line = lock(&self.line);
        line.retain(|seat| !seat.is_over());
        line.is_empty()
    }

    fn length(&self) -> usize {
        lock(&self.line).len()
    }

    /// Answers those of the first `present` in the line who wanted just one more look.
    fn dismiss(&self, present: usize) {
        for seat in lock(&self.line).iter().take(present).filter(|seat| seat.is_leaving()) {
            seat.dismiss(Ok(()));
        }
    }

    /// Sets room aside for one look, in the order of the line.
    fn offers(&self) -> Vec<Offer> {
        let line = lock(&self.line);
        let waiting = line.iter().filter(|seat| seat.waits());
        waiting.filter_map(|seat| seat.offer(AT_A_LOOK)).take(AT_A_LOOK).collect()
    }

    /// Sets room aside for so many operations, spread over those who wait.
    fn single_offers(&self, most: usize) -> Vec<Offer> {
        let looking = self.looking.load(Ordering::Acquire);
        let mut line = lock(&self.line);
        let mut offers = Vec::with_capacity(most.min(line.len()));
        // Whoever has no room just now, as during a look, keeps the place in the line.
        let mut place = 0;
        while offers.len() < most && place < line.len() {
            let seat = &line[place];
            // A unary worker that came during a look must not be served before those who came earlier.
            let passed_over = (looking && seat.holder.is_none()) || seat.is_over();
            let offer = if passed_over { None } else { seat.offer(1) };
            let Some(offer) = offer else {
                place += 1;
                continue;
            };
            offers.push(offer);
            let served = line.remove(place);
            line.extend(served);
        }
        offers
    }

    /// Whoever got something goes to the end of the line; what a look set aside and nobody got is free again, for all at once, so
    /// that nobody is passed over for somebody behind.
    fn end_look(&self, offers: Vec<Offer>, got: &[bool]) {
        let mut line = lock(&self.line);
        let served = |seat: &Arc<Seat>| {
            let mut offers = offers.iter().zip(got);
            offers.any(|(offer, got)| *got && Arc::ptr_eq(&offer.seat, seat))
        };
        let (served, rest): (VecDeque<_>, VecDeque<_>) = line.drain(..).partition(served);
        line.extend(rest.into_iter().chain(served));
        drop(offers);
    }

    fn refuse_all(&self, error: &StoreError) {
        for seat in lock(&self.line).iter().filter(|seat| seat.holder.is_none()) {
            seat.dismiss(Err(error.clone().into()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leases that one look gives at most.
const AT_A_LOOK: usize = 256;
/// Looks without success that follow each other at once.
const RACES: u32 = 3;
/// What each further look without success adds to the pause before the next.
const PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSES: u32 = 100;
/// How long after a store's refusal the next look is.
const AWAY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
