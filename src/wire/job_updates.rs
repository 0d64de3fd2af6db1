//! Conversions for `UpdateJob`: the fields of a mask, down to those of the schedule and of the options.

use super::jobs::{config, in_name, job_request, parent};
use super::schedules;
use crate::engine::{Engine, Error, JobCreation, JobRequest, Reconfigure, Result};
use crate::job::JobConfig;
use crate::job::name::JobName;
use crate::job::schedule::Schedule;
use crate::operation::SharedSpec;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::schedule::Timing;

/// A change of a job, checked.
#[derive(Clone, Debug)]
pub struct JobUpdate {
    /// Which job.
    pub name: JobName,
    /// Create the job if there is none.
    pub allow_missing: bool,
    etag: String,
    validate_only: bool,
    request: JobRequest,
    config: JobConfig,
    /// The schedule as it was sent, if only some of its fields are to change.
    partial_schedule: pb::Schedule,
    paths: Vec<String>,
}

/// Reads the change of a job.
pub async fn update(engine: &Engine, request: pb::UpdateJobRequest) -> Result<JobUpdate> {
    let wanted = job_request("update", request.request_id.clone(), &request)?;
    let mut job = request.job.ok_or_else(|| Error::field("job", "job must be set"))?;
    let name = JobName::parse(&job.name).map_err(in_name("job.name"))?;
    let given = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
    let paths = match given.first().map(String::as_str) {
        None => set_fields(&job),
        Some("*") if given.len() == 1 => FIELDS.map(str::to_owned).into(),
        Some(_) => given,
    };
    check_paths(&paths)?;
    let is_whole = paths.iter().any(|path| path == "schedule");
    let partial_schedule = if is_whole { None } else { job.schedule.take() }.unwrap_or_default();
    let etag = job.etag.clone();
    let pb::UpdateJobRequest { allow_missing, validate_only, .. } = request;
    let (request, config) = (wanted, config(engine, name.parent(), job).await?);
    let partial = partial_schedule;
    Ok(JobUpdate {
        name,
        allow_missing,
        etag,
        validate_only,
        request,
        config,
        partial_schedule: partial,
        paths,
    })
}

fn check_paths(paths: &[String]) -> Result<()> {
    let known = [&FIELDS[..], &TEMPLATE_FIELDS[..], &OPTION_FIELDS[..], &SCHEDULE_FIELDS[..]];
    let is_unknown = |path: &&String| !known.iter().any(|fields| fields.contains(&path.as_str()));
    let Some(path) = paths.iter().find(is_unknown) else { return Ok(()) };
    let shown: String = path.chars().take(80).collect();
    let fields = known.concat().join(", ");
    let message = format!("update_mask has {shown:?}, which cannot be changed; there are {fields}");
    Err(Error::field("update_mask", message))
}

impl JobUpdate {
    /// The request to the engine; `change` is [`Self::apply`].
    pub fn wanted<'a>(
        &'a self,
        change: &'a (dyn Fn(&JobConfig) -> Result<JobConfig> + Send + Sync),
    ) -> Reconfigure<'a> {
        let Self { etag, request, validate_only, .. } = self;
        Reconfigure { etag, request, validate_only: *validate_only, change }
    }

    /// The configuration with the changed fields.
    ///
    /// # Errors
    /// If the fields of a schedule do not go together.
    pub fn apply(&self, config: &JobConfig) -> Result<JobConfig> {
        let mut next = config.clone();
        let mut schedule = config.schedule.as_ref().map(schedules::published).unwrap_or_default();
        let mut is_partial = false;
        for path in &self.paths {
            let wanted = &self.config;
            match path.as_str() {
                "display_name" => next.display_name.clone_from(&wanted.display_name),
                "template" => next.spec = wanted.spec.clone(),
                "schedule" => next.schedule.clone_from(&wanted.schedule),
                "overlap_policy" => next.overlap = wanted.overlap,
                "catch_up_window" => next.catch_up_window = wanted.catch_up_window,
                "history_limit" => next.history_limit = wanted.history_limit,
                path if SCHEDULE_FIELDS.contains(&path) => {
                    is_partial = true;
                    self.apply_to_schedule(&mut schedule, path);
                }
                path => apply_to_template(&mut next.spec, &wanted.spec, path),
            }
        }
        if is_partial {
            next.schedule = Some(self.read(schedule)?);
        }
        Ok(next)
    }

    fn apply_to_schedule(&self, schedule: &mut pb::Schedule, path: &str) {
        let wanted = &self.partial_schedule;
        let is_meant = |timing: &&Timing| match timing {
            Timing::Cron(_) => path == "schedule.cron",
            Timing::Interval(_) => path == "schedule.interval",
            Timing::Calendar(_) => path == "schedule.calendar",
        };
        match path {
            "schedule.time_zone" => schedule.time_zone.clone_from(&wanted.time_zone),
            "schedule.jitter" => schedule.jitter = wanted.jitter,
            "schedule.start_time" => schedule.start_time = wanted.start_time,
            "schedule.end_time" => schedule.end_time = wanted.end_time,
            _ => schedule.timing = wanted.timing.as_ref().filter(is_meant).cloned(),
        }
    }

    fn read(&self, schedule: pb::Schedule) -> Result<Schedule> {
        if schedule.timing.is_some() {
            return schedules::read(schedule);
        }
        let message = format!("{} has no times; set cron, interval or calendar, too", self.name);
        Err(Error::field("job.schedule", message))
    }

    /// The creation of the job, if there is none.
    pub fn creation(&self) -> Result<JobCreation> {
        let id = self.name.as_str().rsplit('/').next().unwrap_or_default().to_owned();
        let mut config = self.config.clone();
        if self.paths.iter().any(|path| SCHEDULE_FIELDS.contains(&path.as_str())) {
            config.schedule = Some(self.read(self.partial_schedule.clone())?);
        }
        Ok(JobCreation {
            parent: parent(self.name.parent())?,
            id,
            config,
            request: self.request.clone(),
            validate_only: self.validate_only,
        })
    }
}

fn apply_to_template(spec: &mut SharedSpec, wanted: &SharedSpec, path: &str) {
    let spec = spec.make_mut();
    let (options, given) = (&mut spec.options, &wanted.options);
    match path {
        "template.queue" => spec.queue = wanted.queue.clone(),
        "template.method" => spec.method.clone_from(&wanted.method),
        "template.request" => spec.request.clone_from(&wanted.request),
        "template.response_type" => spec.response_type.clone_from(&wanted.response_type),
        "template.options.priority" => options.priority = given.priority,
        "template.options.attempt_timeout" => options.attempt_timeout = given.attempt_timeout,
        "template.options.queue_timeout" => options.queue_timeout = given.queue_timeout,
        "template.options.cancel_grace" => options.cancel_grace = given.cancel_grace,
        "template.options.retry_policy" => options.retry_policy.clone_from(&given.retry_policy),
        "template.options.concurrency" => options.concurrency.clone_from(&given.concurrency),
        "template.options.ttl" => options.expiration = given.expiration,
        "template.options.callbacks" => options.callbacks.clone_from(&given.callbacks),
        "template.options.labels" => options.labels.clone_from(&given.labels),
        "template.options.target" => options.target.clone_from(&given.target),
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
const OPTION_FIELDS: [&str; 10] = [
    "template.options.priority",
    "template.options.attempt_timeout",
    "template.options.queue_timeout",
    "template.options.cancel_grace",
    "template.options.retry_policy",
    "template.options.concurrency",
    "template.options.ttl",
    "template.options.callbacks",
    "template.options.labels",
    "template.options.target",
];
const SCHEDULE_FIELDS: [&str; 7] = [
    "schedule.cron",
    "schedule.interval",
    "schedule.calendar",
    "schedule.time_zone",
    "schedule.jitter",
    "schedule.start_time",
    "schedule.end_time",
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
