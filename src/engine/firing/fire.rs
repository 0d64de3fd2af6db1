//! Acting on jobs that are due, and on executions that are over.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{StreamExt, iter};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::engine::commands::apply::Commands;
use crate::engine::error::{Error, Result};
use crate::engine::firing::executions;
use crate::engine::firing::steps;
use crate::engine::firing::transactions::{JobTransaction, SettleEnd, changed};
use crate::engine::queues::known::KnownQueues;
use crate::engine::reading::reader::Lookup;
use crate::engine::tenants::Tenants;
use crate::engine::transact::{Decision, Ended, Transaction};
use crate::job::{ExecutionEnd, Job, JobStep, Overlap, Room, Trimmed};
use crate::limits::MAX_JOB_RUNS;
use crate::record::execution::keys;
use crate::record::{AnyRecord, Before};
use crate::store::Key;

/// Fires jobs.
pub(in crate::engine) struct Firing {
    commands: Arc<Commands>,
    queues: Arc<KnownQueues>,
    tenants: Arc<Tenants>,
}

impl Firing {
    pub(in crate::engine) const fn new(
        commands: Arc<Commands>,
        queues: Arc<KnownQueues>,
        tenants: Arc<Tenants>,
    ) -> Self {
        Self { commands, queues, tenants }
    }

    /// Takes the ticks of jobs that are due, and does what follows; how many jobs changed.
    pub(in crate::engine) async fn fire(&self, found: Vec<(Key, Before<Job>)>) -> usize {
        if found.is_empty() {
            return 0;
        }
        let jobs: Vec<&Job> = found.iter().map(|(_, before)| &before.record).collect();
        // Runs that may overlap matter only where there are too many.
        let asks =
            |job: &Job| job.config.overlap != Overlap::Allow || job.runs.len() >= MAX_JOB_RUNS;
        let over = self.over_each(&jobs, asks).await;
        let tick = |((key, before), over): ((Key, Before<Job>), Vec<Uuid>)| {
            let room = self.room(&before.record);
            let advance = changed(move |job, now| {
                job.over(&over);
                job.advance_with(room, now);
            });
            JobTransaction::on(key, before, advance)
        };
        let mut ticks: Vec<_> = found.into_iter().zip(over).map(tick).collect();
        let ends = self.commands.transactor().transact(&mut ticks).await;
        let mut jobs = Vec::with_capacity(ends.len());
        let mut count = 0;
        for (tick, ended) in ticks.iter().zip(ends) {
            count += usize::from(matches!(ended, Ended::Written { .. }));
            jobs.extend(job_of(ended).map(|job| (tick.key(), job)));
        }
        for (_, job) in &jobs {
            self.count_starts(job);
        }
        let (deleted, live): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|(_, job)| job.deleted && job.runs.is_empty());
        count + self.perform(live).await + self.purge(deleted).await
    }

    /// Whether the tenant of a job may store further operations.
    fn room(&self, job: &Job) -> Room {
        let is_full = self.tenants.is_full(job.name.parent(), &job.config.spec);
        if is_full { Room::None } else { Room::Free }
    }

    /// The runs that are to start count for the tenant of their job.
    fn count_starts(&self, job: &Job) {
        let starts = job.runs.iter().filter(|run| !run.started).count();
        if starts > 0 {
            self.tenants.count_starts(job.name.parent(), &job.config.spec, starts);
        }
    }

    /// Does what jobs have decided, until nothing is left to do; how many commits of jobs that took.
    pub(in crate::engine) async fn perform(&self, mut jobs: Vec<(Key, Job)>) -> usize {
        let mut count = 0;
        for _ in 0..ROUNDS {
            jobs.retain(|(_, job)| !job.steps().is_empty());
            if jobs.is_empty() {
                break;
            }
            let done = steps::take(&self.commands, &self.queues, &jobs).await;
            let mut notes: Vec<_> = jobs
                .into_iter()
                .zip(done)
                .filter(|(_, done)| !done.is_empty())
                .map(|((key, job), done)| note(key, job, done))
                .collect();
            let ends = self.commands.transactor().transact(&mut notes).await;
            jobs = Vec::with_capacity(ends.len());
            for (note, ended) in notes.iter().zip(ends) {
                count += usize::from(matches!(ended, Ended::Written { .. }));
                jobs.extend(job_of(ended).map(|job| (note.key(), job)));
            }
        }
        count
    }

    /// Tells jobs that executions are over, and does what follows; how many executions are settled by that.
    pub(in crate::engine) async fn settle(&self, found: Vec<(Key, Before<ExecutionEnd>)>) -> usize {
        if found.is_empty() {
            return 0;
        }
        let keyspace = self.commands.context().store.keyspace();
        let job_key = |end: &Before<ExecutionEnd>| keyspace.key(end.record.job.as_str());
        let mut over: HashMap<Key, Vec<Uuid>> = HashMap::new();
        for (_, end) in &found {
            over.entry(job_key(end)).or_default().push(end.record.id);
        }
        let (mut jobs, mut settled) = (Vec::new(), Vec::new());
        for (key, job) in self.tell(over).await {
            settled.push(key);
            jobs.extend(job.map(|job| (key, job)));
        }
        self.perform(jobs.clone()).await;
        let is_settled = |(_, end): &(Key, Before<ExecutionEnd>)| settled.contains(&job_key(end));
        let end = |(key, before)| SettleEnd { key, read: Some(before) };
        let mut ends: Vec<_> = found.into_iter().filter(is_settled).map(end).collect();
        let ended = self.commands.transactor().transact(&mut ends).await;
        // Where many end together, those that could not be removed before can be removed now.
        let trimmed = self.trim(jobs.iter().map(|(key, job)| (*key, job))).await;
        let note =
            |(key, trimmed)| JobTransaction::new(key, changed(move |job, _| job.trimmed(trimmed)));
        let mut notes: Vec<_> = trimmed.into_iter().map(note).collect();
        self.commands.transactor().transact(&mut notes).await;
        ended.iter().filter(|ended| matches!(ended, Ended::Written { .. })).count()
    }

    /// Tells jobs which of their runs are over. The jobs that know it, by their keys; `None` for one that is gone.
    async fn tell(&self, mut over: HashMap<Key, Vec<Uuid>>) -> Vec<(Key, Option<Job>)> {
        let keys: Vec<Key> = over.keys().copied().collect();
        let jobs = match self.commands.reader().read_each::<Job>(&keys).await {
            Ok(jobs) => jobs,
            Err(error) => {
                let error = Box::<Error>::from(error);
                let context = self.commands.context();
                context.log_failure("could not read the jobs of runs that are over", &error);
                return Vec::new();
            }
        };
        let jobs: Vec<(Key, Option<Before<Job>>)> =
            keys.into_iter().zip(jobs.into_iter().map(|job| job.ok().flatten())).collect();
        let read = jobs.iter().filter_map(|(key, job)| Some((*key, &job.as_ref()?.record)));
        // Before the commit that follows anyway, so that the number of executions is written with it.
        let mut trimmed = self.trim(read).await;
        let transaction = |(key, read): (Key, Option<Before<Job>>)| {
            let (ids, trimmed) = (over.remove(&key).unwrap_or_default(), trimmed.remove(&key));
            let forget = changed(move |job, now| {
                job.over(&ids);
                if let Some(trimmed) = trimmed {
                    job.trimmed(trimmed);
                }
                job.advance(now);
            });
            match read {
                Some(read) => JobTransaction::on(key, read, forget),
                None => JobTransaction::new(key, forget),
            }
        };
        let mut told: Vec<_> = jobs.into_iter().map(transaction).collect();
        let ends = self.commands.transactor().transact(&mut told).await;
        let knows =
            |ended: &Ended<Job>| matches!(ended, Ended::Written { .. } | Ended::Kept { .. });
        let ended = told.iter().map(Transaction::key).zip(ends);
        ended.filter(|(_, ended)| knows(ended)).map(|(key, ended)| (key, job_of(ended))).collect()
    }

    /// Removes the oldest executions of the jobs that may have too many.
    async fn trim(&self, jobs: impl Iterator<Item = (Key, &Job)>) -> HashMap<Key, Trimmed> {
        let jobs = jobs.filter(|(_, job)| !job.deleted && job.keeps_too_many());
        let commands = &self.commands;
        let trimming = |(key, job)| async move { (key, executions::trim(commands, job).await) };
        let trimming: Vec<_> = jobs.map(trimming).collect();
        let mut trimmed = HashMap::new();
        let mut ended = iter(trimming).buffer_unordered(AT_ONCE);
        while let Some((key, ended)) = ended.next().await {
            match ended {
                Ok(ended) => drop(trimmed.insert(key, ended)),
                Err(error) => {
                    let context = commands.context();
                    context.log_failure("could not remove old executions; trying again", &error);
                }
            }
        }
        trimmed
    }

    /// Removes an execution that is over.
    pub(in crate::engine) async fn remove(
        &self,
        operation: Key,
        end: Before<ExecutionEnd>,
    ) -> Result<()> {
        executions::remove_one(&self.commands, operation, end).await
    }

    /// The runs of a job that are over, whether it knows it or not.
    pub(in crate::engine) async fn over(&self, job: &Job) -> Vec<Uuid> {
        self.over_each(&[job], |_| true).await.pop().unwrap_or_default()
    }

    /// The runs of each job for which `asks` holds that are over: those with an end, and those whose operation is done or gone.
    async fn over_each(&self, jobs: &[&Job], asks: impl Fn(&Job) -> bool) -> Vec<Vec<Uuid>> {
        let context = self.commands.context();
        let mut over: Vec<Vec<Uuid>> = jobs.iter().map(|_| Vec::new()).collect();
        let (mut runs, mut wanted) = (Vec::new(), Vec::new());
        for (number, job) in jobs.iter().enumerate().filter(|(_, job)| asks(job)) {
            for run in job.runs.iter().filter(|run| run.started) {
                let key = context.key(&job.name.execution(run.id).operation());
                runs.push((number, run.id));
                wanted.extend([key, keys(key)[1]]);
            }
        }
        if wanted.is_empty() {
            return over;
        }
        match self.commands.reader().read_any(&wanted).await {
            Ok(found) => {
                let pairs = runs.into_iter().zip(found.chunks_exact(2));
                for ((number, id), _) in pairs.filter(|(_, pair)| is_over(pair)) {
                    over[number].push(id);
                }
            }
            Err(error) => {
                let error = Box::<Error>::from(error);
                context.log_failure("could not read the runs of a job", &error);
            }
        }
        over
    }

    /// Removes what is left of deleted jobs, a bounded number of executions; how many jobs had any.
    async fn purge(&self, jobs: Vec<(Key, Job)>) -> usize {
        let commands = &self.commands;
        let purging =
            |(key, job): (Key, Job)| async move { executions::purge(commands, key, &job).await };
        let purging: Vec<_> = jobs.into_iter().map(purging).collect();
        let mut count = 0;
        let mut ended = iter(purging).buffer_unordered(AT_ONCE);
        while let Some(ended) = ended.next().await {
            match ended {
                Ok(removed) => count += usize::from(removed),
                Err(error) => {
                    let context = commands.context();
                    context.log_failure("could not remove a deleted job; trying again", &error);
                }
            }
        }
        count
    }
}

/// Whether a run is over, from the records of its operation and of its end.
fn is_over(pair: &[Lookup<AnyRecord>]) -> bool {
    let is_gone = match &pair[0] {
        Ok(None) => true,
        // Also without an end: an older longhaul that ended it writes none.
        Ok(Some(AnyRecord::Operation(before))) => {
            before.record.operation().is_none_or(|operation| operation.state.is_done())
        }
        Ok(Some(_)) | Err(_) => false,
    };
    is_gone || matches!(pair[1], Ok(Some(_)))
}

/// The transaction in which a job notes that steps are done.
fn note(
    key: Key,
    job: Job,
    done: Vec<JobStep>,
) -> JobTransaction<impl FnMut(Option<&Before<Job>>, Timestamp) -> Decision<Job>> {
    let before = Before { stamps: job.stamps, record: job };
    JobTransaction::on(key, before, changed(move |job, now| job.done(&done, now)))
}

fn job_of(ended: Ended<Job>) -> Option<Job> {
    match ended {
        Ended::Written { record, .. } => record,
        Ended::Kept { before, .. } => before.map(|before| before.record),
        Ended::Failed(_) | Ended::Unreadable(_) | Ended::Unknown => None,
    }
}

/// A start, a release and a cancel may follow one another.
const ROUNDS: usize = 4;
/// Jobs whose executions are removed at the same time.
const AT_ONCE: usize = 16;
