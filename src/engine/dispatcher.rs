//! The dispatcher of each queue: one task that serves all workers waiting here, in the order in which they came.
//!
//! It looks at the queue when a worker arrives and when a hint says that something became ready. It runs only while
//! somebody waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::batch::Grant;
use super::error::Result;
use super::{Engine, LeaseRequest, random};
use crate::limits::MAX_LEASES;
use crate::operation::command::{Command, Take};
use crate::operation::entries::ready_index;
use crate::operation::lease::Token;
use crate::operation::{Applied, Change, Stamps, apply};
use crate::store::codec::decode;
use crate::store::plan::Before;
use crate::store::{CommitError, Index, Key, Scan, StoreError};

/// The dispatchers of one server, by queue.
#[derive(Default)]
pub(super) struct Dispatchers {
    queues: Mutex<HashMap<String, Arc<Dispatcher>>>,
}

struct Dispatcher {
    queue: String,
    waiting: Mutex<VecDeque<Waiting>>,
    wake: Notify,
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
    /// Something became ready in a queue.
    pub(super) fn wake(&self, queue: &str) {
        if let Some(dispatcher) = lock(&self.queues).get(queue) {
            dispatcher.wake.notify_one();
        }
    }

    /// Something may have become ready anywhere.
    pub(super) fn wake_all(&self) {
        lock(&self.queues).values().for_each(|dispatcher| dispatcher.wake.notify_one());
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
            let dispatcher = Arc::new(Dispatcher { queue: queue.clone(), waiting: Mutex::default(), wake: Notify::new() });
            queues.insert(queue, dispatcher.clone());
            let (engine, serving) = (self.clone(), dispatcher.clone());
            self.inner.tasks.spawn("dispatcher", async move { engine.dispatch(serving).await });
            dispatcher
        });
        // Under the lock of all queues: the dispatcher cannot have gone in between.
        lock(&dispatcher.waiting).push_back(Waiting { request, reply });
        drop(queues);
        dispatcher.wake.notify_one();
        receiver
    }

    async fn dispatch(&self, dispatcher: Arc<Dispatcher>) {
        loop {
            dispatcher.wake.notified().await;
            while dispatcher.somebody_waits() && !self.is_draining() {
                let waiting = dispatcher.line_length();
                match self.serve_round(&dispatcher).await {
                    Ok(true) => {}
                    Ok(false) => {
                        dispatcher.send_away_the_impatient(waiting);
                        break;
                    }
                    Err(error) => {
                        dispatcher.refuse_all(&error);
                        break;
                    }
                }
            }
            if self.retire(&dispatcher) {
                return;
            }
        }
    }

    /// One look at the queue, for all who wait; whether another look makes sense.
    async fn serve_round(&self, dispatcher: &Dispatcher) -> std::result::Result<bool, StoreError> {
        let store = &self.inner.store;
        let demands = dispatcher.demands();
        let wanted = demands.iter().map(|request| request.max).sum::<usize>().min(MAX_LEASES);
        let entries = store.scan(Scan::first(Index::new(ready_index(&dispatcher.queue)), wanted)).await?;
        let keys: Vec<Key> = entries.iter().filter_map(crate::store::Entry::key).collect();
        if keys.is_empty() {
            return Ok(false);
        }
        let candidates = self.decide(&demands, &keys).await?;
        let raced = candidates.len() < keys.len();
        let sets = candidates.iter().map(|candidate| self.plan(candidate.key, Some(&candidate.before), &candidate.change)).collect();
        let results = store.commit(sets).await;
        let mut grants: Vec<Vec<Grant>> = demands.iter().map(|_| Vec::new()).collect();
        let mut conflicts = raced;
        for (candidate, result) in candidates.into_iter().zip(results) {
            let stamps = candidate.before.stamps;
            match result {
                Ok(committed) => {
                    let record = self.committed(candidate.key, candidate.generation, Some(stamps), &candidate.change, committed);
                    grants[candidate.waiting].extend(record.and_then(|record| Grant::new(candidate.key, record)));
                }
                // A lease that may have been given without its worker hearing of it is lost by time, as any other.
                Err(CommitError::Unavailable(error)) => tracing::warn!(%error, "a lease may have been lost on its way"),
                Err(CommitError::Conflict | CommitError::Early) => conflicts = true,
            }
        }
        let served = grants.iter().any(|grants| !grants.is_empty());
        dispatcher.hand_out(self, grants);
        Ok(served || conflicts)
    }

    /// Reads what is at the head of the queue and gives it to those who wait, first come, first served.
    async fn decide(&self, demands: &[LeaseRequest], keys: &[Key]) -> std::result::Result<Vec<Candidate>, StoreError> {
        let store = &self.inner.store;
        let mut places = demands.iter().enumerate().flat_map(|(waiting, request)| std::iter::repeat_n((waiting, request), request.max));
        let generations: Vec<u64> = keys.iter().map(|key| self.inner.hub.generation(store.keyspace().partition(*key))).collect();
        let records = store.get(keys).await?;
        let mut candidates = Vec::with_capacity(keys.len());
        for ((key, record), generation) in keys.iter().zip(records).zip(generations) {
            let Some(record) = record else { continue };
            let stamps = Stamps { revision: record.revision, visible: record.visible_revision, fencing: record.fencing_number };
            let before = Before { record: decode(&record)?, stamps };
            let Some((waiting, request)) = places.next() else { break };
            let take = Take { token: Token(random()), worker: request.worker.clone(), duration: request.duration, holder: None };
            let now = store.now(store.keyspace().partition(*key));
            if let Ok(Applied::Changed(change)) = apply(&before.record, &Command::Lease(take), now) {
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

impl Dispatcher {
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

    fn line_length(&self) -> usize {
        lock(&self.waiting).len()
    }

    /// Whoever wanted only what is there now has seen that there is nothing: of those `looked_for` at the head of the line.
    /// Who came during the look is owed one that began later, for what was started before they came.
    fn send_away_the_impatient(&self, looked_for: usize) {
        let mut line = lock(&self.waiting);
        let looked_for = looked_for.min(line.len());
        let late = line.split_off(looked_for);
        let (leaving, mut staying): (VecDeque<_>, VecDeque<_>) = line.drain(..).partition(|waiting| waiting.request.wait.is_zero());
        staying.extend(late);
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

