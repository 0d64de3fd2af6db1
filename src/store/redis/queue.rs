//! Write sets that wait for a call, one queue for each runtime.
//!
//! If no call is running, the first set is sent at once. Sets that arrive meanwhile are sent together in the next call: so
//! no set waits for others, and the busier the server, the fewer calls per commit. If every reply waits for an
//! fsync, two calls may run: the second is ready when the fsync ends, and shares the next fsync with other threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::store::backend::Committed;
use crate::store::error::CommitError;
use crate::store::write_set::{Check, WriteSet};

/// A write set, and where its result goes.
pub(super) struct QueuedSet {
    pub(super) set: WriteSet,
    /// Tells which were handed in together.
    caller: u64,
    pub(super) reply: oneshot::Sender<Result<Committed, CommitError>>,
}

type PendingResult = oneshot::Receiver<Result<Committed, CommitError>>;

/// The waiting sets of each runtime.
pub(super) struct CommitQueue {
    lanes: Vec<Mutex<Lane>>,
    calls_at_once: usize,
    callers: AtomicU64,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<QueuedSet>,
    /// How many tasks serve the queue, and how many of them have not taken a set yet.
    services: usize,
    coming: usize,
    /// The callers whose sets are being written.
    under_way: Vec<u64>,
}

/// The duty to send the waiting sets of a lane until none is left.
pub(super) struct LaneDuty {
    queue: Arc<CommitQueue>,
    lane: usize,
    taken: Option<Vec<u64>>,
    done: bool,
}

impl CommitQueue {
    /// An empty queue. A slow store needs two calls at once: while it works on one, the next can be sent.
    pub(super) fn new(calls_at_once: usize) -> Arc<Self> {
        let lanes = (0..LANES).map(|_| Mutex::default()).collect();
        Arc::new(Self { lanes, calls_at_once, callers: AtomicU64::new(0) })
    }

    /// Queues the sets of one caller. Returns the channels of the results, and a duty if one more task is needed.
    pub(super) fn push(
        self: &Arc<Self>,
        lane: usize,
        sets: Vec<WriteSet>,
    ) -> (Vec<PendingResult>, Option<LaneDuty>) {
        let caller = self.callers.fetch_add(1, Ordering::Relaxed);
        let job = |set| {
            let (reply, answer) = oneshot::channel();
            (QueuedSet { set, caller, reply }, answer)
        };
        let (jobs, answers): (Vec<QueuedSet>, _) = sets.into_iter().map(job).unzip();
        let mut state = self.lock(lane);
        state.waiting.extend(jobs);
        let wanted = state.coming == 0 && state.services < self.calls_at_once;
        if wanted {
            state.services += 1;
            state.coming += 1;
        }
        let service = || LaneDuty { queue: Arc::clone(self), lane, taken: None, done: false };
        (answers, wanted.then(service))
    }

    fn lock(&self, lane: usize) -> MutexGuard<'_, Lane> {
        self.lanes[lane % LANES].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LaneDuty {
    /// The sets to send next, once those taken before have results; `None` ends the duty.
    pub(super) fn next(&mut self) -> Option<Vec<QueuedSet>> {
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

    /// All waiting sets, for a store that does not respond: no caller shall wait twice as long.
    pub(super) fn rest(&mut self) -> Vec<QueuedSet> {
        self.queue.lock(self.lane).waiting.drain(..).collect()
    }

    /// The sets taken before have their results.
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

/// If the duty ends early, its runtime has ended, and so have its callers.
impl Drop for LaneDuty {
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
    /// The longest waiting sets with disjoint keys. A set that shares a key with one that is left waiting also waits, and
    /// so do further sets of a caller with one waiting or being written: the sets of one caller keep their order.
    fn take(&mut self) -> Vec<QueuedSet> {
        let mut batch: Vec<QueuedSet> = Vec::with_capacity(self.waiting.len().min(SETS_AT_ONCE));
        let mut passed: Vec<QueuedSet> = Vec::new();
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

/// Notes the keys of a set. Returns whether none of them was noted before.
///
/// Notes of different keys may be equal; then their sets wait for each other without need. All keys that
/// belong to a record usually end in its key and are noted once.
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

/// Approximate size of a set in a call.
fn size(set: &WriteSet) -> usize {
    let values = set.puts.iter().map(|put| put.value.len()).sum::<usize>();
    values + set.body_puts.iter().map(|(_, body)| body.len()).sum::<usize>()
}

/// Limits how long one call blocks Redis for all others.
const SETS_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 256 << 10;
/// Queues at most; runtimes beyond share.
const LANES: usize = 64;
