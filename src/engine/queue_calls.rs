//! Queues as operators see and change them: settings from their record, numbers from counters and the heads of indexes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};

use super::access::Caller;
use super::context::Context;
use super::error::{Error, Reason, Result};
use super::operations::page_token::{self, Binding};
use super::queues::known::KnownQueues;
use super::reading::reader::Reader;
use super::transact::{Decision, Ended, Transaction, Transactor};
use crate::clock::Timestamp;
use crate::limits::{MAX_QUEUE_SETTINGS, MAX_QUEUES_LISTED};
use crate::operation::counters::{OF_QUEUES, QueueCount, queue_count};
use crate::operation::entries::{ready_index, ready_place};
use crate::operation::name::Queue;
use crate::operation::{Record, State};
use crate::record::queue::{PARTITION, QUEUES, QueueRecord, QueueSettings};
use crate::record::{Before, Change};
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
}

/// A change of the settings of a queue. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct QueueUpdate {
    /// Which queue.
    pub queue: Queue,
    /// Only if the settings have this etag; an empty one fits all.
    pub etag: String,
    /// Whether it is paused.
    pub paused: Option<bool>,
    /// Most operations that run at the same time; 0 is no limit.
    pub max_running: Option<u32>,
    /// Most leases in a second; 0 is no limit.
    pub max_leases_per_second: Option<f64>,
    /// The aging interval; zero is as for every queue.
    pub aging_interval: Option<Duration>,
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
pub(super) struct QueueCalls {
    context: Arc<Context>,
    reader: Arc<Reader>,
    known: Arc<KnownQueues>,
    transactor: Transactor<KnownQueues>,
}

impl ShownQueue {
    /// Changes with the settings.
    pub fn etag(&self) -> String {
        etag(self.revision)
    }
}

impl QueueCalls {
    pub(super) fn new(context: Arc<Context>, reader: Arc<Reader>, known: Arc<KnownQueues>) -> Self {
        let transactor = Transactor::new(context.clone(), reader.clone(), known.clone());
        Self { context, reader, known, transactor }
    }

    /// A queue now.
    pub(super) async fn get(&self, queue: &Queue) -> Result<ShownQueue> {
        let mut shown = self.show(vec![queue.clone()]).await?;
        shown.pop().ok_or_else(|| Error::internal(&"a queue that was not read"))
    }

    /// A page of queues, by name.
    pub(super) async fn list(&self, caller: &Caller, query: QueueListQuery) -> Result<QueuePage> {
        let (keyspace, now) = (self.context.store.keyspace(), self.context.store.now(PARTITION));
        let binding = Binding::of(&[&caller.id, "queues"]);
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
    pub(super) async fn update(&self, update: QueueUpdate) -> Result<ShownQueue> {
        let queue = update.queue.clone();
        let key = self.key(&queue);
        if self.reader.read_each::<QueueRecord>(&[key]).await?.pop().is_none_or(is_absent) {
            self.check_room().await?;
        }
        let mut set = SetQueue { key, update, refusal: None };
        match self.transactor.transact_one(&mut set).await {
            Ended::Failed(CommitError::Unavailable(error)) => return Err(error.into()),
            Ended::Failed(_) | Ended::Unknown => return Err(Error::busy(&queue.full())),
            Ended::Unreadable(_) => return Err(unreadable(&queue)),
            Ended::Written { .. } | Ended::Kept { .. } => {}
        }
        match set.refusal {
            Some(refusal) => Err(refusal),
            None => self.get(&queue).await,
        }
    }

    /// All queues with operations to do or settings of their own, in the order of their ids.
    async fn names(&self) -> Result<BTreeSet<Queue>> {
        let store = &self.context.store;
        let counted = store.counter_names(OF_QUEUES, MAX_QUEUES_LISTED).await?;
        let set = self.with_settings().await?;
        let counted = counted.iter().map(|name| std::str::from_utf8(name).ok());
        let set = set.iter().map(|entry| QueueRecord::id_of(&entry.member));
        Ok(counted.chain(set).flatten().filter_map(|id| Queue::parse(id).ok()).collect())
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

    async fn show(&self, queues: Vec<Queue>) -> Result<Vec<ShownQueue>> {
        let store = &self.context.store;
        let changes = self.known.changes();
        let keys: Vec<Key> = queues.iter().map(|queue| self.key(queue)).collect();
        let records = self.reader.read_each::<QueueRecord>(&keys).await?;
        let names: Vec<Bytes> =
            queues.iter().map(|queue| queue.as_str().to_owned().into()).collect();
        let counters = store.counters(OF_QUEUES, &names).await?;
        let mut shown = Vec::with_capacity(queues.len());
        for ((queue, record), counter) in queues.into_iter().zip(records).zip(counters) {
            let record = record.map_err(|_| unreadable(&queue))?;
            self.known.take_in(queue.as_str(), changes, record.as_ref());
            let (settings, revision) = record.map_or_else(Default::default, |before| {
                (before.record.settings, before.stamps.revision)
            });
            let count = queue_count(counter);
            shown.push(ShownQueue { queue, settings, revision, count, oldest: None });
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

/// A change of the settings of a queue, under way.
struct SetQueue {
    key: Key,
    update: QueueUpdate,
    refusal: Option<Box<Error>>,
}

impl Transaction for SetQueue {
    type Kind = QueueRecord;

    fn key(&self) -> Key {
        self.key
    }

    fn decide(
        &mut self,
        before: Option<&Before<QueueRecord>>,
        _certain: bool,
        _now: Timestamp,
    ) -> Decision<QueueRecord> {
        let update = &self.update;
        let current = etag(before.map_or(0, |before| before.stamps.revision));
        if !update.etag.is_empty() && update.etag != current {
            let name = update.queue.full();
            let message =
                format!("the settings of {name} have changed; read them, then decide again");
            let refusal = Error::on(Reason::EtagMismatch, name, message).with("etag", current);
            self.refusal = Some(refusal);
            return Decision::Keep;
        }
        self.refusal = None;
        let former = before.map(|before| before.record.settings.clone()).unwrap_or_default();
        let settings = update.applied_to(former.clone());
        if settings == former {
            return Decision::Keep;
        }
        let is_own = settings != QueueSettings::default();
        let after = is_own.then(|| QueueRecord { queue: update.queue.clone(), settings });
        Decision::Commit(Box::new(Change { visible: true, ..Change::of(after) }))
    }

    fn recognises_itself(&self) -> bool {
        false
    }
}

impl QueueUpdate {
    fn applied_to(&self, former: QueueSettings) -> QueueSettings {
        QueueSettings {
            paused: self.paused.unwrap_or(former.paused),
            max_running: self.max_running.unwrap_or(former.max_running),
            max_leases_per_second: self
                .max_leases_per_second
                .unwrap_or(former.max_leases_per_second),
            aging_interval: self
                .aging_interval
                .map_or(former.aging_interval, |own| Some(own).filter(|own| !own.is_zero())),
        }
    }
}

fn is_absent<K, E>(found: std::result::Result<Option<K>, E>) -> bool {
    matches!(found, Ok(None))
}

fn etag(revision: u64) -> String {
    format!("\"{revision:x}\"")
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
