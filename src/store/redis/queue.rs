//! Write sets that wait for a call, one queue for each runtime.
//!
//! Where no call is under way the first set goes at once. What is handed in meanwhile goes out together in the next one: so
//! nothing waits for company, and the busier the server, the fewer calls for as many commits. Where every answer waits for an
//! fsync two calls may be under way: the second is there when the fsync ends, and shares the next one with other threads'.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::store::backend::Committed;
use crate::store::error::CommitError;
use crate::store::write_set::{Check, WriteSet};

/// A write set, and where its result goes.
pub(super) struct Job {
    pub(super) set: WriteSet,
    /// Tells which were handed in together.
    caller: u64,
    pub(super) reply: oneshot::Sender<Result<Committed, CommitError>>,
}

type Answer = oneshot::Receiver<Result<Committed, CommitError>>;

/// What waits on each runtime.
pub(super) struct Queue {
    lanes: Vec<Mutex<Lane>>,
    calls_at_once: usize,
    callers: AtomicU64,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Job>,
    /// How many take what waits, and how many of them have yet to take anything.
    services: usize,
    coming: usize,
    /// Whose sets are under way.
    under_way: Vec<u64>,
}

/// The duty to take what waits on a lane until nothing does.
pub(super) struct Service {
    queue: Arc<Queue>,
    lane: usize,
    taken: Option<Vec<u64>>,
    done: bool,
}

impl Queue {
    /// Nothing waits. A store that answers slowly wants two calls at once: while it works on one, it can be told of the next.
    pub(super) fn new(calls_at_once: usize) -> Arc<Self> {
        let lanes = (0..LANES).map(|_| Mutex::default()).collect();
        Arc::new(Self { lanes, calls_at_once, callers: AtomicU64::new(0) })
    }

    /// Hands in what one caller wants. Returns where each result comes, and a service of the lane where one more is wanted.
    pub(super) fn push(
        self: &Arc<Self>,
        lane: usize,
        sets: Vec<WriteSet>,
    ) -> (Vec<Answer>, Option<Service>) {
        let caller = self.callers.fetch_add(1, Ordering::Relaxed);
        let job = |set| {
            let (reply, answer) = oneshot::channel();
            (Job { set, caller, reply }, answer)
        };
        let (jobs, answers): (Vec<Job>, _) = sets.into_iter().map(job).unzip();
        let mut state = self.lock(lane);
        state.waiting.extend(jobs);
        let wanted = state.coming == 0 && state.services < self.calls_at_once;
        if wanted {
            state.services += 1;
            state.coming += 1;
        }
        let service = || Service { queue: Arc::clone(self), lane, taken: None, done: false };
        (answers, wanted.then(service))
    }

    fn lock(&self, lane: usize) -> MutexGuard<'_, Lane> {
        self.lanes[lane % LANES].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// What goes out together next, once what was taken before is answered; `None` ends the service.
    pub(super) fn next(&mut self) -> Option<Vec<Job>> {
        let queue = Arc::clone(&self.queue);
        let mut lane = queue.lock(self.lane);
        self.let_go(&mut lane);
        let batch = lane.take();
        if batch.is_empty() {
            lane.services -= 1;
            self.done = true;
            return None;
        }
        let callers: Vec<u64> = batch.iter().map(|job| job.caller).collect();
        lane.under_way.extend(&callers);
        self.taken = Some(callers);
        Some(batch)
    }

    /// Everything that waits, for a store that does not answer: nobody shall wait twice as long.
    pub(super) fn rest(&mut self) -> Vec<Job> {
        self.queue.lock(self.lane).waiting.drain(..).collect()
    }

    /// What was taken is no longer under way.
    fn let_go(&mut self, lane: &mut Lane) {
        let Some(callers) = self.taken.replace(Vec::new()) else {
            lane.coming -= 1;
            return;
        };
        for caller in callers {
            if let Some(position) = lane.under_way.iter().position(|other| *other == caller) {
                lane.under_way.swap_remove(position);
            }
        }
    }
}

/// Where the service ends early its runtime has ended, and with it whoever waits.
impl Drop for Service {
    fn drop(&mut self) {
        if !self.done {
            let queue = Arc::clone(&self.queue);
            let mut lane = queue.lock(self.lane);
            self.let_go(&mut lane);
            lane.services -= 1;
            let cut_off = std::mem::take(&mut lane.waiting);
            drop(lane);
            drop(cut_off);
        }
    }
}

impl Lane {
    /// The longest waiting of which no two touch the same thing. Whatever touches what is passed over is passed over too, and
    /// so is what the same caller handed in together with it or with what is under way: one caller's sets keep their order.
    fn take(&mut self) -> Vec<Job> {
        let mut batch: Vec<Job> = Vec::with_capacity(self.waiting.len().min(SETS_AT_ONCE));
        let mut passed: Vec<Job> = Vec::new();
        let (mut touched, mut bytes) = (Vec::new(), 0);
        while batch.len() < SETS_AT_ONCE && passed.len() < SETS_AT_ONCE && bytes < BYTES_AT_ONCE {
            let Some(job) = self.waiting.pop_front() else { break };
            let free = touch(&job.set, &mut touched);
            let behind = self.under_way.contains(&job.caller)
                || passed.iter().any(|passed| passed.caller == job.caller);
            if free && !behind {
                bytes += size(&job.set);
                batch.push(job);
            } else {
                passed.push(job);
            }
        }
        for job in passed.into_iter().rev() {
            self.waiting.push_front(job);
        }
        batch
    }
}

/// Notes what a set touches. Returns whether nothing of it was noted before.
///
/// What is noted may be equal for different things, which then wait for each other without need. All that
/// belongs to a record usually ends in its key and is noted once.
fn touch(set: &WriteSet, touched: &mut Vec<u64>) -> bool {
    let (mut free, known) = (true, touched.len());
    let mut note = |bytes: &[u8]| {
        let note = end_of(bytes);
        free &= !touched[..known].contains(&note);
        if !touched[known..].contains(&note) {
            touched.push(note);
        }
    };
    for check in &set.checks {
        if let Check::At(key, _) | Check::Absent(key) = check {
            note(key.as_bytes());
        }
    }
    set.deletes.iter().for_each(|key| note(key.as_bytes()));
    set.puts.iter().for_each(|put| note(put.key.as_bytes()));
    let bodies = set.body_puts.iter().map(|(body, _)| body);
    set.body_deletes.iter().chain(bodies).for_each(|body| note(body.record.as_bytes()));
    set.removals.iter().chain(&set.additions).for_each(|entry| note(&entry.member));
    free
}

/// The last 8 bytes, as a number.
fn end_of(bytes: &[u8]) -> u64 {
    let end = &bytes[bytes.len().saturating_sub(8)..];
    end.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Roughly what a set adds to a call.
fn size(set: &WriteSet) -> usize {
    let values = set.puts.iter().map(|put| put.value.len()).sum::<usize>();
    values + set.body_puts.iter().map(|(_, body)| body.len()).sum::<usize>()
}

/// Bounds how long one call keeps Redis from everybody else.
const SETS_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 256 << 10;
/// Queues at most; runtimes beyond share.
const LANES: usize = 64;
