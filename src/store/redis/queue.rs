//! Write sets that wait for a call, one queue for each runtime.
//!
//! Where no call is under way the first set goes at once. What is handed in meanwhile goes out together in the next one: so
//! nothing waits for company, and the busier the server, the fewer calls for as many commits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::store::{Check, CommitError, Committed, WriteSet};

/// A write set, and where its result goes.
pub(super) struct Job {
    pub(super) set: WriteSet,
    /// Tells which were handed in together.
    pub(super) call: u64,
    pub(super) reply: oneshot::Sender<Result<Committed, CommitError>>,
}

type Answer = oneshot::Receiver<Result<Committed, CommitError>>;

/// What waits on each runtime.
pub(super) struct Queue {
    lanes: Vec<Mutex<Lane>>,
    calls: AtomicU64,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Job>,
    /// Whether somebody takes what waits.
    served: bool,
}

/// The duty to take what waits on a lane until nothing does.
pub(super) struct Service {
    queue: Arc<Queue>,
    lane: usize,
    done: bool,
}

impl Queue {
    /// Nothing waits.
    pub(super) fn new() -> Arc<Self> {
        let lanes = (0..LANES).map(|_| Mutex::default()).collect();
        Arc::new(Self { lanes, calls: AtomicU64::new(0) })
    }

    /// Hands in what one caller wants. Returns where each result comes, and the service of the lane if nobody has it.
    pub(super) fn push(
        self: &Arc<Self>,
        lane: usize,
        sets: Vec<WriteSet>,
    ) -> (Vec<Answer>, Option<Service>) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let job = |set| {
            let (reply, answer) = oneshot::channel();
            (Job { set, call, reply }, answer)
        };
        let (jobs, answers): (Vec<Job>, _) = sets.into_iter().map(job).unzip();
        let mut state = self.lock(lane);
        state.waiting.extend(jobs);
        let served = std::mem::replace(&mut state.served, true);
        (answers, (!served).then(|| Service { queue: Arc::clone(self), lane, done: false }))
    }

    fn lock(&self, lane: usize) -> MutexGuard<'_, Lane> {
        self.lanes[lane % LANES].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// What goes out together next; `None` ends the service.
    pub(super) fn next(&mut self) -> Option<Vec<Job>> {
        let mut lane = self.queue.lock(self.lane);
        let batch = take(&mut lane.waiting);
        if batch.is_empty() {
            (lane.served, self.done) = (false, true);
            return None;
        }
        Some(batch)
    }

    /// Everything that waits, for a store that does not answer: nobody shall wait twice as long.
    pub(super) fn rest(&mut self) -> Vec<Job> {
        self.queue.lock(self.lane).waiting.drain(..).collect()
    }
}

/// Where the service ends early its runtime has ended, and with it whoever waits.
impl Drop for Service {
    fn drop(&mut self) {
        if !self.done {
            let mut lane = self.queue.lock(self.lane);
            lane.served = false;
            let cut_off = std::mem::take(&mut lane.waiting);
            drop(lane);
            drop(cut_off);
        }
    }
}

/// The longest waiting of which no two touch the same thing. Whatever touches what is passed over is passed over too, and so
/// is what was handed in together with it: one caller's sets keep their order.
fn take(waiting: &mut VecDeque<Job>) -> Vec<Job> {
    let mut batch: Vec<Job> = Vec::with_capacity(waiting.len().min(SETS_AT_ONCE));
    let mut passed: Vec<Job> = Vec::new();
    let (mut touched, mut bytes) = (Vec::new(), 0);
    while batch.len() < SETS_AT_ONCE && passed.len() < SETS_AT_ONCE && bytes < BYTES_AT_ONCE {
        let Some(job) = waiting.pop_front() else { break };
        let free = touch(&job.set, &mut touched);
        if free && passed.iter().all(|passed| passed.call != job.call) {
            bytes += size(&job.set);
            batch.push(job);
        } else {
            passed.push(job);
        }
    }
    for job in passed.into_iter().rev() {
        waiting.push_front(job);
    }
    batch
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
