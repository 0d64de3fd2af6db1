//! Workers without a stream, as far as their calls to this server tell.

use std::collections::{HashMap, HashSet};

use crate::clock::Timestamp;
use crate::limits::{MAX_UNARY_HELD, MAX_UNARY_WORKERS, UNARY_WORKER_GONE};
use crate::operation::Operation;
use crate::operation::lease::Lease;
use crate::operation::worker::WorkerProcess;
use crate::record::server::{HeldOperation, MAX_SHOWN_HELD, ServedWorker};
use crate::store::Key;

/// Who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct UnaryWorker {
    queue: String,
    name: String,
}

/// What is known of one.
#[derive(Debug, Default)]
struct UnaryState {
    process: WorkerProcess,
    heard: Timestamp,
    /// Calls that wait for leases.
    waiting: u32,
    drained: bool,
    held: HashSet<Key>,
}

/// A lease of a worker without a stream.
#[derive(Debug)]
struct UnaryLease {
    worker: UnaryWorker,
    shown: HeldOperation,
    /// As of this revision.
    revision: u64,
    expire_time: Timestamp,
    /// Another commit has followed, so that the lease may be no more.
    doubtful: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct UnaryWorkers {
    workers: HashMap<UnaryWorker, UnaryState>,
    leases: HashMap<Key, UnaryLease>,
}

impl UnaryWorkers {
    /// A call asks for leases, and waits.
    pub(super) fn waits(
        &mut self,
        queue: &str,
        name: &str,
        process: &WorkerProcess,
        now: Timestamp,
    ) {
        let worker = UnaryWorker { queue: queue.to_owned(), name: name.to_owned() };
        if let Some(state) = self.state(worker) {
            state.process.clone_from(process);
            state.heard = now;
            state.waiting += 1;
        }
    }

    /// The call has its answer.
    pub(super) fn waited(&mut self, queue: &str, name: &str, now: Timestamp) {
        let worker = UnaryWorker { queue: queue.to_owned(), name: name.to_owned() };
        if let Some(state) = self.workers.get_mut(&worker) {
            state.heard = now;
            state.waiting = state.waiting.saturating_sub(1);
        }
    }

    /// Whether an operator has drained it.
    pub(super) fn set_drained(&mut self, queue: &str, name: &str, drained: bool) {
        let worker = UnaryWorker { queue: queue.to_owned(), name: name.to_owned() };
        if let Some(state) = self.workers.get_mut(&worker) {
            state.drained = drained;
        }
    }

    /// The operation as a call of its worker left it: leased by a worker without a stream, or not any more.
    pub(super) fn worked(&mut self, key: Key, operation: &Operation, now: Timestamp) {
        let lease = operation.state.lease().filter(|lease| lease.holder.is_none());
        let former = self.end(key, now);
        let Some(lease) = lease.filter(|_| self.leases.len() < MAX_UNARY_HELD) else { return };
        let worker = former.filter(|worker| worker.name == lease.worker);
        let queue = || operation.spec.queue.as_str().to_owned();
        let worker =
            worker.unwrap_or_else(|| UnaryWorker { queue: queue(), name: lease.worker.clone() });
        let Some(state) = self.state(worker.clone()) else { return };
        state.heard = state.heard.max(now);
        state.held.insert(key);
        self.leases.insert(key, UnaryLease::of(worker, operation, lease));
    }

    /// A record changed.
    pub(super) fn hint(&mut self, key: Key, revision: u64) {
        if let Some(lease) = self.leases.get_mut(&key).filter(|lease| lease.revision < revision) {
            lease.doubtful = true;
        }
    }

    /// Any record may have changed.
    pub(super) fn gap(&mut self) {
        self.leases.values_mut().for_each(|lease| lease.doubtful = true);
    }

    /// Leases that may be no more, at most so many.
    pub(super) fn doubtful(&self, now: Timestamp, most: usize) -> Vec<Key> {
        let doubtful = |lease: &UnaryLease| lease.doubtful || lease.expire_time <= now;
        let keys = self.leases.iter().filter(|(_, lease)| doubtful(lease)).map(|(key, _)| *key);
        keys.take(most).collect()
    }

    /// The operation as it was read.
    pub(super) fn found(&mut self, key: Key, operation: Option<&Operation>) {
        let Some(lease) = self.leases.get(&key) else { return };
        let worker = lease.worker.clone();
        let same = operation.and_then(|operation| Some((operation, operation.state.lease()?)));
        let same = same.filter(|(operation, lease)| {
            lease.holder.is_none()
                && lease.worker == worker.name
                && operation.spec.queue.as_str() == worker.queue
        });
        match same {
            Some((operation, lease)) => {
                let lease = UnaryLease::of(worker, operation, lease);
                self.leases.insert(key, lease);
            }
            None => drop(self.remove(key)),
        }
    }

    /// How many leases are watched.
    pub(super) fn count(&self) -> usize {
        self.leases.len()
    }

    /// Forgets workers that have not been heard of for long.
    pub(super) fn forget_gone(&mut self, now: Timestamp) {
        self.workers.retain(|_, state| {
            let is_here = state.waiting > 0 || !state.held.is_empty();
            is_here || now.since(state.heard) < UNARY_WORKER_GONE
        });
    }

    /// Calls `each` with every worker: its queue, and its name.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.workers.keys().map(|worker| (worker.queue.as_str(), worker.name.as_str()))
    }

    /// All workers as operators see them.
    pub(super) fn shown(&self, now: Timestamp) -> Vec<ServedWorker> {
        let shown = |(worker, state): (&UnaryWorker, &UnaryState)| {
            let mut held: Vec<HeldOperation> = state
                .held
                .iter()
                .filter_map(|key| Some(self.leases.get(key)?.shown.clone()))
                .collect();
            held.sort_by_key(|held| held.start_time);
            held.truncate(MAX_SHOWN_HELD);
            ServedWorker {
                queue: worker.queue.clone(),
                name: worker.name.clone(),
                process: state.process.clone(),
                holder: None,
                slots: 0,
                held: state.held.len() as u32,
                operations: held,
                heard: if state.waiting > 0 { now } else { state.heard },
                is_drained: state.drained,
            }
        };
        self.workers.iter().map(shown).collect()
    }

    fn state(&mut self, worker: UnaryWorker) -> Option<&mut UnaryState> {
        if self.workers.len() >= MAX_UNARY_WORKERS && !self.workers.contains_key(&worker) {
            return None;
        }
        Some(self.workers.entry(worker).or_default())
    }

    /// A lease has ended by a call of its worker.
    fn end(&mut self, key: Key, now: Timestamp) -> Option<UnaryWorker> {
        let worker = self.remove(key)?;
        if let Some(state) = self.workers.get_mut(&worker) {
            state.heard = state.heard.max(now);
        }
        Some(worker)
    }

    fn remove(&mut self, key: Key) -> Option<UnaryWorker> {
        let worker = self.leases.remove(&key)?.worker;
        if let Some(state) = self.workers.get_mut(&worker) {
            state.held.remove(&key);
        }
        Some(worker)
    }
}

impl UnaryLease {
    fn of(worker: UnaryWorker, operation: &Operation, lease: &Lease) -> Self {
        Self {
            worker,
            shown: HeldOperation::of(operation, lease),
            revision: operation.stamps.revision,
            expire_time: lease.expire_time,
            doubtful: false,
        }
    }
}
