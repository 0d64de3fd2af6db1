//! Jobs: create, get, list, update, delete, run, pause, resume, backfill.

use std::sync::Arc;

use uuid::Uuid;

use super::view::JobView;
use crate::clock::Timestamp;
use crate::engine::access::Caller;
use crate::engine::commands::apply::Commands;
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::firing::fire::Firing;
use crate::engine::firing::transactions::JobTransaction;
use crate::engine::reading::reader::{READS, Reader};
use crate::engine::reading::view::{View, payload};
use crate::engine::tenants::Tenants;
use crate::engine::transact::{Decision, Ended};
use crate::job::name::JobName;
use crate::job::{Backfill, Execution, Job, JobConfig, RememberedCall};
use crate::limits::{DELETION_MEMORY, MAX_BACKFILL_TICKS};
use crate::operation::lease::Fingerprint;
use crate::operation::name::Parent;
use crate::record::execution::keys;
use crate::record::operation::Slot;
use crate::record::{Before, Change};
use crate::store::Key;

/// A checked request to create a job.
#[derive(Clone, Debug)]
pub struct JobCreation {
    /// Its parent.
    pub parent: Parent,
    /// Its id; the server makes one if it is empty.
    pub id: String,
    /// Its configuration.
    pub config: JobConfig,
    /// Identifies a repeat.
    pub request: JobRequest,
    /// Only check the request.
    pub validate_only: bool,
}

/// Identifies a call that may be repeated.
#[derive(Clone, Debug, Default)]
pub struct JobRequest {
    /// The caller's id of it; may be empty.
    pub id: String,
    /// Hash of everything that a repeat must repeat.
    pub fingerprint: Fingerprint,
}

/// A checked request to pause, resume or delete a job.
#[derive(Clone, Debug)]
pub struct JobControl {
    /// Which job.
    pub name: JobName,
    /// If set, the etag that it must have.
    pub etag: String,
    /// Identifies a repeat.
    pub request: JobRequest,
}

/// A change of a job's configuration.
pub struct Reconfigure<'a> {
    /// If set, the etag that the job must have.
    pub etag: &'a str,
    /// Identifies a repeat.
    pub request: &'a JobRequest,
    /// Only check the request.
    pub validate_only: bool,
    /// What the configuration becomes.
    pub change: &'a (dyn Fn(&JobConfig) -> Result<JobConfig> + Send + Sync),
}

/// A range of past ticks.
#[derive(Clone, Debug)]
pub struct PastTicks {
    /// From this on.
    pub start: Timestamp,
    /// Before this.
    pub end: Timestamp,
    /// Identifies a replay; may be empty.
    pub request_id: String,
    /// Only count them.
    pub validate_only: bool,
}

/// The verbs of jobs.
pub struct Jobs {
    pub(super) context: Arc<Context>,
    pub(super) reader: Arc<Reader>,
    pub(super) commands: Arc<Commands>,
    pub(super) firing: Arc<Firing>,
    pub(super) tenants: Arc<Tenants>,
}

impl Jobs {
    /// Creates a job, or finds the one that the same request created before.
    pub async fn create(&self, caller: &Caller, wanted: JobCreation) -> Result<JobView> {
        self.tenants.write(wanted.parent.as_str())?;
        let id = match (wanted.id.as_str(), wanted.request.id.as_str()) {
            ("", "") => Uuid::new_v4().to_string(),
            ("", request_id) => {
                self.derived("job", &[caller.id(), wanted.parent.as_str(), request_id]).to_string()
            }
            (id, _) => id.to_owned(),
        };
        let name = JobName::new(&wanted.parent, &id)?;
        let key = self.key(&name);
        let now = self.context.now(key);
        let mut job = Job::created(name, wanted.config, now);
        job.handled.extend(self.mark(caller, &wanted.request));
        (job.request_id, job.fingerprint) = (wanted.request.id, wanted.request.fingerprint);
        let decide = |before: Option<&Before<Job>>, _| {
            let is_free = before.is_none_or(|before| before.record.emptied);
            if !is_free || wanted.validate_only {
                return Decision::Keep;
            }
            let change = Change { visible: true, ..Change::of(Some(job.clone())) };
            Decision::Commit(Box::new(change))
        };
        let mut creation = if wanted.validate_only {
            JobTransaction::new(key, decide)
        } else {
            JobTransaction::absent(key, decide)
        };
        let ended = self.commands.transactor().transact_one(&mut creation).await;
        match into_job(ended, &job)? {
            Some(found) => self.recognise(&job, found).await,
            None => self.shown(key, job).await,
        }
    }

    /// The job that has the name already, if the same request created it.
    async fn recognise(&self, wanted: &Job, found: Job) -> Result<JobView> {
        let name = &found.name;
        let ours = found.uid == wanted.uid;
        let same_request = !wanted.request_id.is_empty() && wanted.request_id == found.request_id;
        if found.deleted || !(ours || same_request) {
            let message = if found.deleted {
                format!("{name} is being deleted; try again once its executions are removed")
            } else {
                format!("{name} exists already; choose another job_id, or update it")
            };
            return Err(Error::on(Reason::JobAlreadyExists, name.to_string(), message));
        }
        if !ours && found.fingerprint != wanted.fingerprint {
            let message = format!(
                "request_id {:?} created {name} with other content before; use a new request_id",
                wanted.request_id
            );
            let error = Error::on(Reason::RequestIdReused, name.to_string(), message);
            return Err(error.with("field", "request_id"));
        }
        self.shown(self.key(&found.name), found).await
    }

    /// A job.
    pub async fn get(&self, name: &JobName) -> Result<JobView> {
        self.tenants.read(name.parent()).await;
        self.load(name).await
    }

    async fn load(&self, name: &JobName) -> Result<JobView> {
        for _ in 0..READS {
            let job = self.read(name).await?.record;
            let request = job.config.spec.request.as_ref();
            let store = &*self.context.store;
            if let Some(request) = payload(store, self.key(name), Slot::Request, request).await? {
                return Ok(JobView { job, request });
            }
        }
        Err(Error::busy(name))
    }

    /// Gives a job another configuration.
    pub async fn update(
        &self,
        caller: &Caller,
        name: &JobName,
        wanted: &Reconfigure<'_>,
    ) -> Result<JobView> {
        self.tenants.write(name.parent())?;
        let change = |job: &mut Job, now| {
            job.check_etag(wanted.etag)?;
            let config = (wanted.change)(&job.config)?;
            if config != job.config {
                job.update(config, now);
            }
            Ok(())
        };
        if wanted.validate_only {
            let mut job = self.read(name).await?.record;
            change(&mut job, self.context.now(self.key(name)))?;
            return self.shown(self.key(name), job).await;
        }
        let mark = self.mark(caller, wanted.request);
        let job = self.change(name, true, mark, change).await?;
        self.perform(job).await;
        self.load(name).await
    }

    /// Pauses the schedule of a job, or resumes it.
    pub async fn pause(
        &self,
        caller: &Caller,
        wanted: &JobControl,
        paused: bool,
    ) -> Result<JobView> {
        self.tenants.write(wanted.name.parent())?;
        let change = |job: &mut Job, now| {
            job.check_etag(&wanted.etag)?;
            Ok(job.pause(paused, now))
        };
        let mark = self.mark(caller, &wanted.request);
        self.change(&wanted.name, true, mark, change).await?;
        self.load(&wanted.name).await
    }

    /// Deletes a job.
    pub async fn delete(&self, caller: &Caller, wanted: &JobControl, force: bool) -> Result<()> {
        let name = &wanted.name;
        self.tenants.write(name.parent())?;
        let mark = self.mark(caller, &wanted.request);
        let found = self.reader.read::<Job>(self.key(name)).await?;
        let found = found.ok_or_else(|| not_found(name))?.record;
        if found.deleted {
            let is_repeat = mark.is_some_and(|mark| found.handled.contains(&mark));
            return if is_repeat { Ok(()) } else { Err(not_found(name)) };
        }
        let over = self.firing.over(&found).await;
        let change = |job: &mut Job, now: Timestamp| {
            job.check_etag(&wanted.etag)?;
            job.over(&over);
            job.forget_time = mark.map(|_| now + DELETION_MEMORY);
            Ok(job.delete(force, now)?)
        };
        let job = self.change(name, true, mark, change).await?;
        self.perform(job).await;
        Ok(())
    }

    /// Runs a job now. Returns the operation, and whether the same request had run it before.
    pub async fn run(
        &self,
        caller: &Caller,
        name: &JobName,
        etag: &str,
        request_id: &str,
    ) -> Result<(Arc<View>, bool)> {
        if self.context.is_draining() {
            return Err(Error::draining());
        }
        self.tenants.write(name.parent())?;
        let job = self.read(name).await?.record;
        let id = match request_id {
            "" => Uuid::new_v4(),
            request_id => self.derived("run", &[&job.uid.to_string(), caller.id(), request_id]),
        };
        let operation = name.execution(id).operation();
        let beginning = keys(self.context.key(&operation))[0];
        let replayed =
            !request_id.is_empty() && self.reader.read::<Execution>(beginning).await?.is_some();
        if !replayed {
            self.tenants.start_below(name.parent(), &job.config.spec)?;
            let over = self.firing.over(&job).await;
            let change = |job: &mut Job, now| {
                job.check_etag(etag)?;
                job.over(&over);
                Ok(job.run(id, now)?)
            };
            let job = self.change(name, false, None, change).await?;
            self.perform(job).await;
        }
        match self.reader.view(&operation).await {
            Err(error) if error.reason == Reason::OperationNotFound => Err(Error::busy(name)),
            view => Ok((view?, replayed)),
        }
    }

    /// Runs past ticks; how many there are.
    pub async fn backfill(
        &self,
        caller: &Caller,
        name: &JobName,
        wanted: &PastTicks,
    ) -> Result<usize> {
        self.tenants.write(name.parent())?;
        let job = self.read(name).await?.record;
        let after = wanted.start - std::time::Duration::from_micros(1);
        let ticks = std::iter::successors(job.tick_after(after), |tick| job.tick_after(*tick));
        let count =
            ticks.take_while(|tick| *tick < wanted.end).take(MAX_BACKFILL_TICKS + 1).count();
        if count > MAX_BACKFILL_TICKS {
            let message = format!(
                "{name} has more than {MAX_BACKFILL_TICKS} ticks from start_time to end_time; backfill a shorter range first"
            );
            let error = Error::on(Reason::LimitExceeded, name.to_string(), message);
            return Err(error.with("field", "end_time").with("limit", MAX_BACKFILL_TICKS));
        }
        if wanted.end > self.context.now(self.key(name)) {
            let message = "end_time is in the future; the schedule runs its ticks";
            return Err(Error::field("end_time", message));
        }
        let id = match wanted.request_id.as_str() {
            "" => Uuid::new_v4(),
            request_id => {
                self.derived("backfill", &[&job.uid.to_string(), caller.id(), request_id])
            }
        };
        let end = wanted.end - std::time::Duration::from_micros(1);
        let backfill = Backfill { id, after, end, finished: false };
        if wanted.validate_only {
            job.clone().backfill(backfill, wanted.end)?;
            return Ok(count);
        }
        let change = |job: &mut Job, now| Ok(job.backfill(backfill, now)?);
        let job = self.change(name, false, None, change).await?;
        self.perform(job).await;
        Ok(count)
    }

    /// The job, unless there is none that callers see.
    async fn read(&self, name: &JobName) -> Result<Before<Job>> {
        let found = self.reader.read::<Job>(self.key(name)).await?;
        found.filter(|before| !before.record.deleted).ok_or_else(|| not_found(name))
    }

    /// Changes a job; the job as it is then.
    async fn change(
        &self,
        name: &JobName,
        visible: bool,
        mark: Option<RememberedCall>,
        change: impl Fn(&mut Job, Timestamp) -> Result<()> + Send,
    ) -> Result<Job> {
        let mut refused = None;
        let decide = |before: Option<&Before<Job>>, now| {
            let Some(before) = before.filter(|before| !before.record.deleted) else {
                refused = Some(not_found(name));
                return Decision::Keep;
            };
            let known =
                |mark: &RememberedCall| before.record.handled.iter().find(|it| it.id == mark.id);
            if let Some(known) = mark.as_ref().and_then(known) {
                refused = (mark != Some(*known)).then(|| reused(name));
                return Decision::Keep;
            }
            let mut job = before.record.clone();
            refused = change(&mut job, now).err();
            if let Some(mark) = mark {
                job.remember(mark);
            }
            if refused.is_some() || job == before.record {
                return Decision::Keep;
            }
            let change = Change { visible, ..Change::of(Some(job)) };
            Decision::Commit(Box::new(change))
        };
        let mut transaction = JobTransaction::new(self.key(name), decide);
        let ended = self.commands.transactor().transact_one(&mut transaction).await;
        drop(transaction);
        match (refused, ended) {
            (Some(error), Ended::Kept { .. }) => Err(error),
            (_, ended) => match ended.into_result()? {
                Ended::Written { record: Some(job), .. } => Ok(job),
                Ended::Kept { before: Some(before), .. } => Ok(before.record),
                _ => Err(not_found(name)),
            },
        }
    }

    /// Does what a job has decided, without waiting for the scheduler.
    async fn perform(&self, job: Job) {
        let key = self.key(&job.name);
        self.firing.perform(vec![(key, job)]).await;
    }

    async fn shown(&self, key: Key, job: Job) -> Result<JobView> {
        let store = &*self.context.store;
        let request = job.config.spec.request.as_ref();
        let request = payload(store, key, Slot::Request, request).await?.flatten();
        Ok(JobView { job, request })
    }

    fn key(&self, name: &JobName) -> Key {
        self.context.store.keyspace().key(name.as_str())
    }

    /// What a job remembers of a request; `None` if it has no id.
    fn mark(&self, caller: &Caller, request: &JobRequest) -> Option<RememberedCall> {
        let JobRequest { id, fingerprint } = request;
        let derived = || self.derived("job request", &[caller.id(), id]);
        (!id.is_empty()).then(|| RememberedCall { id: derived(), fingerprint: *fingerprint })
    }

    /// An id that the same request always gets.
    fn derived(&self, purpose: &str, parts: &[&str]) -> Uuid {
        let bytes = self.context.store.keyspace().hash(purpose, parts.join("\0").as_bytes());
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

/// The job that was found instead of `new`; `None` if there was none and the creation was only checked.
fn into_job(ended: Ended<Job>, new: &Job) -> Result<Option<Job>> {
    match ended.into_result()? {
        Ended::Written { record, .. } => Ok(Some(record.unwrap_or_else(|| new.clone()))),
        Ended::Kept { before, .. } => {
            Ok(before.map(|before| before.record).filter(|job| !job.emptied))
        }
        _ => Err(Error::busy(&new.name)),
    }
}

fn reused(name: &JobName) -> Box<Error> {
    let message =
        format!("this request_id was used for another call on {name} before; use a new request_id");
    Error::on(Reason::RequestIdReused, name.to_string(), message).with("field", "request_id")
}

fn not_found(name: &JobName) -> Box<Error> {
    Error::on(Reason::JobNotFound, name.to_string(), format!("there is no job {name}"))
}
