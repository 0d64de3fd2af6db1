//! The dispatcher of each queue: one task that serves all workers waiting here, in the order in which they came.
//!
//! It looks where something may be ready: everywhere at first, then in the partitions that a commit of this server or a hint
//! named, and everywhere again after a gap. It runs while somebody waits, and a little longer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::{Notify, oneshot};

use super::batch::Grant;
use super::commit::understand;
use super::error::Result;
use super::recent::worth_keeping;
use super::{Engine, LeaseRequest, random};
use crate::limits::MAX_LEASES;
use crate::operation::command::{Command, Take};
use crate::operation::entries::ready_index;
use crate::operation::lease::Token;
use crate::operation::{Applied, Change, apply};
use crate::store::plan::Before;
use crate::store::{CommitError, Entry, Index, Key, Partition, Put, Scan, StoreError, WriteSet};

/// The dispatchers of one server, by queue.
#[derive(Default)]
pub(super) struct Dispatchers {
    queues: Mutex<HashMap<String, Arc<Dispatcher>>>,
}

struct Dispatcher {
    queue: String,
    waiting: Mutex<VecDeque<Waiting>>,
    places: Mutex<Vec<Place>>,
    wake: Notify,
}

/// What is known of a partition's part of the queue.
#[derive(Clone, Copy)]
struct Place {
    /// Something may be ready there.
    open: bool,
    /// The newest commit that opened it: a hint of this or an older one brings no news.
    revision: u64,
}

struct Waiting {
    request: LeaseRequest,
    reply: oneshot::Sender<Result<Vec<Grant>>>,
}

/// A candidate: what is at the head of the queue, decided for one of those who wait.
struct Candidate {
    key: Key,
    before: Before,
    change: Box<Change>,
    waiting: usize,
    generation: u64,
}

impl Dispatchers {
    /// A commit made something ready in a queue.
    pub(super) fn wake(&self, queue: &str, partition: Partition, revision: u64) {
        if let Some(dispatcher) = lock(&self.queues).get(queue)
            && dispatcher.open(partition, revision)
        {
            dispatcher.wake.notify_one();
        }
    }

    /// Something may have become ready anywhere.
    pub(super) fn wake_all(&self) {
        for dispatcher in lock(&self.queues).values() {
            dispatcher.open_all();
            dispatcher.wake.notify_one();
        }
    }
}

impl Engine {
    /// Waits for leases; the receiver is dropped by whoever stops waiting.
    pub(super) fn queue_up(&self, request: LeaseRequest) -> oneshot::Receiver<Result<Vec<Grant>>> {
        let (reply, receiver) = oneshot::channel();
        let queue = request.queue.as_str().to_owned();
        let mut queues = lock(&self.inner.dispatchers.queues);
        let dispatcher = queues.get(&queue).cloned();
        let dispatcher = dispatcher.unwrap_or_else(|| {
            let dispatcher =
                Arc::new(Dispatcher::new(queue.clone(), self.inner.store.keyspace().partitions()));
            queues.insert(queue, dispatcher.clone());
            let (engine, serving) = (self.clone(), dispatcher.clone());
            self.inner.tasks.spawn("dispatcher", async move { engine.dispatch(serving).await });
            dispatcher
        });
        if request.wait.is_zero() {
            // Whoever takes only what is there now is owed a look.
            dispatcher.open_all();
        }
        // Under the lock of all queues: the dispatcher cannot have gone in between.
        lock(&dispatcher.waiting).push_back(Waiting { request, reply });
        drop(queues);
        dispatcher.wake.notify_one();
        receiver
    }

    async fn dispatch(&self, dispatcher: Arc<Dispatcher>) {
        loop {
            let woken = tokio::select! {
                biased;
                () = dispatcher.wake.notified() => true,
                () = self.idle_for(IDLE), if !dispatcher.somebody_waits() => false,
            };
            while dispatcher.somebody_waits() && !self.is_draining() {
                match self.serve_round(&dispatcher).await {
                    Ok(true) => {}
                    Ok(false) => {
                        dispatcher.send_away_the_impatient();
                        break;
                    }
                    Err(error) => {
                        dispatcher.refuse_all(&error);
                        break;
                    }
                }
            }
            if !woken && self.retire(&dispatcher) {
                return;
            }
        }
    }

    /// One look at the queue, for all who wait; whether another look makes sense.
    async fn serve_round(&self, dispatcher: &Dispatcher) -> std::result::Result<bool, StoreError> {
        let store = &self.inner.store;
        let demands = dispatcher.demands();
        let wanted = demands.iter().map(|request| request.max).sum::<usize>().min(MAX_LEASES);
        let look = dispatcher.look();
        if look.partitions.is_empty() {
            look.found_all();
            return Ok(false);
        }
        let entries = self.scan_ready(&dispatcher.queue, &look.partitions, wanted).await?;
        let keys: Vec<Key> = entries.iter().filter_map(Entry::key).collect();
        if keys.is_empty() {
            look.found_all();
            return Ok(false);
        }
        let candidates = self.decide(&demands, &keys).await?;
        let raced = candidates.len() < keys.len();
        let sets: Vec<WriteSet> = candidates
            .iter()
            .map(|candidate| self.plan(candidate.key, Some(&candidate.before), &candidate.change))
            .collect();
        let puts: Vec<Option<Put>> = sets
            .iter()
            .zip(&candidates)
            .map(|(set, candidate)| worth_keeping(set, &candidate.change))
            .collect();
        let results = store.commit(sets).await;
        let mut grants: Vec<Vec<Grant>> = demands.iter().map(|_| Vec::new()).collect();
        let (mut conflicts, mut left) = (raced, false);
        for ((candidate, put), result) in candidates.into_iter().zip(puts).zip(results) {
            let stamps = candidate.before.stamps;
            match result {
                Ok(committed) => {
                    put.into_iter().for_each(|put| self.inner.recent.keep(put, committed));
                    let record = self.committed(
                        candidate.key,
                        candidate.generation,
                        Some(stamps),
                        *candidate.change,
                        committed,
                    );
                    grants[candidate.waiting]
                        .extend(record.and_then(|record| Grant::new(candidate.key, record)));
                }
                // A lease that may have been given without its worker hearing of it is lost by time, as any other.
                Err(CommitError::Unavailable(error)) => {
                    tracing::warn!(%error, "a lease may have been lost on its way");
                    left = true;
                }
                Err(CommitError::Conflict | CommitError::Early) => conflicts = true,
            }
        }
        let served = grants.iter().any(|grants| !grants.is_empty());
        if entries.len() < wanted && !conflicts && !left {
            look.found_all();
        }
        dispatcher.hand_out(self, grants);
        Ok(served || conflicts)
    }

    /// What is ready in some partitions, in the order of the queue.
    async fn scan_ready(
        &self,
        queue: &str,
        partitions: &[Partition],
        wanted: usize,
    ) -> std::result::Result<Vec<Entry>, StoreError> {
        let store = &self.inner.store;
        let scan = Scan::first(Index::new(ready_index(queue)), wanted);
        if partitions.len() > FEW_PARTITIONS {
            return store.scan(scan).await;
        }
        let scans = partitions.iter().map(|partition| store.scan(scan.clone().within(*partition)));
        let found = try_join_all(scans).await?.into_iter().flatten().collect();
        Ok(scan.merge(found))
    }

    /// Reads what is at the head of the queue and gives it to those who wait, first come, first served.
    async fn decide(
        &self,
        demands: &[LeaseRequest],
        keys: &[Key],
    ) -> std::result::Result<Vec<Candidate>, StoreError> {
        let store = &self.inner.store;
        let mut places = demands
            .iter()
            .enumerate()
            .flat_map(|(waiting, request)| std::iter::repeat_n((waiting, request), request.max));
        let generations: Vec<u64> = keys
            .iter()
            .map(|key| self.inner.hub.generation(store.keyspace().partition(*key)))
            .collect();
        let records = store.get(keys).await?;
        let mut candidates = Vec::with_capacity(keys.len());
        for ((key, record), generation) in keys.iter().zip(records).zip(generations) {
            let Some(record) = record else { continue };
            let before = understand(&record)?;
            let Some((waiting, request)) = places.next() else { break };
            let take = Take {
                token: Token(random()),
                worker: request.worker.clone(),
                duration: request.duration,
                holder: None,
            };
            let now = store.now(store.keyspace().partition(*key));
            if let Ok(Applied::Changed(change)) = apply(&before.record, &Command::Lease(take), now)
            {
                candidates.push(Candidate { key: *key, before, change, waiting, generation });
            }
        }
        Ok(candidates)
    }

    /// Ends a dispatcher for whom nobody waits.
    fn retire(&self, dispatcher: &Arc<Dispatcher>) -> bool {
        let mut queues = lock(&self.inner.dispatchers.queues);
        let idle = !dispatcher.somebody_waits();
        if idle {
            queues.remove(&dispatcher.queue);
        }
        idle
    }
}

/// A look at what may be ready. Until it has found all, dropping it leaves those places open.
struct Look<'a> {
    dispatcher: &'a Dispatcher,
    partitions: Vec<Partition>,
}

impl Look<'_> {
    /// Nothing is left in these partitions but what was opened meanwhile.
    fn found_all(mut self) {
        self.partitions.clear();
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let mut places = lock(&self.dispatcher.places);
        for partition in &self.partitions {
            places[usize::from(partition.0)].open = true;
        }
    }
}

impl Dispatcher {
    fn new(queue: String, partitions: u16) -> Self {
        let places = vec![Place { open: true, revision: 0 }; usize::from(partitions)];
        Self { queue, waiting: Mutex::default(), places: Mutex::new(places), wake: Notify::new() }
    }

    /// Whether that is news.
    fn open(&self, partition: Partition, revision: u64) -> bool {
        let mut places = lock(&self.places);
        let Some(place) = places.get_mut(usize::from(partition.0)) else { return true };
        let news = revision > place.revision;
        if news {
            *place = Place { open: true, revision };
        }
        news
    }

    /// Also forgets the revisions: after a gap the store may have gone back.
    fn open_all(&self) {
        lock(&self.places).fill(Place { open: true, revision: 0 });
    }

    /// Closes what is open, to look there.
    fn look(&self) -> Look<'_> {
        let mut places = lock(&self.places);
        let open = (0..).map(Partition).zip(places.iter_mut());
        let open = open
            .filter_map(|(partition, place)| std::mem::take(&mut place.open).then_some(partition));
        Look { dispatcher: self, partitions: open.collect() }
    }

    /// Whether anybody still waits; those who left are forgotten.
    fn somebody_waits(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.retain(|waiting| !waiting.reply.is_closed());
        !waiting.is_empty()
    }

    fn demands(&self) -> Vec<LeaseRequest> {
        lock(&self.waiting).iter().take(MAX_LEASES).map(|waiting| waiting.request.clone()).collect()
    }

    /// Answers those at the head of the line for whom there is something; `grants` is in their order.
    fn hand_out(&self, engine: &Engine, grants: Vec<Vec<Grant>>) {
        let mut line = lock(&self.waiting);
        let mut rest = VecDeque::with_capacity(line.len());
        let mut unheard = Vec::new();
        for grants in grants {
            let Some(waiting) = line.pop_front() else {
                unheard.extend(grants);
                continue;
            };
            if grants.is_empty() {
                rest.push_back(waiting);
            } else if let Err(Ok(back)) = waiting.reply.send(Ok(grants)) {
                unheard.extend(back);
            }
        }
        rest.append(&mut line);
        *line = rest;
        drop(line);
        engine.release_unseen(unheard);
    }

    /// Whoever wanted only what is there now has seen that there is nothing.
    fn send_away_the_impatient(&self) {
        let mut line = lock(&self.waiting);
        let (leaving, staying): (VecDeque<_>, VecDeque<_>) =
            line.drain(..).partition(|waiting| waiting.request.wait.is_zero());
        *line = staying;
        drop(line);
        for waiting in leaving {
            // Whoever left needs no answer.
            let _ = waiting.reply.send(Ok(Vec::new()));
        }
    }

    fn refuse_all(&self, error: &StoreError) {
        for waiting in lock(&self.waiting).drain(..) {
            // Whoever left needs no answer.
            let _ = waiting.reply.send(Err(error.clone().into()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So long a dispatcher knows where nothing is ready while nobody asks.
const IDLE: Duration = Duration::from_secs(5);
/// So many partitions are asked one by one rather than all at once.
const FEW_PARTITIONS: usize = 4;
