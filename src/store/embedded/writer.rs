//! The writer: the one thread that changes the database, one fsync for all that wait.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::group::Group;
use super::high_water::HighWater;
use super::mirror::Mirror;
use super::tables::{Progress, Tables};
use super::time::StoreTime;
use crate::clock::Clock;
use crate::store::{CommitError, Committed, Event, Publisher, StoreError, WriteSet};

/// What `commit` was asked, and where its answer goes.
pub(super) struct Job {
    pub(super) sets: Vec<WriteSet>,
    pub(super) reply: oneshot::Sender<Vec<Outcome>>,
}

pub(super) type Outcome = Result<Committed, CommitError>;

/// Why the store gave up, once it has.
///
/// After a failed fsync nobody knows what is on disk, and the next fsync would say that all is well: so there is none.
#[derive(Debug, Default)]
pub(super) struct Failure(OnceLock<String>);

impl Failure {
    /// Fails once the store has failed.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.0.get().map_or(Ok(()), |cause| Err(StoreError::Away(cause.clone())))
    }

    fn set(&self, cause: String) {
        if self.0.set(cause.clone()).is_ok() {
            error!(cause, "the store has failed and answers nothing until it is opened anew");
        }
    }
}

/// What the writer works with.
pub(super) struct Writer {
    pub(super) tables: Arc<Tables>,
    pub(super) mirror: Arc<Mirror>,
    pub(super) time: Arc<StoreTime>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) publisher: Publisher,
    pub(super) note: HighWater,
    pub(super) failure: Arc<Failure>,
    pub(super) progress: Progress,
}

impl Writer {
    /// Starts the thread. It ends when all senders of jobs are gone and their jobs done.
    pub(super) fn start(self, jobs: mpsc::Receiver<Job>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("longhaul-store".to_owned()).spawn(move || self.run(jobs))
    }

    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let _alarm = Alarm(Arc::clone(&self.failure));
        while let Some(first) = jobs.blocking_recv() {
            let group = gather(first, &mut jobs);
            let outcome = match self.failure.check() {
                Ok(()) => self.commit(&group).map_err(|cause| {
                    self.failure.set(cause.clone());
                    StoreError::Away(cause)
                }),
                Err(failed) => Err(failed),
            };
            answer(group, outcome);
        }
    }

    /// Decides and writes a group. An error means that nothing is known of any of its sets.
    fn commit(&mut self, jobs: &[Job]) -> Result<Vec<Outcome>, String> {
        let mut group = Group::new(&self.tables, self.progress);
        let sets = jobs.iter().flat_map(|job| &job.sets);
        let outcomes = sets.map(|set| group.add(set, self.clock.now())).collect();
        let progress = group.progress();
        if progress == self.progress {
            return Ok(outcomes);
        }
        group.write().map_err(|error| error.to_string())?;
        self.note.write(progress.revision).map_err(|error| format!("high-water: {error}"))?;
        self.progress = progress;
        self.time.advance(progress.revision);
        self.mirror.publish(group.index_changes());
        self.publisher.send_all(group.into_hints().into_iter().map(Event::Hint).collect());
        Ok(outcomes)
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
            Ok(outcomes) => outcomes.by_ref().take(job.sets.len()).collect(),
            Err(error) => vec![Err(error.clone().into()); job.sets.len()],
        };
        // Who no longer waits does not need to know.
        let _ = job.reply.send(reply);
    }
}

/// Says so if the writer dies: reads must not go on as if commits could follow.
struct Alarm(Arc<Failure>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set("the writer has panicked".to_owned());
        }
    }
}

/// About a thousand sets of the usual size.
const GROUP_BYTES: usize = 2 << 20;
