//! `longhaul job`: create, update, get, list, run, history, upcoming, pause, resume, backfill, delete.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::connection::Connection;
use super::exit::Failure;
use super::follow::Follower;
use super::job_output::JobOutput;
use super::option_args::{OptionArgs, duration};
use super::output;
use super::start::{read_payload, time};
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::schedule::Timing;
use crate::types::Registry;

/// A command about jobs.
#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// Create a job
    Create(Box<ConfigArgs>),
    /// Change the given settings of a job
    Update(Box<ConfigArgs>),
    /// Show a job
    Get(JobArgs),
    /// List the jobs of a parent
    List(JobListArgs),
    /// Run a job now, and print the name of the operation
    Run(RunArgs),
    /// List the executions of a job, newest first
    History(HistoryArgs),
    /// List the next runs of a job
    Upcoming(JobArgs),
    /// Pause the schedule of jobs
    Pause(JobArgs),
    /// Resume the schedule of jobs
    Resume(JobArgs),
    /// Run the ticks of a past range
    Backfill(BackfillArgs),
    /// Delete a job and its executions
    Delete(DeleteArgs),
}

/// One job.
#[derive(Debug, Args)]
pub(super) struct JobArgs {
    #[command(flatten)]
    connection: Connection,
    /// Full name of the job, such as jobs/ID or projects/P/jobs/ID
    name: String,
}

/// The settings of a job.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    job: JobArgs,
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// The queue from which workers lease its runs
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Method, which tells the worker what to do
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Request for the worker: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON")]
    request: Option<String>,
    /// Full name of the type of the worker's response
    #[arg(long, value_name = "TYPE")]
    response_type: Option<String>,
    #[command(flatten)]
    options: OptionArgs,
    /// Run by this cron expression, such as '30 2 * * MON-FRI'
    #[arg(long, value_name = "CRON", conflicts_with = "every")]
    cron: Option<String>,
    /// Run at this distance, such as 90m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    every: Option<Duration>,
    /// IANA time zone of the cron expression; UTC by default
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Delay each run by less than this
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    jitter: Option<Duration>,
    /// Do not run before this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    start_time: Option<prost_types::Timestamp>,
    /// Do not run at this time or after it (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    end_time: Option<prost_types::Timestamp>,
    /// What a run does while another is not over
    #[arg(long, value_enum)]
    overlap: Option<OverlapArg>,
    /// Run ticks late that are not older than this, such as after an outage
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    catch_up_window: Option<Duration>,
    /// How many executions are kept
    #[arg(long, value_name = "NUMBER")]
    history_limit: Option<i32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverlapArg {
    Skip,
    Queue,
    Preempt,
    Allow,
}

/// A list of jobs.
#[derive(Debug, Args)]
pub(super) struct JobListArgs {
    #[command(flatten)]
    connection: Connection,
    /// Parent resource, such as projects/P; the root by default
    #[arg(long, default_value = "", hide_default_value = true, value_name = "PARENT")]
    parent: String,
}

/// A run.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The same request id runs the job only once
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    request_id: String,
    /// Wait until the run is done
    #[arg(long, conflicts_with = "watch")]
    wait: bool,
    /// Show progress until the run is done
    #[arg(long)]
    watch: bool,
}

/// The executions of a job.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    job: JobArgs,
    /// List only what matches, such as 'state() = FAILED'
    #[arg(long, default_value = "", hide_default_value = true, value_name = "FILTER")]
    filter: String,
    /// At most this many
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    page_size: i32,
}

/// A range of past ticks.
#[derive(Debug, Args)]
pub(super) struct BackfillArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The first instant of the range (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    start_time: prost_types::Timestamp,
    /// The end of the range, which is not in it (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    end_time: prost_types::Timestamp,
    /// Only count the ticks
    #[arg(long)]
    validate_only: bool,
}

/// The end of a job.
#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Cancel runs that are not over
    #[arg(long)]
    force: bool,
}

impl JobCommand {
    pub(super) fn server(&self) -> &str {
        self.connection().server()
    }

    const fn connection(&self) -> &Connection {
        match self {
            Self::Create(args) | Self::Update(args) => &args.job.connection,
            Self::Get(args) | Self::Upcoming(args) | Self::Pause(args) | Self::Resume(args) => {
                &args.connection
            }
            Self::List(args) => &args.connection,
            Self::Run(args) => &args.job.connection,
            Self::History(args) => &args.job.connection,
            Self::Backfill(args) => &args.job.connection,
            Self::Delete(args) => &args.job.connection,
        }
    }
}

pub(super) async fn run(command: JobCommand) -> Result<(), Failure> {
    let connection = command.connection().clone();
    let shown = JobOutput { registry: connection.types()?, json: connection.wants_json() };
    // Wrong input is reported before a server is sought.
    let command = match command {
        JobCommand::Create(args) => {
            let (job, _) = args.job(&shown.registry)?;
            let job = connection.connect().await?.create_job(creation(job)?).await?;
            return Ok(shown.name(&job.name, "Job", &job));
        }
        JobCommand::Update(args) => {
            let (job, paths) = args.job(&shown.registry)?;
            if paths.is_empty() {
                let text = "nothing to change; give the settings that are to be changed";
                return Err(Failure::Usage(text.to_owned()));
            }
            let update_mask = Some(prost_types::FieldMask { paths });
            let request =
                pb::UpdateJobRequest { job: Some(job), update_mask, ..Default::default() };
            let job = connection.connect().await?.update_job(request).await?;
            return Ok(shown.name(&job.name, "Job", &job));
        }
        other => other,
    };
    let client = connection.connect().await?;
    match command {
        JobCommand::Create(_) | JobCommand::Update(_) => {}
        JobCommand::Get(JobArgs { name, .. }) => {
            shown.job(&client.get_job(pb::GetJobRequest { name }).await?);
        }
        JobCommand::List(args) => list(&client, &shown, args.parent).await?,
        JobCommand::Run(args) => return run_now(client, &shown, args).await,
        JobCommand::History(args) => history(&client, &shown, args).await?,
        JobCommand::Upcoming(JobArgs { name, .. }) => {
            let request = pb::ListUpcomingRunsRequest { name, page_size: 10, ..Default::default() };
            shown.upcoming(&client.list_upcoming_runs(request).await?);
        }
        JobCommand::Pause(JobArgs { name, .. }) => {
            let request = pb::PauseJobRequest { name, ..Default::default() };
            let job = client.pause_job(request).await?;
            shown.said(&job.name, "is paused", "Job", &job);
        }
        JobCommand::Resume(JobArgs { name, .. }) => {
            let request = pb::ResumeJobRequest { name, ..Default::default() };
            let job = client.resume_job(request).await?;
            shown.said(&job.name, "is resumed", "Job", &job);
        }
        JobCommand::Backfill(args) => backfill(&client, &shown, args).await?,
        JobCommand::Delete(DeleteArgs { job: JobArgs { name, .. }, force }) => {
            let request = pb::DeleteJobRequest { name: name.clone(), force, ..Default::default() };
            client.delete_job(request).await?;
            if !shown.json {
                output::line(&format!("{name} is deleted"));
            }
        }
    }
    Ok(())
}

async fn list(
    client: &crate::client::Client,
    shown: &JobOutput,
    parent: String,
) -> Result<(), Failure> {
    let mut all = pb::ListJobsResponse::default();
    loop {
        let (parent, page_token) = (parent.clone(), all.next_page_token);
        let request = pb::ListJobsRequest { parent, page_token, page_size: PAGE_SIZE };
        let page = client.list_jobs(request).await?;
        all.jobs.extend(page.jobs);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            shown.jobs(&all);
            return Ok(());
        }
    }
}

async fn run_now(
    client: crate::client::Client,
    shown: &JobOutput,
    args: RunArgs,
) -> Result<(), Failure> {
    let RunArgs { job: JobArgs { connection, name }, request_id, wait, watch } = args;
    let request = pb::RunJobRequest { name, request_id, ..Default::default() };
    let operation = client.run_job(request).await?;
    let follows = wait || watch;
    if !shown.json {
        output::line(&operation.name);
    } else if !follows {
        output::json(&shown.registry.operation(&operation));
    }
    if !follows {
        return Ok(());
    }
    let follower = Follower::new(client, &connection, vec![operation.name])?;
    follower.with_steps(watch).follow().await
}

async fn history(
    client: &crate::client::Client,
    shown: &JobOutput,
    args: HistoryArgs,
) -> Result<(), Failure> {
    let HistoryArgs { job: JobArgs { name, .. }, filter, page_size } = args;
    let parent = name.clone();
    let request = pb::ListExecutionsRequest { parent, filter, page_size, ..Default::default() };
    let page = client.list_executions(request).await?;
    if page.executions.is_empty() {
        // The list of a job that does not exist is empty, too.
        client.get_job(pb::GetJobRequest { name }).await?;
    }
    shown.executions(&page);
    Ok(())
}

async fn backfill(
    client: &crate::client::Client,
    shown: &JobOutput,
    args: BackfillArgs,
) -> Result<(), Failure> {
    let BackfillArgs { job: JobArgs { name, .. }, start_time, end_time, validate_only } = args;
    let request = pb::BackfillJobRequest {
        name: name.clone(),
        start_time: Some(start_time),
        end_time: Some(end_time),
        validate_only,
        ..Default::default()
    };
    let reply = client.backfill_job(request).await?;
    let verb = if validate_only { "would run" } else { "runs" };
    let said = format!("{verb} {} past ticks", reply.tick_count);
    shown.said(&name, &said, "BackfillJobResponse", &reply);
    Ok(())
}

impl ConfigArgs {
    /// The job that the flags describe, and the paths of the flags that were given.
    fn job(&self, registry: &Registry) -> Result<(pb::Job, Vec<String>), Failure> {
        let request = self.request.as_deref();
        let request = request.map(|text| read_payload(registry, "--request", text)).transpose()?;
        let options = self.options.options();
        let has_options = options != pb::OperationOptions::default();
        let schedule = self.schedule();
        let given = [
            ("display_name", self.display_name.is_some()),
            ("template.queue", self.queue.is_some()),
            ("template.method", self.method.is_some()),
            ("template.request", request.is_some()),
            ("template.response_type", self.response_type.is_some()),
            ("schedule.cron", self.cron.is_some()),
            ("schedule.interval", self.every.is_some()),
            ("schedule.time_zone", self.time_zone.is_some()),
            ("schedule.jitter", self.jitter.is_some()),
            ("schedule.start_time", self.start_time.is_some()),
            ("schedule.end_time", self.end_time.is_some()),
            ("overlap_policy", self.overlap.is_some()),
            ("catch_up_window", self.catch_up_window.is_some()),
            ("history_limit", self.history_limit.is_some()),
        ];
        let given = given.into_iter().map(|(path, is_given)| (path.to_owned(), is_given));
        let options_given = self.options.given();
        let options_given =
            options_given.map(|(field, it)| (format!("template.options.{field}"), it));
        let paths = given.chain(options_given).filter(|(_, is_given)| *is_given);
        let job = pb::Job {
            name: self.job.name.clone(),
            display_name: self.display_name.clone().unwrap_or_default(),
            template: Some(pb::JobTemplate {
                queue: self.queue.clone().unwrap_or_default(),
                method: self.method.clone().unwrap_or_default(),
                request,
                response_type: self.response_type.clone().unwrap_or_default(),
                options: has_options.then_some(options),
            }),
            schedule,
            overlap_policy: self.overlap.map_or(0, |overlap| overlap as i32 + 1),
            catch_up_window: self.catch_up_window.map(duration),
            history_limit: self.history_limit.unwrap_or_default(),
            ..Default::default()
        };
        Ok((job, paths.map(|(path, _)| path).collect()))
    }

    fn schedule(&self) -> Option<pb::Schedule> {
        let cron = self.cron.clone().map(Timing::Cron);
        let schedule = pb::Schedule {
            timing: cron.or(self.every.map(|every| Timing::Interval(duration(every)))),
            time_zone: self.time_zone.clone().unwrap_or_default(),
            jitter: self.jitter.map(duration),
            start_time: self.start_time,
            end_time: self.end_time,
        };
        (schedule != pb::Schedule::default()).then_some(schedule)
    }
}

/// The creation of a job of that name.
fn creation(job: pb::Job) -> Result<pb::CreateJobRequest, Failure> {
    let parent = match job.name.rsplit_once("jobs/") {
        Some(("", id)) => Some(("", id)),
        Some((parent, id)) => parent.strip_suffix('/').map(|parent| (parent, id)),
        None => None,
    };
    let Some((parent, id)) = parent else {
        let text = format!("{:?} is not the name of a job, such as jobs/ID", job.name);
        return Err(Failure::Usage(text));
    };
    let (parent, job_id) = (parent.to_owned(), id.to_owned());
    Ok(pb::CreateJobRequest { parent, job_id, job: Some(job), ..Default::default() })
}

/// Jobs of one call.
const PAGE_SIZE: i32 = 1_000;
