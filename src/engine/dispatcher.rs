//! The dispatcher of each queue: one task that serves all workers waiting here, in the order in which they came.
//!
//! It looks at the queue when a worker arrives and when a hint says that something became ready. It runs only while
//! somebody waits.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::batch::{Grant, weight};
use super::commit::Spot;
use super::error::{Reason, Result};
use super::recent::worth_keeping;
use super::{Engine, LeaseRequest, random};
use crate::limits::{MAX_LEASES, MAX_REPLY_BYTES};
use crate::operation::command::{Command, Take};
use crate::operation::entries::ready_index;
use crate::operation::lease::Token;
use crate::operation::{Applied, Change, Stamps, apply};
use crate::store::codec::decode;
use crate::store::plan::Before;
use crate::store::{CommitError, Index, Key, Put, Scan, StoreError, WriteSet};

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
    /// Wants an answer after the next look, even an empty one.
    leaving: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<Vec<Grant>>>,
}

/// A worker's place in the line of a queue; dropped, it is given up.
pub(super) struct Place {
    engine: Engine,
    queue: String,
    leaving: Arc<AtomicBool>,
    /// What the queue has for the worker.
    pub(super) reply: oneshot::Receiver<Result<Vec<Grant>>>,
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

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        lock(&self.queues).len()
    }

    /// Something may have become ready anywhere.
    pub(super) fn wake_all(&self) {
        lock(&self.queues).values().for_each(|dispatcher| dispatcher.wake.notify_one());
    }
}

impl Engine {
    /// Waits for leases.
    pub(super) fn queue_up(&self, request: LeaseRequest) -> Place {
        let (reply, receiver) = oneshot::channel();
        let leaving = Arc::<AtomicBool>::default();
        let place = Place {
            engine: self.clone(),
            queue: request.queue.as_str().to_owned(),
            leaving: leaving.clone(),
            reply: receiver,
        };
        let queue = request.queue.as_str().to_owned();
        let mut queues = lock(&self.inner.dispatchers.queues);
        let dispatcher = queues.get(&queue).cloned();
        let dispatcher = dispatcher.unwrap_or_else(|| {
            let dispatcher = Arc::new(Dispatcher {
                queue: queue.clone(),
                waiting: Mutex::default(),
                wake: Notify::new(),
            });
            queues.insert(queue, dispatcher.clone());
            let (engine, serving) = (self.clone(), dispatcher.clone());
            self.inner.tasks.spawn("dispatcher", async move { engine.dispatch(serving).await });
            dispatcher
        });
        // Under the lock of all queues: the dispatcher cannot have gone in between.
        lock(&dispatcher.waiting).push_back(Waiting { request, leaving, reply });
        drop(queues);
        dispatcher.wake.notify_one();
        place
    }

    async fn dispatch(&self, dispatcher: Arc<Dispatcher>) {
        loop {
            dispatcher.wake.notified().await;
            self.serve(&dispatcher).await;
            if self.retire(&dispatcher) {
                return;
            }
        }
    }

    /// Looks at the queue until nobody waits or nothing is there.
    async fn serve(&self, dispatcher: &Dispatcher) {
        let (mut fruitless, mut unfit) = (0, 0);
        while dispatcher.somebody_waits() && !self.is_draining() {
            let present = dispatcher.length();
            let round = match self.serve_round(dispatcher, unfit).await {
                Ok(round) => round,
                Err(error) => return dispatcher.refuse_all(&error),
            };
            unfit = round.unfit;
            if round.served {
                fruitless = 0;
                continue;
            }
            if !round.raced {
                return dispatcher.dismiss(present);
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
    }

    /// One look at the queue, for all who wait, beyond `unfit` entries that nobody could take the last time.
    async fn serve_round(
        &self,
        dispatcher: &Dispatcher,
        unfit: usize,
    ) -> std::result::Result<Round, StoreError> {
        let store = &self.inner.store;
        let demands = dispatcher.demands();
        let wanted =
            demands.iter().map(|request| request.max).sum::<usize>().min(MAX_LEASES) + unfit;
        let entries =
            store.scan(Scan::first(Index::new(ready_index(&dispatcher.queue)), wanted)).await?;
        let keys: Vec<Key> = entries.iter().filter_map(crate::store::Entry::key).collect();
        if keys.is_empty() {
            return Ok(Round { served: false, raced: false, unfit: 0 });
        }
        let (candidates, unfit) = self.decide(&demands, &keys).await?;
        let (sets, puts): (_, Vec<_>) = self.sets(&candidates).unzip();
        let results = store.commit(sets).await;
        let mut grants: Vec<Vec<Grant>> = demands.iter().map(|_| Vec::new()).collect();
        let mut raced = unfit > 0;
        let mut outage = None;
        for ((candidate, put), result) in candidates.into_iter().zip(puts).zip(results) {
            let stamps = candidate.before.stamps;
            match result {
                Ok(committed) => {
                    self.inner.recent.keep_some(put, committed);
                    let record = self.committed(
                        Spot { key: candidate.key, generation: candidate.generation },
                        Some(stamps),
                        *candidate.change,
                        committed,
                    );
                    grants[candidate.waiting]
                        .extend(record.and_then(|record| Grant::new(candidate.key, record)));
                }
                // It may have been given: the token tells.
                Err(CommitError::Unavailable(error)) => {
                    match self.apply_to_key(candidate.key, &candidate.command).await {
                        Ok(done) => {
                            let record = done.and_then(|done| done.record);
                            grants[candidate.waiting].extend(
                                record.and_then(|record| Grant::new(candidate.key, record)),
                            );
                        }
                        // Somebody else has it.
                        Err(refused) if refused.reason != Reason::StoreUnavailable => raced = true,
                        Err(_) => {
                            let lost = candidate
                                .change
                                .record
                                .and_then(|record| Grant::new(candidate.key, record));
                            self.release_unseen(lost.into_iter().collect());
                            outage = Some(error);
                        }
                    }
                }
                Err(CommitError::Conflict | CommitError::Early) => raced = true,
            }
        }
        let served = grants.iter().any(|grants| !grants.is_empty());
        dispatcher.hand_out(self, grants);
        outage.map_or(Ok(Round { served, raced, unfit }), Err)
    }

    /// Reads what is at the head of the queue and gives it to those who wait, first come, first served, and to each no more than
    /// a reply holds. Also counts what nobody can take.
    async fn decide(
        &self,
        demands: &[LeaseRequest],
        keys: &[Key],
    ) -> std::result::Result<(Vec<Candidate>, usize), StoreError> {
        let store = &self.inner.store;
        let (mut waiting, mut given, mut bytes, mut unfit) = (0, 0, 0, 0);
        let generations: Vec<u64> = keys
            .iter()
            .map(|key| self.inner.hub.generation(store.keyspace().partition(*key)))
            .collect();
        let records = store.get(keys).await?;
        let mut candidates = Vec::with_capacity(keys.len());
        for ((key, record), generation) in keys.iter().zip(records).zip(generations) {
            let Some(before) = record.as_ref().and_then(readable) else {
                unfit += 1;
                continue;
            };
            let size = before.record.operation().map_or(0, weight);
            if given > 0 && (given >= demands[waiting].max || bytes + size > MAX_REPLY_BYTES) {
                (waiting, given, bytes) = (waiting + 1, 0, 0);
            }
            let Some(request) = demands.get(waiting) else { break };
            let take = Take {
                token: Token(random()),
                worker: request.worker.clone(),
                duration: request.duration,
                holder: None,
                stall_timeout: Duration::ZERO,
            };
            let now = store.now(store.keyspace().partition(*key));
            let command = Command::Lease(take);
            if let Ok(Applied::Changed(change)) = apply(&before.record, &command, now) {
                candidates.push(Candidate {
                    key: *key,
                    command,
                    before,
                    change,
                    waiting,
                    generation,
                });
                (given, bytes) = (given + 1, bytes + size);
            } else {
                unfit += 1;
            }
        }
        Ok((candidates, unfit))
    }

    /// What to commit, and what of it to remember.
    fn sets(&self, candidates: &[Candidate]) -> impl Iterator<Item = (WriteSet, Option<Put>)> {
        candidates.iter().map(|Candidate { key, before, change, .. }| {
            let set = self.plan(*key, Some(before), change);
            let put = worth_keeping(&set, change);
            (set, put)
        })
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

    fn length(&self) -> usize {
        lock(&self.waiting).len()
    }

    /// Answers those of the first `present` in the line who wanted just one more look.
    fn dismiss(&self, present: usize) {
        let mut line = lock(&self.waiting);
        for (position, waiting) in std::mem::take(&mut *line).into_iter().enumerate() {
            if position < present && waiting.leaving.load(Ordering::Acquire) {
                // Whoever left needs no answer.
                let _ = waiting.reply.send(Ok(Vec::new()));
            } else {
                line.push_back(waiting);
            }
        }
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

    fn refuse_all(&self, error: &StoreError) {
        for waiting in lock(&self.waiting).drain(..) {
            // Whoever left needs no answer.
            let _ = waiting.reply.send(Err(error.clone().into()));
        }
    }
}

impl Place {
    /// Has the answer come after the next look, even an empty one.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.engine.inner.dispatchers.wake(&self.queue);
    }

    /// Gives the place up, and takes what was sent before.
    pub(super) fn close(&mut self) -> Option<Result<Vec<Grant>>> {
        self.reply.close();
        self.reply.try_recv().ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(Ok(unheard)) = self.close() {
            self.engine.release_unseen(unheard);
        }
        // A dispatcher for whom nobody waits any more goes too.
        self.engine.inner.dispatchers.wake(&self.queue);
    }
}

/// A record that can be read. One that cannot must not keep everything behind it in the queue from being taken.
fn readable(record: &crate::store::Record) -> Option<Before> {
    let stamps = Stamps {
        revision: record.revision,
        visible: record.visible_revision,
        fencing: record.fencing_number,
    };
    match decode(record) {
        Ok(record) => Some(Before { record, stamps }),
        Err(error) => {
            tracing::error!(%error, "passing over what is ready but cannot be read");
            None
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks without success that follow each other at once.
const RACES: u32 = 3;
/// What each further look without success adds to the pause before the next.
const PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSES: u32 = 100;
