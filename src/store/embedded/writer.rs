//! The writer: the one thread that changes the database, one fsync for all that wait.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::damage;
use super::ground::Ground;
use super::group::Group;
use super::high_water::HighWater;
use super::open::{self, Directory, OpenTables, Opened};
use super::options::Options;
use super::tables::HighestWritten;
use super::time::EmbeddedTime;
use crate::store::backend::Committed;
use crate::store::error::{CommitError, StoreError};
use crate::store::feed::{Event, Publisher};
use crate::store::key::Partition;
use crate::store::keyspace::Keyspace;
use crate::store::write_set::WriteSet;

/// Write sets of one `commit`, and the channel for their results.
pub(super) struct PendingCommit {
    pub(super) sets: Vec<WriteSet>,
    pub(super) reply: oneshot::Sender<Result<Vec<CommitResult>, StoreError>>,
}

pub(super) type CommitResult = Result<Committed, CommitError>;

/// Why nothing is committed now, if so.
#[derive(Debug, Default)]
pub(super) struct Trouble(RwLock<Option<String>>);

impl Trouble {
    /// Fails while nothing is committed.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let cause = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        cause.map_or(Ok(()), |cause| Err(StoreError::Away(cause)))
    }

    fn set(&self, cause: &str) {
        let before =
            self.0.write().unwrap_or_else(PoisonError::into_inner).replace(cause.to_owned());
        // Numbers in it may change each time.
        let same = |before: &String| before.split(':').next() == cause.split(':').next();
        if !before.as_ref().is_some_and(same) {
            error!(
                cause,
                "the store commits nothing; it continues by itself once the cause is gone"
            );
        }
    }

    /// Returns whether there was trouble.
    fn clear(&self) -> bool {
        let before = self.0.write().unwrap_or_else(PoisonError::into_inner).take();
        if before.is_some() {
            info!("the store commits again");
        }
        before.is_some()
    }
}

/// The parts of the writer.
pub(super) struct GroupWriter {
    pub(super) options: Options,
    pub(super) keyspace: Keyspace,
    pub(super) open: Arc<RwLock<Option<OpenTables>>>,
    pub(super) time: Arc<EmbeddedTime>,
    pub(super) publisher: Publisher,
    /// The sequence of the last hint, for readers.
    pub(super) hinted: Arc<AtomicU64>,
    pub(super) trouble: Arc<Trouble>,
    pub(super) note: HighWater,
    pub(super) ground: Ground,
    pub(super) progress: HighestWritten,
    pub(super) broken: Option<Broken>,
    /// Released last, after the database has ended its threads.
    pub(super) directory: Directory,
}

/// A database that must be opened anew before anything else.
pub(super) struct Broken {
    cause: String,
    /// When to try.
    next: Duration,
    /// Whether its files have still to be searched for damage.
    unknown: bool,
}

impl Broken {
    /// Whether opening the database anew was not tried yet.
    const fn is_new(&self) -> bool {
        self.next.is_zero()
    }
}

impl GroupWriter {
    /// Starts the thread. It ends when all senders of jobs are gone and their jobs done.
    pub(super) fn start(self, jobs: mpsc::Receiver<PendingCommit>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("longhaul-store".to_owned()).spawn(move || self.run(jobs))
    }

    fn run(mut self, mut jobs: mpsc::Receiver<PendingCommit>) {
        while let Some(first) = jobs.blocking_recv() {
            let group = gather(first, &mut jobs);
            let outcome = self.serve(&group);
            answer(group, outcome);
        }
        drop(self.open.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Commits a group if possible, after repairs if necessary.
    fn serve(&mut self, group: &[PendingCommit]) -> Result<Vec<CommitResult>, StoreError> {
        self.time.busy();
        let mut result = self.ready(group).and_then(|()| self.guarded(group));
        let asks_only = group.iter().all(|job| job.sets.is_empty());
        if result.is_err() && asks_only && self.broken.as_ref().is_some_and(Broken::is_new) {
            // The database failed by itself some time ago, and this call is the first to notice.
            result = self.mend().and_then(|()| self.guarded(group));
        }
        self.time.done();
        match &result {
            Ok(_) => {
                if self.trouble.clear() {
                    self.time.begin_anew();
                }
            }
            Err(cause) => self.trouble.set(cause),
        }
        result.map_err(StoreError::Away)
    }

    fn ready(&mut self, group: &[PendingCommit]) -> Result<(), String> {
        self.ground.stands()?;
        self.ground.takes(group.iter().map(size).sum::<usize>() as u64)?;
        self.mend()
    }

    /// Commits; after a failure the state of the disk is unknown.
    fn guarded(&mut self, group: &[PendingCommit]) -> Result<Vec<CommitResult>, String> {
        let committed = catch_unwind(AssertUnwindSafe(|| self.commit(group)));
        let committed = committed.unwrap_or_else(|panic| Err(damage::said(&*panic)));
        committed.inspect_err(|cause| {
            let (cause, next) = (cause.clone(), Duration::ZERO);
            self.broken = Some(Broken { cause, next, unknown: true });
        })
    }

    /// Decides and writes a group. An error means that the outcome of all its sets is unknown.
    fn commit(&mut self, jobs: &[PendingCommit]) -> Result<Vec<CommitResult>, String> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let OpenTables { tables, mirror } = open.as_ref().ok_or("the database is not open")?;
        let mut group = Group::new(tables, self.progress, self.ground.takes_more());
        let sets = jobs.iter().flat_map(|job| &job.sets);
        let outcomes = sets.map(|set| group.add(set, self.time.now())).collect();
        let progress = group.progress();
        if progress == self.progress {
            // A caller that only checks also learns that a task of the database has failed.
            tables.check().map_err(|error| error.to_string())?;
            return Ok(outcomes);
        }
        group.write().map_err(|error| error.to_string())?;
        self.note.write(progress.revision).map_err(|error| format!("high-water: {error}"))?;
        self.ground.stands()?;
        self.progress = progress;
        self.time.advance(progress.revision);
        mirror.publish(group.index_changes());
        self.hinted.store(progress.sequence, Ordering::Release);
        self.publisher.send_all(group.into_hints().into_iter().map(Event::Hint).collect());
        Ok(outcomes)
    }

    /// Opens the database again if necessary, at most once a second.
    ///
    /// Until then readers use the failed one: it shows only acknowledged data.
    fn mend(&mut self) -> Result<(), String> {
        let Some(broken) = &mut self.broken else { return Ok(()) };
        let now = self.options.clock.elapsed();
        if now < broken.next {
            return Err(broken.cause.clone());
        }
        broken.next = now + PAUSE;
        if let Some(found) = broken.unknown.then(|| open::damaged(&self.options.path)).flatten() {
            broken.next = Duration::MAX;
            broken.cause = found;
            return Err(broken.cause.clone());
        }
        broken.unknown = false;
        let cause = broken.cause.clone();
        let failed = |error: &dyn std::fmt::Display| format!("{cause}; opening it again: {error}");
        open::rewrite_journals(&self.options.path).map_err(|error| failed(&error))?;
        let opened = self.reopen().map_err(|error| failed(&error))?;
        self.progress = opened.progress;
        self.note = opened.note;
        self.ground = opened.ground;
        self.time.advance(self.progress.revision);
        self.hinted.store(self.progress.sequence, Ordering::Release);
        self.broken = None;
        // Committed but unacknowledged data was not visible to any client.
        self.publisher.send(Event::Gap(vec![Partition(0)]));
        Ok(())
    }

    fn reopen(&self) -> Result<Opened, crate::store::error::OpenError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        drop(open.take());
        let options = Options {
            keyspace: Some(self.keyspace.id()),
            accept_loss: false,
            ..self.options.clone()
        };
        let (opened, tables) = open::again(&options, &self.directory)?;
        *open = Some(tables);
        Ok(opened)
    }
}

/// Takes further waiting commits, up to a bound: neither the size of a group nor the wait of its first may grow without end.
fn gather(first: PendingCommit, jobs: &mut mpsc::Receiver<PendingCommit>) -> Vec<PendingCommit> {
    let mut size = size(&first);
    let mut group = vec![first];
    while size < GROUP_BYTES {
        let Ok(job) = jobs.try_recv() else { break };
        size += self::size(&job);
        group.push(job);
    }
    group
}

/// Approximate size of a commit in the journal.
fn size(job: &PendingCommit) -> usize {
    let of_set = |set: &WriteSet| {
        let values = set.puts.iter().map(|put| put.value.len()).sum::<usize>();
        let bodies = set.body_puts.iter().map(|(_, body)| body.len()).sum::<usize>();
        let entries = set.removals.len() + set.additions.len() + set.counters.len();
        values + bodies + 64 * (1 + entries)
    };
    job.sets.iter().map(of_set).sum()
}

fn answer(group: Vec<PendingCommit>, outcome: Result<Vec<CommitResult>, StoreError>) {
    let mut outcome = outcome.map(Vec::into_iter);
    for job in group {
        let reply = match &mut outcome {
            Ok(outcomes) => Ok(outcomes.by_ref().take(job.sets.len()).collect()),
            Err(error) => Err(error.clone()),
        };
        // The caller may have stopped waiting.
        let _ = job.reply.send(reply);
    }
}

/// About a thousand sets of the usual size.
const GROUP_BYTES: usize = 2 << 20;
/// Between attempts to open a database that failed.
const PAUSE: Duration = Duration::from_secs(1);
