//! Conversions for `longhaul.v1.Jobs`.

use super::fields::{Fingerprinter, any, duration, not_yet, text, timestamp, type_name};
use super::operations::{self, page_size};
use super::options;
use super::schedules;
use super::start_callbacks::{as_given, of_runs};
use super::starts::request_id;
use crate::clock::Timestamp;
use crate::engine::{
    Engine, Error, ExecutionQuery, ExecutionView, JobControl, JobCreation, JobQuery, JobRequest,
    JobView, PastTicks, Reason, Reconfigure, Result,
};
use crate::filter::Payload as Part;
use crate::job::name::{ExecutionName, JobName};
use crate::job::{Ending, Job, JobConfig, Overlap};
use crate::limits::{
    DEFAULT_CATCH_UP_WINDOW, DEFAULT_HISTORY_LIMIT, MAX_HISTORY_LIMIT, MAX_LABEL_NAME_BYTES,
    MAX_PAYLOAD_BYTES, MAX_TEXT_BYTES, MIN_CATCH_UP_WINDOW,
};
use crate::operation::name::{NameError, Parent, ParentPattern, Queue};
use crate::operation::options::Expiration;
use crate::operation::payload::Payload;
use crate::operation::{SharedSpec, Spec};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::execution::Result as Outcome;
use crate::types::Registry;

/// The name of a job.
pub fn name(text: &str) -> Result<JobName> {
    JobName::parse(text).map_err(in_name("name"))
}

/// The name of an execution.
pub fn execution_name(text: &str) -> Result<ExecutionName> {
    ExecutionName::parse(text).map_err(in_name("name"))
}

/// Reads the creation of a job.
pub async fn create(engine: &Engine, request: pb::CreateJobRequest) -> Result<JobCreation> {
    let job = request.job.ok_or_else(|| Error::field("job", "job must be set"))?;
    let wanted = job_request("create", request.request_id, &job)?;
    let parent = parent(&request.parent)?;
    let config = config(engine, parent.as_str(), job).await?;
    Ok(JobCreation {
        parent,
        id: request.job_id,
        config,
        request: wanted,
        validate_only: request.validate_only,
    })
}

/// What tells a repeat of a call from others: all of `message` must be the same.
fn job_request(verb: &str, id: String, message: &impl prost::Message) -> Result<JobRequest> {
    let id = request_id(id)?;
    if id.is_empty() {
        return Ok(JobRequest::default());
    }
    let mut hasher = Fingerprinter::default();
    hasher.part(verb.as_bytes());
    hasher.message(message);
    Ok(JobRequest { id, fingerprint: hasher.finish() })
}

/// Reads the pause of a job.
pub fn pause(request: pb::PauseJobRequest) -> Result<JobControl> {
    let wanted = job_request("pause", request.request_id.clone(), &request)?;
    Ok(JobControl { name: name(&request.name)?, etag: request.etag, request: wanted })
}

/// Reads the resume of a job.
pub fn resume(request: pb::ResumeJobRequest) -> Result<JobControl> {
    let wanted = job_request("resume", request.request_id.clone(), &request)?;
    Ok(JobControl { name: name(&request.name)?, etag: request.etag, request: wanted })
}

/// Reads the deletion of a job, and whether its runs are cancelled.
pub fn delete(request: pb::DeleteJobRequest) -> Result<(JobControl, bool)> {
    let wanted = job_request("delete", request.request_id.clone(), &request)?;
    let control = JobControl { name: name(&request.name)?, etag: request.etag, request: wanted };
    Ok((control, request.force))
}

/// The parent of jobs.
pub fn parent(text: &str) -> Result<Parent> {
    Parent::parse(text).map_err(in_name("parent"))
}

/// A change of a job, checked.
#[derive(Clone, Debug)]
pub struct JobUpdate {
    /// Which job.
    pub name: JobName,
    /// If set, the etag that it must have.
    pub etag: String,
    /// Only check the request.
    pub validate_only: bool,
    /// Create the job if there is none.
    pub allow_missing: bool,
    request: JobRequest,
    config: JobConfig,
    paths: Vec<String>,
}

/// Reads the change of a job.
pub async fn update(engine: &Engine, request: pb::UpdateJobRequest) -> Result<JobUpdate> {
    let wanted = job_request("update", request.request_id.clone(), &request)?;
    let job = request.job.ok_or_else(|| Error::field("job", "job must be set"))?;
    let name = JobName::parse(&job.name).map_err(in_name("job.name"))?;
    let given = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
    let paths = match given.first().map(String::as_str) {
        None => set_fields(&job),
        Some("*") if given.len() == 1 => FIELDS.map(str::to_owned).into(),
        Some(_) => given,
    };
    let known = |path: &str| FIELDS.contains(&path) || TEMPLATE_FIELDS.contains(&path);
    if let Some(path) = paths.iter().find(|path| !known(path)) {
        let shown: String = path.chars().take(80).collect();
        let fields = [&FIELDS[..], &TEMPLATE_FIELDS[..]].concat().join(", ");
        let message =
            format!("update_mask has {shown:?}, which cannot be changed; there are {fields}");
        return Err(Error::field("update_mask", message));
    }
    let etag = job.etag.clone();
    let pb::UpdateJobRequest { allow_missing, validate_only, .. } = request;
    let (request, config) = (wanted, config(engine, name.parent(), job).await?);
    Ok(JobUpdate { name, etag, validate_only, allow_missing, request, config, paths })
}

impl JobUpdate {
    /// What the engine is asked for; `change` is [`Self::apply`].
    pub fn wanted<'a>(
        &'a self,
        change: &'a (dyn Fn(&JobConfig) -> JobConfig + Send + Sync),
    ) -> Reconfigure<'a> {
        let Self { etag, request, validate_only, .. } = self;
        Reconfigure { etag, request, validate_only: *validate_only, change }
    }

    /// What a configuration becomes by it.
    pub fn apply(&self, config: &JobConfig) -> JobConfig {
        let mut next = config.clone();
        for path in &self.paths {
            let wanted = &self.config;
            match path.as_str() {
                "display_name" => next.display_name.clone_from(&wanted.display_name),
                "template" => next.spec = wanted.spec.clone(),
                "schedule" => next.schedule.clone_from(&wanted.schedule),
                "overlap_policy" => next.overlap = wanted.overlap,
                "catch_up_window" => next.catch_up_window = wanted.catch_up_window,
                "history_limit" => next.history_limit = wanted.history_limit,
                path => apply_to_template(&mut next.spec, &wanted.spec, path),
            }
        }
        next
    }

    /// The creation of the job, if there is none.
    pub fn creation(&self) -> Result<JobCreation> {
        let id = self.name.as_str().rsplit('/').next().unwrap_or_default().to_owned();
        Ok(JobCreation {
            parent: parent(self.name.parent())?,
            id,
            config: self.config.clone(),
            request: self.request.clone(),
            validate_only: self.validate_only,
        })
    }
}

fn apply_to_template(spec: &mut SharedSpec, wanted: &SharedSpec, path: &str) {
    let spec = spec.make_mut();
    match path {
        "template.queue" => spec.queue = wanted.queue.clone(),
        "template.method" => spec.method.clone_from(&wanted.method),
        "template.request" => spec.request.clone_from(&wanted.request),
        "template.response_type" => spec.response_type.clone_from(&wanted.response_type),
        _ => spec.options = wanted.options.clone(),
    }
}

/// The fields that callers may change.
const FIELDS: [&str; 6] =
    ["display_name", "template", "schedule", "overlap_policy", "catch_up_window", "history_limit"];
const TEMPLATE_FIELDS: [&str; 5] = [
    "template.queue",
    "template.method",
    "template.request",
    "template.response_type",
    "template.options",
];

/// The fields that are set in a job: without a mask they are the ones to change (AIP-134).
fn set_fields(job: &pb::Job) -> Vec<String> {
    let set = [
        !job.display_name.is_empty(),
        job.template.is_some(),
        job.schedule.is_some(),
        job.overlap_policy != 0,
        job.catch_up_window.is_some(),
        job.history_limit != 0,
    ];
    let fields = FIELDS.into_iter().zip(set).filter(|(_, is_set)| *is_set);
    fields.map(|(field, _)| field.to_owned()).collect()
}

/// Reads what callers set. Output-only fields are ignored, as AIP-203 asks.
async fn config(engine: &Engine, parent: &str, job: pb::Job) -> Result<JobConfig> {
    let callbacks = of_runs(engine, parent, job.template.as_ref()).await.map_err(in_template)?;
    let mut config = without_callbacks(job)?;
    config.spec.make_mut().options.callbacks = callbacks;
    Ok(config)
}

fn without_callbacks(job: pb::Job) -> Result<JobConfig> {
    let overlap = pb::job::OverlapPolicy::try_from(job.overlap_policy).map_err(|_| {
        let message = format!("job.overlap_policy {} is not known", job.overlap_policy);
        Error::field("job.overlap_policy", message)
    })?;
    let window = duration("job.catch_up_window", job.catch_up_window)?;
    let history_limit = u32::try_from(job.history_limit).map_err(|_| {
        let message =
            format!("job.history_limit is {}; it must not be negative", job.history_limit);
        Error::field("job.history_limit", message)
    })?;
    Ok(JobConfig {
        display_name: text("job.display_name", job.display_name, MAX_TEXT_BYTES)?,
        spec: template(job.template.unwrap_or_default())?.into(),
        schedule: job.schedule.map(schedules::read).transpose()?,
        overlap: match overlap {
            pb::job::OverlapPolicy::Unspecified | pb::job::OverlapPolicy::Skip => Overlap::Skip,
            pb::job::OverlapPolicy::Queue => Overlap::Queue,
            pb::job::OverlapPolicy::Preempt => Overlap::Preempt,
            pb::job::OverlapPolicy::Allow => Overlap::Allow,
        },
        catch_up_window: window.unwrap_or(DEFAULT_CATCH_UP_WINDOW).max(MIN_CATCH_UP_WINDOW),
        history_limit: match history_limit {
            0 => DEFAULT_HISTORY_LIMIT,
            limit => limit.min(MAX_HISTORY_LIMIT),
        },
    })
}

fn template(template: pb::JobTemplate) -> Result<Spec> {
    let options = options::read(template.options.unwrap_or_default()).map_err(in_template)?;
    let fixed = |field: &str, is_set: bool| {
        let why = "a job runs many times; set it in the operation of one run";
        let field = format!("job.template.options.{field}");
        if is_set {
            Err(Error::field(&field, format!("{field} cannot be set: {why}")))
        } else {
            Ok(())
        }
    };
    fixed("schedule_time", options.schedule_time.is_some())?;
    fixed("deadline_time", options.deadline_time.is_some())?;
    fixed("expire_time", matches!(options.expiration, Some(Expiration::At(_))))?;
    not_yet("job.template.options.metadata_policy", options.metadata_policy as i32 != 0)?;
    let queue = Queue::parse(&template.queue);
    Ok(Spec {
        queue: queue.map_err(|error| Error::field("job.template.queue", error.to_string()))?,
        method: text("job.template.method", template.method, MAX_LABEL_NAME_BYTES)?,
        request: any("job.template.request", template.request, MAX_PAYLOAD_BYTES)?
            .map(Payload::Inline),
        response_type: type_name("job.template.response_type", &template.response_type)?,
        options,
        server_metadata: true,
        ..Spec::default()
    })
}

fn in_template(error: Box<Error>) -> Box<Error> {
    match error.metadata.get("field").cloned() {
        Some(field) => error.with("field", format!("job.template.{field}")),
        None => error,
    }
}

/// A job as callers see it.
pub fn job(view: JobView) -> pb::Job {
    let JobView { job, request } = view;
    let config = &job.config;
    let active = job.runs.iter().map(|run| job.name.execution(run.id).to_string());
    pb::Job {
        name: job.name.to_string(),
        display_name: config.display_name.clone(),
        template: Some(published_template(&config.spec, request)),
        schedule: config.schedule.as_ref().map(schedules::published),
        overlap_policy: config.overlap as i32,
        catch_up_window: config.catch_up_window.try_into().ok(),
        history_limit: config.history_limit as i32,
        paused: job.paused,
        etag: job.etag(),
        uid: job.uid.to_string(),
        create_time: Some(job.create_time.into()),
        update_time: Some(job.update_time.into()),
        next_run_time: job.next_fire_time().map(Into::into),
        last_tick_time: job.last_tick.map(Into::into),
        skipped_tick_count: job.skipped as i64,
        missed_count: job.missed as i64,
        active_executions: active.collect(),
        backfilling: job.backfill.is_some_and(|backfill| !backfill.finished),
    }
}

fn published_template(spec: &Spec, request: Option<Any>) -> pb::JobTemplate {
    let mut options = spec.options.published();
    as_given(&mut options.callbacks);
    if let Some(Expiration::After(ttl)) = spec.options.expiration {
        let ttl = ttl.try_into().ok();
        options.expiration = ttl.map(pb::operation_options::Expiration::Ttl);
    }
    pb::JobTemplate {
        queue: spec.queue.full(),
        method: spec.method.clone(),
        request,
        response_type: spec.response_type.clone(),
        options: Some(options),
    }
}

/// A page of jobs.
pub fn list_reply((jobs, next_page_token): (Vec<JobView>, String)) -> pb::ListJobsResponse {
    pb::ListJobsResponse { jobs: jobs.into_iter().map(job).collect(), next_page_token }
}

/// Reads a list of jobs.
pub fn list(request: pb::ListJobsRequest) -> Result<JobQuery> {
    let pb::ListJobsRequest { parent, page_size, page_token } = request;
    let parent = ParentPattern::parse(&parent).map_err(in_name("parent"))?;
    Ok(JobQuery { parent, page_size: operations::page_size(page_size)?, page_token })
}

/// Reads the backfill of a job.
pub fn backfill(request: pb::BackfillJobRequest) -> Result<(JobName, PastTicks)> {
    let required = |field: &str, time| {
        let time = timestamp(field, time)?;
        time.ok_or_else(|| Error::field(field, format!("{field} must be set")))
    };
    let start = required("start_time", request.start_time)?;
    let end = required("end_time", request.end_time)?;
    if end <= start {
        let message = format!("end_time {end} is not after start_time {start}");
        return Err(Error::field("end_time", message));
    }
    let ticks = PastTicks {
        start,
        end,
        request_id: request_id(request.request_id)?,
        validate_only: request.validate_only,
    };
    Ok((name(&request.name)?, ticks))
}

/// Reads the run of a job: its name and the request id.
pub fn run(request: pb::RunJobRequest) -> Result<(JobName, String, String)> {
    Ok((name(&request.name)?, request.etag, request_id(request.request_id)?))
}

/// The next runs of a job.
pub fn upcoming(
    request: &pb::ListUpcomingRunsRequest,
    job: &Job,
    now: Timestamp,
) -> Result<pb::ListUpcomingRunsResponse> {
    use pb::list_upcoming_runs_response::UpcomingRun;
    let after = timestamp("start_time", request.start_time)?.unwrap_or(now);
    let run = |(tick, fire): (Timestamp, Timestamp)| UpcomingRun {
        tick_time: Some(tick.into()),
        run_time: Some(fire.into()),
    };
    let runs = job.upcoming(after).take(page_size(request.page_size)?);
    Ok(pb::ListUpcomingRunsResponse { upcoming_runs: runs.map(run).collect() })
}

/// Reads a list of executions.
pub fn list_executions(
    request: pb::ListExecutionsRequest,
    types: &Registry,
) -> Result<ExecutionQuery> {
    let filter = operations::filter(&request.filter, types)?;
    let looks = [Part::Metadata, Part::Request, Part::Response];
    if looks.into_iter().any(|part| filter.looks_into(part)) {
        let message = "filter looks into a payload, which the list of executions cannot do";
        return Err(Error::new(Reason::InvalidFilter, message).with("field", "filter"));
    }
    let oldest_first = match request.order_by.trim() {
        "" | "create_time desc" => false,
        "create_time" | "create_time asc" => true,
        other => {
            let shown: String = other.chars().take(80).collect();
            let message = format!("order_by is {shown:?}; write create_time or create_time desc");
            return Err(Error::field("order_by", message));
        }
    };
    Ok(ExecutionQuery {
        job: JobName::parse(&request.parent).map_err(in_name("parent"))?,
        page_size: page_size(request.page_size)?,
        page_token: request.page_token,
        filter,
        oldest_first,
    })
}

/// A page of executions.
pub fn list_executions_reply(
    (executions, next_page_token): (Vec<ExecutionView>, String),
) -> pb::ListExecutionsResponse {
    let executions = executions.into_iter().map(execution).collect();
    pb::ListExecutionsResponse { executions, next_page_token }
}

/// An execution as callers see it.
pub fn execution(view: ExecutionView) -> pb::Execution {
    let state = view.stage().into();
    let ExecutionView { execution, end, operation, request, response, operation_name } = view;
    let running = operation.as_ref();
    let result = match end.as_ref().map(|end| &end.ending) {
        Some(Ending::Succeeded(_)) => response.map(Outcome::Response),
        Some(Ending::Failed(error) | Ending::Cancelled(error)) => {
            Some(Outcome::Error(error.clone()))
        }
        None => None,
    };
    let start_time = match &end {
        Some(end) => end.start_time,
        None => running.and_then(|operation| operation.start_time),
    };
    let attempts = match &end {
        Some(end) => end.attempts,
        None => running.map_or(0, crate::operation::Operation::attempt),
    };
    pb::Execution {
        name: execution.name().to_string(),
        operation: operation_name.to_string(),
        state,
        trigger: i32::from(execution.trigger as u8),
        tick_time: execution.tick.map(Into::into),
        create_time: Some(execution.create_time.into()),
        start_time: start_time.map(Into::into),
        end_time: end.map(|end| end.end_time.into()),
        attempt_count: attempts as i32,
        template: Some(published_template(&execution.spec, request)),
        result,
    }
}

fn in_name(field: &'static str) -> impl Fn(NameError) -> Box<Error> {
    move |error| Box::<Error>::from(error).with("field", field)
}
