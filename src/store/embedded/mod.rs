//! The store in one directory: fjall below, one writer thread above it.
//!
//! Owns the directory while it is open. Commits queue for the writer, which decides and writes them in groups, one fsync
//! each, and only then acknowledges them; reads go past it and see what is on disk and nothing else. There is one
//! partition. Once a write has failed nothing is answered any more: what a failed fsync left behind is unknown.
//!
//! Reads of records and counters run where they are called: they take a few microseconds, less than handing them to another
//! thread and back. Bodies, pages of an index on disk, and large batches of records run on tokio's blocking pool.

mod floor;
mod group;
mod high_water;
mod mirror;
mod open;
mod tables;
mod time;
mod torn;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use self::mirror::Mirror;
use self::open::Opened;
use self::tables::Tables;
use self::time::StoreTime;
use self::writer::{Failure, Job, Writer};
use super::{
    BodyKey, CommitError, Committed, Durability, Entry, Feed, Key, Keyspace, OpenError, Partition,
    Publisher, Record, Scan, Store, StoreError, WriteSet,
};
use crate::clock::{Clock, SystemClock, Timestamp};

/// How to open an embedded store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory; made where there is none.
    pub path: PathBuf,
    /// The only keyspace that is acceptable; any, or a new one, where `None`.
    pub keyspace: Option<Uuid>,
    /// Opens a store that has lost acknowledged commits.
    pub accept_loss: bool,
    /// Where the store's time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// The defaults for a store in the directory `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), keyspace: None, accept_loss: false, clock: SystemClock::new() }
    }
}

/// The store in one directory.
pub struct EmbeddedStore {
    keyspace: Keyspace,
    time: Arc<StoreTime>,
    failure: Arc<Failure>,
    open: RwLock<Option<Arc<Open>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What closing lets go of. The writer ends when nobody holds it any more, and with the writer the database.
struct Open {
    tables: Arc<Tables>,
    mirror: Arc<Mirror>,
    publisher: Publisher,
    /// Bounded: who finds it full waits its turn. The last field, so that the writer outlives the others.
    jobs: mpsc::Sender<Job>,
}

impl EmbeddedStore {
    /// Opens the store, or makes one in an empty or new directory. Blocks while it reads.
    ///
    /// # Errors
    /// [`OpenError`], none of which passes by waiting but [`OpenError::Locked`].
    pub fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        let opened = open::open(&options)?;
        Self::start(opened, options.clock).map_err(|error| open::failed(&options.path, error))
    }

    fn start(opened: Opened, clock: Arc<dyn Clock>) -> fjall::Result<Arc<Self>> {
        let mirror = Arc::new(Mirror::load(&opened.tables)?);
        let time = Arc::new(StoreTime::new(Arc::clone(&clock), opened.progress.revision));
        let (tables, failure) = (Arc::new(opened.tables), Arc::<Failure>::default());
        let publisher = Publisher::new(1);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer {
            tables: Arc::clone(&tables),
            mirror: Arc::clone(&mirror),
            time: Arc::clone(&time),
            clock,
            publisher: publisher.clone(),
            note: opened.note,
            failure: Arc::clone(&failure),
            progress: opened.progress,
        };
        let writer = writer.start(queue)?;
        Ok(Arc::new(Self {
            keyspace: opened.keyspace,
            time,
            failure,
            open: RwLock::new(Some(Arc::new(Open { tables, mirror, publisher, jobs }))),
            writer: Mutex::new(Some(writer)),
        }))
    }

    /// What is open, unless the store was closed or has failed.
    fn opened(&self) -> Result<Arc<Open>, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner).clone();
        let open = open.ok_or(StoreError::Closed)?;
        self.failure.check()?;
        Ok(open)
    }

    async fn submit(
        &self,
        sets: Vec<WriteSet>,
    ) -> Result<Vec<Result<Committed, CommitError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let open = self.opened()?;
        let sent = open.jobs.send(Job { sets, reply }).await;
        // Not held while waiting: closing waits for everybody who holds it.
        drop(open);
        let ended = || StoreError::Away("the writer has ended".to_owned());
        sent.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }

    /// Reads on a thread that may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Open) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let open = self.opened()?;
        let read = tokio::task::spawn_blocking(move || read(&open));
        read.await.map_err(|error| StoreError::Away(error.to_string()))?
    }

    fn take_writer(&self) -> Option<JoinHandle<()>> {
        drop(self.open.write().unwrap_or_else(PoisonError::into_inner).take());
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    fn durability(&self) -> Durability {
        Durability::Fsync
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        if keys.len() <= INLINE_RECORDS {
            return self.opened()?.tables.records(keys);
        }
        let keys = keys.to_vec();
        self.blocking(move |open| open.tables.records(&keys)).await
    }

    async fn bodies(&self, keys: &[BodyKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let keys = keys.to_vec();
        self.blocking(move |open| open.tables.bodies(&keys)).await
    }

    async fn commit(&self, sets: Vec<WriteSet>) -> Vec<Result<Committed, CommitError>> {
        let count = sets.len();
        match self.submit(sets).await {
            Ok(outcomes) => outcomes,
            Err(error) => vec![Err(error.into()); count],
        }
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Entry>, StoreError> {
        let open = self.opened()?;
        if mirror::is_empty(&scan) || scan.partition.is_some_and(|partition| partition.0 != 0) {
            return Ok(Vec::new());
        }
        if Mirror::holds(scan.index.as_str()) {
            return Ok(open.mirror.scan(&scan));
        }
        drop(open);
        self.blocking(move |open| open.mirror.scan_on_disk(scan, |scan| open.tables.scan(scan)))
            .await
    }

    async fn counter(&self, name: &[u8]) -> Result<i64, StoreError> {
        self.opened()?.tables.counter(name)
    }

    fn feed(&self) -> Feed {
        // A closed store's feed ends at once, as the feeds have ended that it had.
        self.opened()
            .map_or_else(|_| Publisher::new(1).subscribe(), |open| open.publisher.subscribe())
    }

    fn now(&self, _: Partition) -> Timestamp {
        self.time.now()
    }

    fn answering_since(&self, _: Partition) -> Option<Timestamp> {
        self.opened().is_ok().then(|| self.time.steady_since())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.opened().map(|_| ())
    }

    async fn close(&self) {
        let writer = self.take_writer();
        // The writer lets go of the database at its end, which waits for fjall's threads.
        let joined = tokio::task::spawn_blocking(|| writer.map(JoinHandle::join)).await;
        debug_assert!(joined.is_ok(), "joining cannot be aborted");
    }
}

/// Acknowledged commits are on disk already; this only ends the writer, so that the directory can be opened again.
impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        if let Some(writer) = self.take_writer() {
            // A writer that panicked has said so.
            let _ = writer.join();
        }
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EmbeddedStore")
            .field("keyspace", &self.keyspace)
            .finish_non_exhaustive()
    }
}

/// Calls of `commit` that may wait for the writer before further ones wait to be queued.
const QUEUE: usize = 1024;
/// Records that one `get` reads where it is called: a page of a list, some 0.3 ms at worst from a warm disk.
const INLINE_RECORDS: usize = 64;

#[cfg(test)]
pub(crate) mod tests;
