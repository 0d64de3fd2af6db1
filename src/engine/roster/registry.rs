//! The workers of this server, and what other servers have said of theirs.
//!
//! A stream is registered while it serves, and asked for what it holds only when somebody wants to know: leases cost nothing here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::activity::{Activities, QueueActivity};
use super::unary::UnaryWorkers;
use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::error::Error;
use crate::engine::reading::reader::Reader;
use crate::limits::{MAX_ROSTER_BYTES, MAX_ROSTER_WORKERS};
use crate::operation::lease::Holder;
use crate::operation::worker::WorkerProcess;
use crate::operation::{Operation, Record};
use crate::record::server::{HeldOperation, PARTITION, Served, ServedQueue, ServedWorker};
use crate::store::Key;

/// All workers of this server.
pub(in crate::engine) struct Roster {
    context: Arc<Context>,
    reader: Arc<Reader>,
    activities: Activities,
    streams: Mutex<HashMap<Holder, Arc<ServingStream>>>,
    unary: Mutex<UnaryWorkers>,
    /// How many leases of workers without a stream there are: while there are none, hints need no look.
    unary_leases: AtomicUsize,
}

/// A stream that serves a worker.
pub(in crate::engine) struct ServingStream {
    pub(in crate::engine) queue: String,
    pub(in crate::engine) name: String,
    pub(in crate::engine) process: WorkerProcess,
    pub(in crate::engine) session: Arc<dyn AskedStream>,
}

/// A stream that can be asked how it is doing.
pub(in crate::engine) trait AskedStream: Send + Sync {
    /// Asks; a stream that has ended drops the answer.
    fn ask(&self, answer: oneshot::Sender<StreamState>);
}

/// What a stream says of itself.
#[derive(Debug)]
pub(in crate::engine) struct StreamState {
    pub(in crate::engine) slots: u32,
    /// How many leases it holds, and the oldest of them.
    pub(in crate::engine) held: u32,
    pub(in crate::engine) operations: Vec<HeldOperation>,
    pub(in crate::engine) heard: Timestamp,
    pub(in crate::engine) is_drained: bool,
}

/// A stream that is registered while this exists.
pub(in crate::engine) struct Registered {
    roster: Arc<Roster>,
    holder: Holder,
}

/// A call of a worker without a stream that waits for leases.
pub(in crate::engine) struct UnaryWait {
    roster: Arc<Roster>,
    queue: String,
    name: String,
}

impl Roster {
    pub(in crate::engine) fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        let others = context.metrics.queues.others();
        let activities = Activities::new(others, context.clock.elapsed());
        Self {
            context,
            reader,
            activities,
            streams: Mutex::default(),
            unary: Mutex::default(),
            unary_leases: AtomicUsize::new(0),
        }
    }

    /// What happens in a queue.
    pub(in crate::engine) fn activity(&self, queue: &str) -> Arc<QueueActivity> {
        let counters = || self.context.metrics.queues.of_queue(queue);
        self.activities.of(queue, self.context.clock.elapsed(), counters)
    }

    /// Registers a stream.
    pub(in crate::engine) fn register(
        self: &Arc<Self>,
        holder: Holder,
        stream: ServingStream,
    ) -> Registered {
        self.streams().insert(holder, Arc::new(stream));
        Registered { roster: Arc::clone(self), holder }
    }

    /// A worker without a stream waits for leases.
    pub(in crate::engine) fn unary_waits(
        self: &Arc<Self>,
        queue: &str,
        name: &str,
        process: &WorkerProcess,
    ) -> UnaryWait {
        let now = self.now();
        self.unary().waits(queue, name, process, now);
        UnaryWait { roster: Arc::clone(self), queue: queue.to_owned(), name: name.to_owned() }
    }

    /// Whether an operator has drained a worker without a stream.
    pub(in crate::engine) fn set_unary_drained(&self, queue: &str, name: &str, drained: bool) {
        self.unary().set_drained(queue, name, drained);
    }

    /// The operation as it was leased by a worker without a stream, or as a call of that worker left it.
    pub(in crate::engine) fn unary_worked(&self, key: Key, operation: &Operation) {
        let now = self.now();
        let mut unary = self.unary();
        unary.worked(key, operation, now);
        self.unary_leases.store(unary.count(), Ordering::Release);
    }

    /// A record changed.
    pub(in crate::engine) fn hint(&self, key: Key, revision: u64) {
        if self.unary_leases.load(Ordering::Acquire) > 0 {
            self.unary().hint(key, revision);
        }
    }

    /// Any record may have changed.
    pub(in crate::engine) fn gap(&self) {
        self.unary().gap();
    }

    /// Takes a sample of how much is leased; now and then.
    pub(in crate::engine) fn sample(&self) {
        self.activities.sample(self.context.clock.elapsed(), self.now());
    }

    /// Everything that this server serves.
    pub(in crate::engine) async fn served(&self) -> Served {
        Served { queues: self.queues(), workers: self.workers(usize::MAX).await }
    }

    /// The same for other servers, within what a record has room for.
    pub(in crate::engine) async fn served_for_others(&self) -> Served {
        let mut workers = self.workers(MAX_ROSTER_WORKERS).await;
        let (mut bytes, mut fit) = (0, 0);
        for worker in &workers {
            bytes += worker.weight();
            if bytes > MAX_ROSTER_BYTES {
                break;
            }
            fit += 1;
        }
        workers.truncate(fit);
        Served { queues: self.queues(), workers }
    }

    /// The queues that workers of this server serve, or lately did.
    pub(in crate::engine) fn queues(&self) -> Vec<ServedQueue> {
        let (now, elapsed) = (self.now(), self.context.clock.elapsed());
        self.unary().forget_gone(now);
        let mut queues: HashMap<String, ServedQueue> = HashMap::new();
        for (queue, activity) in self.activities.all() {
            let (asked, rate) = (activity.last_asked(), activity.leases_per_second(elapsed));
            if asked.is_some() || rate > 0.0 {
                let id = queue.clone();
                let served =
                    ServedQueue { id, asked, leases_per_second: rate, ..ServedQueue::default() };
                queues.insert(queue, served);
            }
        }
        for stream in self.streams().values() {
            let served = ServedQueue::entry(&mut queues, &stream.queue);
            served.workers += 1;
            // An open stream asks all the time.
            served.asked = Some(now);
        }
        for (queue, _) in self.unary().names() {
            ServedQueue::entry(&mut queues, queue).workers += 1;
        }
        queues.into_values().collect()
    }

    async fn workers(&self, most: usize) -> Vec<ServedWorker> {
        self.look_at_doubtful().await;
        let mut workers = Vec::new();
        let streams: Vec<(Holder, Arc<ServingStream>)> =
            self.streams().iter().take(most).map(|(holder, it)| (*holder, it.clone())).collect();
        let asked = streams.into_iter().map(|(holder, stream)| {
            let (sender, answer) = oneshot::channel();
            stream.session.ask(sender);
            (holder, stream, answer)
        });
        // All are asked before the first answer is awaited.
        for (holder, stream, answer) in asked.collect::<Vec<_>>() {
            let Ok(state) = answer.await else { continue };
            workers.push(ServedWorker {
                queue: stream.queue.clone(),
                name: stream.name.clone(),
                process: stream.process.clone(),
                holder: Some(holder),
                slots: state.slots,
                held: state.held,
                operations: state.operations,
                heard: state.heard,
                is_drained: state.is_drained,
            });
        }
        let now = self.now();
        let mut unary = self.unary();
        unary.forget_gone(now);
        workers.extend(unary.shown(now).into_iter().take(most.saturating_sub(workers.len())));
        workers
    }

    /// Reads the operations whose leases may be no more.
    async fn look_at_doubtful(&self) {
        let doubtful = self.unary().doubtful(self.now(), DOUBTFUL_AT_ONCE);
        if doubtful.is_empty() {
            return;
        }
        match self.reader.read_each::<Record>(&doubtful).await {
            Ok(found) => {
                let mut unary = self.unary();
                for (key, found) in doubtful.iter().zip(found) {
                    let record = found.ok().flatten().map(|before| before.record);
                    unary.found(*key, record.as_ref().and_then(Record::operation));
                }
                self.unary_leases.store(unary.count(), Ordering::Release);
            }
            Err(error) => {
                let error = Box::<Error>::from(error);
                self.context.log_failure("could not read what workers hold", &error);
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.context.store.now(PARTITION)
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<Holder, Arc<ServingStream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unary(&self) -> MutexGuard<'_, UnaryWorkers> {
        self.unary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.roster.streams().remove(&self.holder);
    }
}

impl Drop for UnaryWait {
    fn drop(&mut self) {
        let now = self.roster.now();
        self.roster.unary().waited(&self.queue, &self.name, now);
    }
}

/// Operations that are read together.
const DOUBTFUL_AT_ONCE: usize = 1_000;
