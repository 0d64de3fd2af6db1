//! Queues as operators see and change them: settings from their record, numbers from counters, the heads of indexes, and what
//! servers tell of their workers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::Notify;

use super::changes::{QueueUpdate, SetQueue, etag};
use crate::clock::Timestamp;
use crate::engine::access::Caller;
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::membership::ranks::Membership;
use crate::engine::operations::page_token::{self, Binding};
use crate::engine::queues::known::KnownQueues;
use crate::engine::reading::reader::Reader;
use crate::engine::roster::registry::Roster;
use crate::engine::transact::{Ended, Transactor};
use crate::limits::{MAX_QUEUE_SETTINGS, MAX_QUEUES_LISTED};
use crate::operation::counters::{OF_QUEUES, QueueCount, queue_count};
use crate::operation::entries::{ready_index, ready_place};
use crate::operation::name::Queue;
use crate::operation::{Record, State};
use crate::record::Before;
use crate::record::queue::{PARTITION, QUEUES, QueueRecord, QueueSettings};
use crate::record::server::ServedQueue;
use crate::store::{CommitError, Entry, Index, Key, Scan};

/// A queue as operators get it.
#[derive(Clone, Debug)]
pub struct ShownQueue {
    /// Which.
    pub queue: Queue,
    /// Its settings.
    pub settings: QueueSettings,
    /// The revision of the settings; 0 if it has none of its own.
    pub revision: u64,
    /// What it holds.
    pub count: QueueCount,
    /// Since when the operation at its head can be leased.
    pub oldest: Option<Timestamp>,
    /// Who serves it, over all servers.
    pub served: ServedQueue,
}

/// A list of queues.
#[derive(Clone, Debug)]
pub struct QueueListQuery {
    /// How many at most.
    pub page_size: usize,
    /// Where the last page ended; empty for the first.
    pub page_token: String,
}

/// A page of them.
#[derive(Clone, Debug, Default)]
pub struct QueuePage {
    /// The queues.
    pub queues: Vec<ShownQueue>,
    /// Where the next page begins; empty on the last.
    pub next_page_token: String,
}

/// Shows queues and changes their settings.
pub(in crate::engine) struct QueueCalls {
    pub(super) context: Arc<Context>,
    reader: Arc<Reader>,
    pub(super) membership: Arc<Membership>,
    pub(super) roster: Arc<Roster>,
    pub(super) known: Arc<KnownQueues>,
    transactor: Transactor<KnownQueues>,
    pub(super) readings: RateReadings,
}

/// When `/metrics` was last read.
#[derive(Default)]
pub(super) struct RateReadings {
    /// In microseconds as the engine's clock counts elapsed time, and one; 0 for never.
    pub(super) last: AtomicU64,
    pub(super) read: Notify,
}

impl ShownQueue {
    /// Changes with the settings.
    pub fn etag(&self) -> String {
        etag(self.revision)
    }
}

impl QueueCalls {
    pub(in crate::engine) fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        membership: Arc<Membership>,
        roster: Arc<Roster>,
        known: Arc<KnownQueues>,
    ) -> Self {
        let transactor = Transactor::new(context.clone(), reader.clone(), known.clone());
        let readings = RateReadings::default();
        Self { context, reader, membership, roster, known, transactor, readings }
    }

    /// A queue now.
    pub(in crate::engine) async fn get(&self, queue: &Queue) -> Result<ShownQueue> {
        let mut shown = self.show(vec![queue.clone()]).await?;
        shown.pop().ok_or_else(|| unreadable(queue))
    }

    /// A page of queues, by name.
    pub(in crate::engine) async fn list(
        &self,
        caller: &Caller,
        query: QueueListQuery,
    ) -> Result<QueuePage> {
        let (keyspace, now) = (self.context.store.keyspace(), self.context.store.now(PARTITION));
        let binding = Binding::of(&[caller.id(), "queues"]);
        let mut queues = self.names().await?;
        if !query.page_token.is_empty() {
            let last = page_token::open(keyspace, &binding, &query.page_token, now)?;
            queues.retain(|queue| queue.as_str().as_bytes() > &last[..]);
        }
        let more = queues.len() > query.page_size;
        let queues: Vec<Queue> = queues.into_iter().take(query.page_size).collect();
        let next_page_token = match queues.last() {
            Some(last) if more => {
                page_token::seal(keyspace, &binding, last.as_str().as_bytes(), now)?
            }
            _ => String::new(),
        };
        Ok(QueuePage { queues: self.show(queues).await?, next_page_token })
    }

    /// Changes the settings of a queue, and shows it.
    pub(in crate::engine) async fn update(&self, update: QueueUpdate) -> Result<ShownQueue> {
        let queue = update.queue.clone();
        self.change(update).await?;
        self.get(&queue).await
    }

    /// Changes the settings of a queue.
    pub(super) async fn change(&self, update: QueueUpdate) -> Result<()> {
        let queue = update.queue.clone();
        let key = self.key(&queue);
        if self.reader.read_each::<QueueRecord>(&[key]).await?.pop().is_none_or(is_absent) {
            self.check_room().await?;
        }
        let mut set = SetQueue::new(key, update);
        match self.transactor.transact_one(&mut set).await {
            Ended::Failed(CommitError::Unavailable(error)) => Err(error.into()),
            Ended::Failed(_) | Ended::Unknown => Err(Error::busy(&queue.full())),
            Ended::Unreadable(_) => Err(unreadable(&queue)),
            Ended::Written { .. } | Ended::Kept { .. } => set.refusal.map_or(Ok(()), Err),
        }
    }

    /// All queues with operations to do, workers, or settings of their own, in the order of their ids.
    pub(super) async fn names(&self) -> Result<BTreeSet<Queue>> {
        let store = &self.context.store;
        let now = store.now(PARTITION);
        let counted = store.counter_names(OF_QUEUES, MAX_QUEUES_LISTED).await?;
        let counted = counted.iter().filter_map(|name| std::str::from_utf8(name).ok());
        let set = self.with_settings().await?;
        let is_own = |id: &&str| {
            // What was not read yet counts.
            self.known.of(id).is_none_or(|terms| terms.settings.is_own(now))
        };
        let set = set.iter().filter_map(|entry| QueueRecord::id_of(&entry.member)).filter(is_own);
        let served = self.served().await?;
        let served = served.values().filter(|served| served.workers > 0);
        let served = served.map(|served| served.id.as_str());
        Ok(counted.chain(set).chain(served).filter_map(|id| Queue::parse(id).ok()).collect())
    }

    /// What workers do in each queue, over all servers.
    async fn served(&self) -> Result<HashMap<String, ServedQueue>> {
        let mut all: HashMap<String, ServedQueue> = HashMap::new();
        let others = self.membership.others().await?;
        let others = others.into_iter().flat_map(|(_, served)| served.queues);
        for served in self.roster.queues().into_iter().chain(others) {
            let sum = ServedQueue::entry(&mut all, &served.id);
            sum.workers += served.workers;
            sum.asked = sum.asked.max(served.asked);
            sum.leases_per_second += served.leases_per_second;
        }
        Ok(all)
    }

    async fn with_settings(&self) -> Result<Vec<Entry>> {
        let scan = Scan::first(Index::new(QUEUES), MAX_QUEUE_SETTINGS).within(PARTITION);
        Ok(self.context.store.scan(scan).await?)
    }

    async fn check_room(&self) -> Result<()> {
        if self.with_settings().await?.len() < MAX_QUEUE_SETTINGS {
            return Ok(());
        }
        let message = format!(
            "{MAX_QUEUE_SETTINGS} queues have settings of their own, which are the most; set those of another queue back"
        );
        Err(Error::new(Reason::LimitExceeded, message).with("limit", MAX_QUEUE_SETTINGS))
    }

    pub(super) async fn show(&self, queues: Vec<Queue>) -> Result<Vec<ShownQueue>> {
        let store = &self.context.store;
        let changes = self.known.changes();
        let keys: Vec<Key> = queues.iter().map(|queue| self.key(queue)).collect();
        let records = self.reader.read_each::<QueueRecord>(&keys).await?;
        let names: Vec<Bytes> =
            queues.iter().map(|queue| queue.as_str().to_owned().into()).collect();
        let counters = store.counters(OF_QUEUES, &names).await?;
        let mut all = self.served().await?;
        let mut shown = Vec::with_capacity(queues.len());
        for ((queue, record), counter) in queues.into_iter().zip(records).zip(counters) {
            // One that cannot be read is left out; the reader has noted it.
            let Ok(record) = record else { continue };
            self.known.take_in(queue.as_str(), changes, record.as_ref());
            let (settings, revision) = record.map_or_else(Default::default, |before| {
                (before.record.settings, before.stamps.revision)
            });
            let count = queue_count(counter);
            let served = all.remove(queue.as_str()).unwrap_or_default();
            shown.push(ShownQueue { queue, settings, revision, count, oldest: None, served });
        }
        futures_util::stream::iter(shown)
            .map(|shown| self.with_oldest(shown))
            .buffered(HEADS_AT_ONCE)
            .try_collect()
            .await
    }

    /// Reads the first operation of each parent, of the first few.
    async fn with_oldest(&self, mut shown: ShownQueue) -> Result<ShownQueue> {
        if shown.count.pending == 0 {
            return Ok(shown);
        }
        let index = Index::new(ready_index(shown.queue.as_str()));
        let (mut keys, mut scan) = (Vec::new(), Scan::first(index.clone(), 1));
        while keys.len() < MAX_HEADS {
            let Some(head) = self.context.store.scan(scan).await?.pop() else { break };
            let Some((turn, _)) = ready_place(&head.member) else { break };
            keys.extend(head.key());
            scan = Scan::first(index.clone(), 1).after_prefix(&turn);
        }
        let records = self.reader.read_each::<Record>(&keys).await?;
        let ready = |before: Before<Record>| match &before.record.operation()?.state {
            State::Pending(pending) => Some(pending.ready_time),
            _ => None,
        };
        shown.oldest = records.into_iter().filter_map(|record| ready(record.ok()??)).min();
        Ok(shown)
    }

    fn key(&self, queue: &Queue) -> Key {
        QueueRecord::key(self.context.store.keyspace(), queue.as_str())
    }
}

fn is_absent<K, E>(found: std::result::Result<Option<K>, E>) -> bool {
    matches!(found, Ok(None))
}

fn unreadable(queue: &Queue) -> Box<Error> {
    let message =
        format!("the settings of {} cannot be read; the server's log has the cause", queue.full());
    Error::new(Reason::Internal, message)
}

/// Heads of queues that are read at the same time.
const HEADS_AT_ONCE: usize = 16;
/// Parents of a queue whose first operation is read.
const MAX_HEADS: usize = 16;
