//! The store in one directory: fjall below, one writer thread above it.
//!
//! Owns the directory while it is open. Commits queue for the writer, which decides and writes them in groups, one fsync
//! each, and only then acknowledges them; reads bypass the queue and see only data that is on disk. There is one
//! partition. After a failed write nothing is committed, because the result of a failed fsync is unknown, until the
//! writer has opened the database again.
//!
//! Reads of records and counters run on the calling thread: they take a few microseconds, less than a move to another
//! thread and back. Bodies, pages of an index on disk, and large batches of records run on tokio's blocking pool.

mod damage;
mod floor;
mod ground;
mod group;
mod high_water;
mod mirror;
mod open;
mod options;
mod tables;
mod time;
mod torn;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use self::open::{Directory, OpenTables, Opened};
use self::time::EmbeddedTime;
use self::writer::{GroupWriter, PendingCommit, Trouble};
use super::backend::{Committed, Durability, Record, Store};
use super::error::{CommitError, OpenError, StoreError};
use super::feed::{Feed, Publisher};
use super::index::{Entry, Scan};
use super::key::{BodyKey, Key, Partition};
use super::keyspace::Keyspace;
use super::write_set::WriteSet;
use crate::clock::{Clock, Timestamp};

pub use self::options::{DEFAULT_RESERVE, Options};

/// The store in one directory.
pub struct EmbeddedStore {
    keyspace: Keyspace,
    /// The directory, for messages.
    place: String,
    stopwatch: Arc<dyn Clock>,
    time: Arc<EmbeddedTime>,
    trouble: Arc<Trouble>,
    /// `None` while the writer opens it anew, and once the writer has ended.
    open: Arc<RwLock<Option<OpenTables>>>,
    /// Bounded: callers wait while it is full. `None` once the store is closed; the writer ends when it has no sender.
    jobs: RwLock<Option<(mpsc::Sender<PendingCommit>, Publisher)>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// The sequence of the last hint.
    hinted: Arc<AtomicU64>,
}

impl EmbeddedStore {
    /// Opens the store, or makes one in an empty or new directory. Blocks while it reads.
    ///
    /// # Errors
    /// [`OpenError`], none of which passes by waiting but [`OpenError::Locked`].
    pub fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        let (directory, opened, open) = open::open(&options)?;
        let path = options.path.clone();
        Self::start(options, directory, opened, open).map_err(|error| open::failed(&path, &error))
    }

    fn start(
        options: Options,
        directory: Directory,
        opened: Opened,
        open: OpenTables,
    ) -> std::io::Result<Arc<Self>> {
        let stopwatch = Arc::clone(&options.stopwatch);
        let place = format!("the store in {}", options.path.display());
        let time = Arc::new(EmbeddedTime::new(&options, opened.progress.revision));
        let (open, trouble) = (Arc::new(RwLock::new(Some(open))), Arc::<Trouble>::default());
        let publisher = Publisher::new(1);
        let hinted = Arc::new(AtomicU64::new(opened.progress.sequence));
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = GroupWriter {
            options,
            keyspace: opened.keyspace.clone(),
            open: Arc::clone(&open),
            time: Arc::clone(&time),
            publisher: publisher.clone(),
            hinted: Arc::clone(&hinted),
            trouble: Arc::clone(&trouble),
            note: opened.note,
            ground: opened.ground,
            progress: opened.progress,
            broken: None,
            directory,
        };
        let writer = writer.start(queue)?;
        Ok(Arc::new(Self {
            keyspace: opened.keyspace,
            place,
            stopwatch,
            time,
            trouble,
            open,
            jobs: RwLock::new(Some((jobs, publisher))),
            writer: Mutex::new(Some(writer)),
            hinted,
        }))
    }

    /// Fails once the store was closed.
    fn living(&self) -> Result<(), StoreError> {
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        jobs.as_ref().map(|_| ()).ok_or(StoreError::Closed)
    }

    fn sender(&self) -> Result<mpsc::Sender<PendingCommit>, StoreError> {
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        jobs.as_ref().map(|(sender, _)| sender.clone()).ok_or(StoreError::Closed)
    }

    /// Hands sets to the writer. No sets at all are the question whether it would commit any.
    async fn submit(
        &self,
        sets: Vec<WriteSet>,
        patience: Duration,
    ) -> Result<Vec<Result<Committed, CommitError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let jobs = self.sender()?;
        let ended = || StoreError::Away("the writer has ended".to_owned());
        let answered = async {
            let sent = jobs.send(PendingCommit { sets, reply }).await;
            // Not held while waiting: closing waits for all readers.
            drop(jobs);
            sent.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        };
        tokio::select! {
            biased;
            answer = answered => answer,
            () = self.stopwatch.sleep(patience) => {
                let waited = humantime::format_duration(patience);
                Err(StoreError::Away(format!("the disk has not answered for {waited}")))
            }
        }
    }

    /// Reads. Never waits for the writer: while it opens the database again there is nothing to read.
    fn read<T>(
        &self,
        read: impl FnOnce(&OpenTables) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.living()?;
        read_from(&self.open, read)
    }

    /// Reads on a thread that may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&OpenTables) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.living()?;
        let open = Arc::clone(&self.open);
        let read = tokio::task::spawn_blocking(move || read_from(&open, read));
        read.await.map_err(|error| StoreError::Away(error.to_string()))?
    }

    async fn put_root(&self, root: Vec<u8>) -> Result<(), StoreError> {
        self.blocking(move |open| open.tables.put_root(&root).map_err(tables::unreadable)).await
    }

    /// Moves everything from the journal to sorted files.
    #[cfg(test)]
    fn flush(&self) {
        let flushed = self.read(|open| open.tables.flush().map_err(tables::unreadable));
        flushed.expect("flushed");
    }

    /// The keys that an empty store does not have, and the bytes of all files but the journal.
    #[cfg(test)]
    fn left(&self) -> (usize, u64) {
        let left = self.read(|open| open.tables.compacted().map_err(tables::unreadable));
        left.expect("compacted")
    }

    fn take_writer(&self) -> Option<JoinHandle<()>> {
        drop(self.jobs.write().unwrap_or_else(PoisonError::into_inner).take());
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn read_from<T>(
    open: &RwLock<Option<OpenTables>>,
    read: impl FnOnce(&OpenTables) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let open = match open.try_read() {
        Ok(open) => open,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return Err(reopening()),
    };
    let open = open.as_ref().ok_or_else(reopening)?;
    // Damaged data can also make a reader panic.
    let found = catch_unwind(AssertUnwindSafe(|| read(open)));
    found.unwrap_or_else(|panic| Err(StoreError::Damaged(damage::said(&*panic))))
}

fn reopening() -> StoreError {
    StoreError::Away("the database is being opened again".to_owned())
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
            return self.read(|open| open.tables.records(keys));
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
        if let Some(why) = self.keyspace.outdated(&self.place) {
            return vec![Err(StoreError::Unfit(why).into()); count];
        }
        match self.submit(sets, PATIENCE).await {
            Ok(outcomes) => outcomes,
            Err(error) => vec![Err(error.into()); count],
        }
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Entry>, StoreError> {
        if mirror::is_empty(&scan) || scan.partition.is_some_and(|partition| partition.0 != 0) {
            return self.living().map(|()| Vec::new());
        }
        if let Some(found) = self.read(|open| Ok(open.mirror.scan(&scan)))? {
            return Ok(found);
        }
        self.blocking(move |open| open.mirror.scan_on_disk(scan, |scan| open.tables.scan(scan)))
            .await
    }

    async fn keys(
        &self,
        partition: Partition,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Vec<Key>, StoreError> {
        if partition.0 != 0 {
            return self.living().map(|()| Vec::new());
        }
        self.blocking(move |open| open.tables.keys(after, limit)).await
    }
    async fn counters(&self, family: &str, names: &[Bytes]) -> Result<Vec<i64>, StoreError> {
        if names.len() <= INLINE_RECORDS {
            return self.read(|open| open.tables.counters(family, names));
        }
        let (family, names) = (family.to_owned(), names.to_vec());
        self.blocking(move |open| open.tables.counters(&family, &names)).await
    }

    async fn counter_names(&self, family: &str, limit: usize) -> Result<Vec<Bytes>, StoreError> {
        let family = family.to_owned();
        self.blocking(move |open| open.tables.counter_names(&family, limit)).await
    }

    fn feed(&self) -> Feed {
        // A closed store's feed ends at once, as the feeds have ended that it had.
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        let none = || Publisher::new(1).subscribe();
        jobs.as_ref().map_or_else(none, |(_, publisher)| publisher.subscribe())
    }

    async fn hint_positions(&self) -> Result<Vec<u64>, StoreError> {
        self.living().map(|()| vec![self.hinted.load(Ordering::Acquire)])
    }

    fn now(&self, _: Partition) -> Timestamp {
        self.time.now()
    }

    fn answering_since(&self, _: Partition) -> Option<Timestamp> {
        self.trouble.check().and_then(|()| self.living()).ok()?;
        self.time.steady_since()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.submit(Vec::new(), PATIENCE / 2).await.map(|_| ())
    }

    fn remark(&self) -> Option<String> {
        self.time.remark()
    }

    async fn raise_min_writer(&self, format: u32) -> Result<(), StoreError> {
        let root = self.keyspace.encode_raised(format);
        self.put_root(root.clone()).await?;
        self.keyspace.observe(&root);
        Ok(())
    }

    async fn finish_import(&self) -> Result<(), StoreError> {
        self.put_root(self.keyspace.encode_complete()).await
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
            // A writer that panicked has logged it.
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
/// Records or counters that one call reads where it is made: a page of a list, some 0.3 ms at worst from a warm disk.
const INLINE_RECORDS: usize = 64;
/// How long a commit may wait for the disk before its caller gets an unknown outcome.
const PATIENCE: Duration = Duration::from_secs(10);
#[cfg(test)]
pub(crate) mod tests;
