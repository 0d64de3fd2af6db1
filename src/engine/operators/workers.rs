//! Workers of all servers as operators see them, and the request to drain one.
//!
//! Those of this server are asked now. Other servers write theirs into their record with each sign of life, so what is
//! known of them is up to a few seconds old.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::changes::QueueUpdate;
use super::queues::QueueCalls;
use crate::clock::Timestamp;
use crate::engine::access::Caller;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::operations::page_token::{self, Binding};
use crate::limits::DRAIN_REMEMBERED;
use crate::machine;
use crate::operation::name::Queue;
use crate::record::queue::{DrainedWorker, PARTITION};
use crate::record::server::{MAX_SHOWN_HELD, ServedWorker};

/// A worker as operators get it.
#[derive(Clone, Debug)]
pub struct ShownWorker {
    /// The worker.
    pub worker: ServedWorker,
    /// The name of the server that it is connected to, or that it called last.
    pub server: String,
}

/// A list of workers.
#[derive(Clone, Debug)]
pub struct WorkerListQuery {
    /// Of which queue; of all if `None`.
    pub queue: Option<Queue>,
    /// How many at most.
    pub page_size: usize,
    /// Where the last page ended; empty for the first.
    pub page_token: String,
}

/// A page of them.
#[derive(Clone, Debug, Default)]
pub struct WorkerPage {
    /// The workers.
    pub workers: Vec<ShownWorker>,
    /// Where the next page begins; empty on the last.
    pub next_page_token: String,
}

/// By queue, name, process and stream: the order of lists.
type WorkerKey = Vec<u8>;

impl QueueCalls {
    /// A page of workers, by queue and name.
    pub(in crate::engine) async fn list_workers(
        &self,
        caller: &Caller,
        query: WorkerListQuery,
    ) -> Result<WorkerPage> {
        let (keyspace, now) = (self.context.store.keyspace(), self.context.store.now(PARTITION));
        let queue = query.queue.as_ref().map_or("", |queue| queue.as_str());
        let binding = Binding::of(&[caller.id(), "workers", queue]);
        let mut workers = self.workers(query.queue.as_ref()).await?;
        if !query.page_token.is_empty() {
            let last = page_token::open(keyspace, &binding, &query.page_token, now)?;
            workers = workers.split_off(&last);
            workers.remove(&last);
        }
        let more = workers.len() > query.page_size;
        let mut page = WorkerPage::default();
        let mut last = WorkerKey::new();
        for (key, worker) in workers.into_iter().take(query.page_size) {
            last = key;
            page.workers.push(worker);
        }
        if more {
            page.next_page_token = page_token::seal(keyspace, &binding, &last, now)?;
        }
        Ok(page)
    }

    /// Asks all workers of that name to take no more operations of the queue.
    pub(in crate::engine) async fn drain_worker(
        &self,
        queue: Queue,
        name: &str,
    ) -> Result<Vec<ShownWorker>> {
        let mut workers = self.named(&queue, name).await?;
        if workers.is_empty() {
            let message = format!(
                "no worker {name:?} of {} is known; its name is in the list of workers",
                queue.full()
            );
            let resource = format!("{}/workers/{name}", queue.full());
            let error = Error::on(Reason::WorkerNotFound, resource, message);
            return Err(error.with("queue", queue.full()).with("worker", name));
        }
        let until = self.context.store.now(PARTITION) + DRAIN_REMEMBERED;
        let mut drain: Vec<DrainedWorker> = Vec::new();
        for shown in &mut workers {
            shown.worker.is_drained = true;
            let process = shown.worker.process.clone();
            if !drain.iter().any(|other| other.process.is(&process)) {
                drain.push(DrainedWorker { name: name.to_owned(), process, until });
            }
        }
        self.change(QueueUpdate { queue, drain, ..QueueUpdate::default() }).await?;
        Ok(workers)
    }

    /// Ends the drain of all workers of that name.
    pub(in crate::engine) async fn resume_worker(
        &self,
        queue: Queue,
        name: &str,
    ) -> Result<Vec<ShownWorker>> {
        let resume = Some(name.to_owned());
        let update = QueueUpdate { queue: queue.clone(), resume, ..QueueUpdate::default() };
        self.change(update).await?;
        let mut workers = self.named(&queue, name).await?;
        for shown in &mut workers {
            shown.worker.is_drained = false;
        }
        Ok(workers)
    }

    async fn named(&self, queue: &Queue, name: &str) -> Result<Vec<ShownWorker>> {
        let workers = self.workers(Some(queue)).await?;
        Ok(workers.into_values().filter(|shown| shown.worker.name == name).collect())
    }

    /// The workers of a queue, or of all.
    async fn workers(&self, queue: Option<&Queue>) -> Result<BTreeMap<WorkerKey, ShownWorker>> {
        let mut servers = self.membership.others().await?;
        servers.push((machine::process_name(), self.roster.served().await));
        let now = self.context.store.now(PARTITION);
        let mut workers: BTreeMap<WorkerKey, ShownWorker> = BTreeMap::new();
        for (server, served) in servers {
            for mut worker in served.workers {
                // The servers work on their own queue, too; they are no workers of anyone.
                let is_of_servers = worker.queue == Queue::of_servers().as_str();
                if is_of_servers || queue.is_some_and(|queue| queue.as_str() != worker.queue) {
                    continue;
                }
                // A server may not have applied the drain yet.
                worker.is_drained |= self.is_drained(&worker, now);
                let shown = ShownWorker { worker, server: server.clone() };
                match workers.entry(shown.key()) {
                    Entry::Occupied(mut found) => found.get_mut().merge(shown),
                    Entry::Vacant(free) => drop(free.insert(shown)),
                }
            }
        }
        Ok(workers)
    }

    fn is_drained(&self, worker: &ServedWorker, now: Timestamp) -> bool {
        let terms = self.known.of(&worker.queue);
        terms.is_some_and(|terms| terms.settings.is_drained(&worker.name, &worker.process, now))
    }
}

impl ShownWorker {
    /// A worker without a stream may call several servers, and is one; each stream is one of its own.
    fn key(&self) -> WorkerKey {
        let ServedWorker { queue, name, process, holder, .. } = &self.worker;
        let started = process.start_time.map_or(0, Timestamp::as_micros);
        let numbers = [process.id.to_be_bytes(), started.to_be_bytes()].concat();
        let texts = [queue.as_str(), name, &process.host, ""].join("\0").into_bytes();
        [texts, numbers, holder.map(Vec::from).unwrap_or_default()].concat()
    }

    /// Adds what another server knows of it.
    fn merge(&mut self, other: Self) {
        let (own, other_server, other) = (&mut self.worker, other.server, other.worker);
        if other.heard > own.heard {
            (own.heard, self.server) = (other.heard, other_server);
        }
        let known = |name: &str| own.operations.iter().any(|held| held.name == name);
        let new: Vec<_> = other.operations.into_iter().filter(|held| !known(&held.name)).collect();
        own.held = (own.held + new.len() as u32).max(other.held);
        own.operations.extend(new);
        own.operations.sort_by_key(|held| held.start_time);
        own.operations.truncate(MAX_SHOWN_HELD);
    }
}
