//! The settings of all queues that have some of their own, as this server knows them.
//!
//! A commit of this server counts at once, one of another server as soon as its hint arrives, and without the hint after
//! [`QUEUES_REREAD`]. While no queue has settings, a call costs one load of an atomic.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::bucket::Bucket;
use super::wakes::Wakes;
use crate::engine::context::Context;
use crate::engine::error::Error;
use crate::engine::reading::reader::Reader;
use crate::engine::transact::{Commit, Observer};
use crate::limits::{MAX_QUEUE_SETTINGS, QUEUES_REREAD};
use crate::operation::gate::GateLimit;
use crate::record::Before;
use crate::record::queue::{PARTITION, QUEUES, QueueRecord, QueueSettings};
use crate::record::server::{Served, ServedQueue};
use crate::store::{Entry, Index, Key, Scan, StoreError};

/// The settings of queues, and the dispatchers to wake when they change.
pub(in crate::engine) struct KnownQueues {
    context: Arc<Context>,
    reader: Arc<Reader>,
    wakes: Wakes,
    /// The settings were read at least once.
    read: AtomicBool,
    /// Whether any queue has settings.
    any: AtomicBool,
    /// Rises with each commit and hint.
    changes: AtomicU64,
    known: RwLock<Known>,
    /// How many other servers want a share of the limit of a queue.
    sharing: Mutex<HashMap<String, u32>>,
    woken: Notify,
}

/// By id of the queue.
type Known = HashMap<String, Arc<QueueTerms>>;

/// The settings of one queue, on this server.
#[derive(Debug)]
pub(in crate::engine) struct QueueTerms {
    /// Of the record that they were read from.
    revision: u64,
    pub(in crate::engine) settings: QueueSettings,
    /// If leases are limited.
    pub(in crate::engine) bucket: Option<Arc<Bucket>>,
}

impl KnownQueues {
    pub(in crate::engine) fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        Self {
            context,
            reader,
            wakes: Wakes::default(),
            read: AtomicBool::new(false),
            any: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            known: RwLock::default(),
            sharing: Mutex::default(),
            woken: Notify::new(),
        }
    }

    /// The wake-ups of the dispatchers.
    pub(in crate::engine) const fn wakes(&self) -> &Wakes {
        &self.wakes
    }

    /// The settings of a queue that has some of its own, as far as they are known.
    pub(in crate::engine) fn of(&self, queue: &str) -> Option<Arc<QueueTerms>> {
        if self.any.load(Ordering::Acquire) { self.known().get(queue).cloned() } else { None }
    }

    /// How many operations of a queue may run at the same time, if that is limited.
    pub(in crate::engine) fn limit_of(&self, queue: &str) -> Option<GateLimit> {
        let terms = self.of(queue)?;
        let most = terms.settings.max_running as usize;
        (most > 0).then_some(GateLimit { most, revision: terms.revision })
    }

    /// The settings of a queue, once they were read.
    pub(in crate::engine) async fn read_of(
        &self,
        queue: &str,
    ) -> Result<Option<Arc<QueueTerms>>, StoreError> {
        if !self.is_read() {
            self.check().await?;
        }
        Ok(self.of(queue))
    }

    /// Whether the settings were read at least once. Before that no operation is leased.
    pub(in crate::engine) fn is_read(&self) -> bool {
        self.read.load(Ordering::Acquire)
    }

    /// The settings of a queue changed, or may have.
    pub(in crate::engine) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.woken.notify_one();
    }

    /// Which changes are known. A read that begins now knows them.
    pub(in crate::engine) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Takes in the settings of a queue that were read, unless they have changed since then.
    pub(in crate::engine) fn take_in(
        &self,
        queue: &str,
        changes: u64,
        found: Option<&Before<QueueRecord>>,
    ) {
        let mut known = self.known_mut();
        if self.changes() == changes {
            let found = found.map(|before| (before.stamps.revision, &before.record.settings));
            self.set(&mut known, queue, found);
        }
    }

    /// Reads the settings when they have changed, and now and then.
    pub(in crate::engine) async fn run(self: Arc<Self>) {
        loop {
            if let Err(error) = self.check().await {
                let error = Box::<Error>::from(error);
                self.context.log_failure("could not read the settings of queues", &error);
            }
            tokio::select! {
                () = self.context.sleep(QUEUES_REREAD) => {}
                () = self.woken.notified() => {}
            }
        }
    }

    /// Shares limits of leases with other servers, as far as they want leases too.
    pub(in crate::engine) fn share_with(&self, others: &[Served]) {
        let mut sharing = HashMap::new();
        for served in others.iter().flat_map(|other| &other.queues) {
            if served.wants_share {
                *sharing.entry(served.id.clone()).or_default() += 1;
            }
        }
        let now = self.context.clock.elapsed();
        // In this order, as a queue that becomes known looks here.
        let known = self.known();
        for (queue, terms) in known.iter() {
            let Some(bucket) = &terms.bucket else { continue };
            bucket.share_among(1 + sharing.get(queue).copied().unwrap_or_default(), now);
        }
        *self.sharing() = sharing;
    }

    /// Marks the queues with a limit from which this server wanted leases a moment ago.
    pub(in crate::engine) fn mark_wanted(&self, queues: &mut [ServedQueue]) {
        let now = self.context.clock.elapsed();
        for served in queues {
            let bucket = self.of(&served.id).and_then(|terms| terms.bucket.clone());
            let wanted = bucket.and_then(|bucket| bucket.wanted());
            served.wants_share = wanted.is_some_and(|at| now.saturating_sub(at) < SHARE_KEPT);
        }
    }

    async fn check(&self) -> Result<(), StoreError> {
        loop {
            let changes = self.changes();
            let scan =
                Scan::first(Index::new(QUEUES), MAX_QUEUE_SETTINGS + SPARE).within(PARTITION);
            let entries = self.context.store.scan(scan).await?;
            let keys: Vec<Key> = entries.iter().filter_map(Entry::key).collect();
            let records = if keys.is_empty() {
                Vec::new()
            } else {
                self.reader.read_each::<QueueRecord>(&keys).await?
            };
            let mut known = self.known_mut();
            if self.changes() != changes {
                continue;
            }
            let mut gone: Vec<String> = known.keys().cloned().collect();
            for (entry, record) in entries.iter().zip(records) {
                let Some(queue) = QueueRecord::id_of(&entry.member) else { continue };
                // What cannot be read stays as it was known before; the reader has noted it.
                if let Ok(Some(Before { record, stamps })) = &record {
                    self.set(&mut known, queue, Some((stamps.revision, &record.settings)));
                }
                if !matches!(record, Ok(None)) {
                    gone.retain(|gone| gone != queue);
                }
            }
            for queue in gone {
                self.set(&mut known, &queue, None);
            }
            self.read.store(true, Ordering::Release);
            return Ok(());
        }
    }

    /// Notes the settings of a queue, and wakes its dispatcher if they are others.
    fn set(&self, known: &mut Known, queue: &str, found: Option<(u64, &QueueSettings)>) {
        let former = known.get(queue);
        if former.map(|terms| terms.revision) == found.map(|(revision, _)| revision) {
            return;
        }
        match found {
            Some((revision, settings)) => {
                let bucket = former.and_then(|former| former.bucket.clone());
                let bucket = self.bucket(queue, settings.max_leases_per_second, bucket);
                let terms = QueueTerms { revision, settings: settings.clone(), bucket };
                known.insert(queue.to_owned(), Arc::new(terms));
            }
            None => drop(known.remove(queue)),
        }
        self.any.store(!known.is_empty(), Ordering::Release);
        self.wakes.wake(queue);
    }

    /// The bucket for that limit, with what the former one of the same limit has left.
    fn bucket(&self, queue: &str, rate: f64, former: Option<Arc<Bucket>>) -> Option<Arc<Bucket>> {
        if rate == 0.0 {
            return None;
        }
        let same = former.filter(|former| former.rate().total_cmp(&rate).is_eq());
        let new = || {
            let now = self.context.clock.elapsed();
            let bucket = Bucket::new(rate, now);
            bucket.share_among(1 + self.sharing().get(queue).copied().unwrap_or_default(), now);
            Arc::new(bucket)
        };
        Some(same.unwrap_or_else(new))
    }

    fn sharing(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.sharing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer<QueueRecord> for KnownQueues {
    fn committed(&self, commit: Commit<QueueRecord>) -> Option<QueueRecord> {
        let (before, after) = (commit.before.as_ref(), commit.change.main);
        let mut known = self.known_mut();
        // A read that is under way may not know this commit yet.
        self.changed();
        let queue = after.as_ref().or(before.map(|before| &before.record)).map(|it| &it.queue);
        if let Some(queue) = queue {
            let settings = after.as_ref().map(|after| &after.settings);
            let found = settings.map(|settings| (commit.committed.revision, settings));
            self.set(&mut known, queue.as_str(), found);
        }
        after
    }
}

/// How long a server keeps its share of a limit without wanting leases.
const SHARE_KEPT: Duration = Duration::from_secs(4);
/// A few more than there may be: several servers may make the last ones at the same time.
const SPARE: usize = 100;
