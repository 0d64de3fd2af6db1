//! The writer: the one thread that changes the database, one fsync for all that wait.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::damage;
use super::ground::Ground;
use super::group::Group;
use super::high_water::HighWater;
use super::open::{self, Directory, Open, Opened};
use super::options::Options;
use super::tables::Progress;
use super::time::StoreTime;
use crate::store::backend::Committed;
use crate::store::error::{CommitError, StoreError};
use crate::store::feed::{Event, Publisher};
use crate::store::key::Partition;
use crate::store::keyspace::Keyspace;
use crate::store::write_set::WriteSet;

/// What `commit` was asked, and where its answer goes.
pub(super) struct Job {
    pub(super) sets: Vec<WriteSet>,
    pub(super) reply: oneshot::Sender<Result<Vec<Outcome>, StoreError>>,
}

pub(super) type Outcome = Result<Committed, CommitError>;

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
            error!(cause, "the store commits nothing; it goes on by itself once the cause is gone");
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

/// What the writer works with.
pub(super) struct Writer {
    pub(super) options: Options,
    pub(super) keyspace: Keyspace,
    pub(super) open: Arc<RwLock<Option<Open>>>,
    pub(super) time: Arc<StoreTime>,
    pub(super) publisher: Publisher,
    pub(super) trouble: Arc<Trouble>,
    pub(super) note: HighWater,
    pub(super) ground: Ground,
    pub(super) progress: Progress,
    pub(super) broken: Option<Broken>,
    /// Released last, after the database has ended its threads.
    pub(super) directory: Directory,
}

/// A database that must be opened anew before anything else.
pub(super) struct Broken {
    cause: String,
    /// When to try.
    next: Duration,
    /// Whether its files have still to be looked through.
    unknown: bool,
}

impl Broken {
    /// Whether opening the database anew was not tried yet.
    const fn is_new(&self) -> bool {
        self.next.is_zero()
    }
}

impl Writer {
    /// Starts the thread. It ends when all senders of jobs are gone and their jobs done.
    pub(super) fn start(self, jobs: mpsc::Receiver<Job>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("longhaul-store".to_owned()).spawn(move || self.run(jobs))
    }

    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let group = gather(first, &mut jobs);
            let outcome = self.serve(&group);
            answer(group, outcome);
        }
        drop(self.open.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Commits a group if it can be done, after it has put right what can be put right.
    fn serve(&mut self, group: &[Job]) -> Result<Vec<Outcome>, StoreError> {
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

    fn ready(&mut self, group: &[Job]) -> Result<(), String> {
        self.ground.stands()?;
        self.ground.takes(group.iter().map(size).sum::<usize>() as u64)?;
        self.mend()
    }

    /// Commits; what fails then leaves unknown what is on disk.
    fn guarded(&mut self, group: &[Job]) -> Result<Vec<Outcome>, String> {
        let committed = catch_unwind(AssertUnwindSafe(|| self.commit(group)));
        let committed = committed.unwrap_or_else(|panic| Err(damage::said(&*panic)));
        committed.inspect_err(|cause| {
            let (cause, next) = (cause.clone(), Duration::ZERO);
            self.broken = Some(Broken { cause, next, unknown: true });
        })
    }

    /// Decides and writes a group. An error means that nothing is known of any of its sets.
    fn commit(&mut self, jobs: &[Job]) -> Result<Vec<Outcome>, String> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let Open { tables, mirror } = open.as_ref().ok_or("the database is not open")?;
        let mut group = Group::new(tables, self.progress, self.ground.takes_more());
        let sets = jobs.iter().flat_map(|job| &job.sets);
        let outcomes = sets.map(|set| group.add(set, self.time.now())).collect();
        let progress = group.progress();
        if progress == self.progress {
            // Whoever only asks learns too that a task of the database has failed.
            tables.check().map_err(|error| error.to_string())?;
            return Ok(outcomes);
        }
        group.write().map_err(|error| error.to_string())?;
        self.note.write(progress.revision).map_err(|error| format!("high-water: {error}"))?;
        self.ground.stands()?;
        self.progress = progress;
        self.time.advance(progress.revision);
        mirror.publish(group.index_changes());
        self.publisher.send_all(group.into_hints().into_iter().map(Event::Hint).collect());
        Ok(outcomes)
    }

    /// Opens the database anew where that is needed, at most once a second.
    ///
    /// Until then readers have the one that failed: it shows what was acknowledged and nothing else.
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
        self.broken = None;
        // What was committed and not acknowledged has been said to nobody.
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

/// Takes what else is waiting, up to a bound: a group in memory, and the wait of its first, must not grow without end.
fn gather(first: Job, jobs: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let mut size = size(&first);
    let mut group = vec![first];
    while size < GROUP_BYTES {
        let Ok(job) = jobs.try_recv() else { break };
        size += self::size(&job);
        group.push(job);
    }
    group
}

/// Roughly what a job adds to the journal.
fn size(job: &Job) -> usize {
    let of_set = |set: &WriteSet| {
        let values = set.puts.iter().map(|put| put.value.len()).sum::<usize>();
        let bodies = set.body_puts.iter().map(|(_, body)| body.len()).sum::<usize>();
        let entries = set.removals.len() + set.additions.len() + set.counters.len();
        values + bodies + 64 * (1 + entries)
    };
    job.sets.iter().map(of_set).sum()
}

fn answer(group: Vec<Job>, outcome: Result<Vec<Outcome>, StoreError>) {
    let mut outcome = outcome.map(Vec::into_iter);
    for job in group {
        let reply = match &mut outcome {
            Ok(outcomes) => Ok(outcomes.by_ref().take(job.sets.len()).collect()),
            Err(error) => Err(error.clone()),
        };
        // Who no longer waits does not need to know.
        let _ = job.reply.send(reply);
    }
}

/// About a thousand sets of the usual size.
const GROUP_BYTES: usize = 2 << 20;
/// Between attempts to open a database that failed.
const PAUSE: Duration = Duration::from_secs(1);
