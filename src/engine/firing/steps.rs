//! Doing what jobs have decided: starting, releasing and cancelling the operations of runs.

use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::engine::commands::apply::{CommandOutcome, Commands, KeyedCommand};
use crate::engine::error::{Error, Reason};
use crate::engine::firing::transactions::BeginRun;
use crate::engine::queues::known::KnownQueues;
use crate::engine::random::random;
use crate::engine::transact::Ended;
use crate::job::{Execution, Job, JobRun, JobStep};
use crate::operation::command::{Cancel, Command, Resume};
use crate::operation::gate::Admittance;
use crate::operation::payload::Payload;
use crate::operation::{Birth, OfJob, Record, SharedSpec, Spec, Start, start};
use crate::record::execution::keys;
use crate::record::operation::{Slot, attach};
use crate::record::{Also, Change};
use crate::store::{BodyKey, CommitError, Key};

/// What is to be done for one of several jobs.
struct StepOf {
    /// Which job.
    number: usize,
    step: JobStep,
}

/// Does the steps of jobs; for each job those that are done.
pub(super) async fn take(
    commands: &Commands,
    queues: &KnownQueues,
    jobs: &[(Key, Job)],
) -> Vec<Vec<JobStep>> {
    let (mut starts, mut begins, mut controls, mut keyed) = (vec![], vec![], vec![], vec![]);
    let specs = loaded_specs(commands, jobs).await;
    for (number, ((key, job), spec)) in jobs.iter().zip(specs).enumerate() {
        // Runs that begin together are listed in their order.
        let times = std::iter::successors(Some(commands.context().now(*key)), |time| {
            Some(*time + Duration::from_micros(1))
        });
        for (step, time) in job.steps().into_iter().zip(times) {
            match (step, &spec) {
                (JobStep::Start(run), Some(spec)) => {
                    let beginning = beginning(job, run, spec, time);
                    let held = run.held;
                    let Some(begin) = begin(commands, queues, beginning, held) else { continue };
                    begins.push(begin);
                    starts.push(StepOf { number, step });
                }
                (JobStep::Start(_), None) => {}
                (JobStep::Admit(id), _) => {
                    keyed.push(control(commands, job, id, admit()));
                    controls.push(StepOf { number, step });
                }
                (JobStep::Cancel(id), _) => {
                    keyed.push(control(commands, job, id, Command::Cancel(Cancel::default())));
                    controls.push(StepOf { number, step });
                }
            }
        }
    }
    let mut done: Vec<Vec<JobStep>> = jobs.iter().map(|_| Vec::new()).collect();
    let ends = commands.transactor().transact(&mut begins).await;
    for ((StepOf { number, step }, begin), ended) in starts.into_iter().zip(begins).zip(ends) {
        if has_begun(commands, begin.key, &ended).await {
            done[number].push(step);
        }
    }
    let outcomes = if keyed.is_empty() { Vec::new() } else { commands.apply_all(keyed).await };
    for (StepOf { number, step }, outcome) in controls.into_iter().zip(outcomes) {
        if is_settled(commands, outcome) {
            done[number].push(step);
        }
    }
    done
}

/// The spec of each job with its request, as far as there is something to start. All requests are read together.
async fn loaded_specs(commands: &Commands, jobs: &[(Key, Job)]) -> Vec<Option<SharedSpec>> {
    let starts = |job: &Job| job.runs.iter().any(|run| !run.started);
    let detached = |(key, job): &(Key, Job)| {
        let request = job.config.spec.request.as_ref().filter(|_| starts(job));
        Slot::Request.body_of(*key, request)
    };
    let wanted: Vec<Option<BodyKey>> = jobs.iter().map(detached).collect();
    let keys: Vec<BodyKey> = wanted.iter().copied().flatten().collect();
    let bodies = if keys.is_empty() {
        Vec::new()
    } else {
        commands.context().store.bodies(&keys).await.unwrap_or_else(|error| {
            let error = Box::<Error>::from(error);
            commands.context().log_failure("could not read the requests of jobs", &error);
            Vec::new()
        })
    };
    let mut bodies = bodies.into_iter();
    let spec = |((_, job), key): (&(Key, Job), Option<BodyKey>)| {
        let spec = &job.config.spec;
        match (key, &spec.request) {
            (Some(_), Some(Payload::Detached(detached))) => {
                // Without a body the job has another request by now: it stays due.
                let request = attach(&detached.type_url, &bodies.next().flatten()?);
                let request = Some(Payload::Inline(request));
                Some(SharedSpec::from(Spec { request, ..(**spec).clone() }))
            }
            _ => starts(job).then(|| spec.clone()),
        }
    };
    jobs.iter().zip(wanted).map(spec).collect()
}

/// The start of the operation of an execution. Nothing in a job's configuration lets it be refused.
fn begin(
    commands: &Commands,
    queues: &KnownQueues,
    execution: Execution,
    queued: bool,
) -> Option<BeginRun> {
    let context = commands.context();
    let name = execution.name().operation();
    let key = context.key(&name);
    let of_job = OfJob {
        job: execution.job.to_string(),
        execution: execution.name().to_string(),
        trigger: execution.trigger,
        tick: execution.tick,
        queued,
    };
    let spec = &execution.spec;
    let aging_interval = queues.aging_interval(spec.queue.as_str());
    // A gate is asked as for an operation whose time has come.
    let admission = spec.options.concurrency.is_some().then_some(Admittance::Waiting);
    let spec = Spec { of_job: Some(of_job), aging_interval, ..(**spec).clone() };
    let uid = Uuid::new_v4();
    let birth = Birth { name, uid, lease: None, admission, not_after: None };
    match start(Start { spec, ..Start::default() }, birth, context.now(key)) {
        Ok(change) => {
            let also = vec![Also::create(keys(key)[0], execution)];
            let change = Change { also, ..change.into() };
            Some(BeginRun { key, change: Some(Box::new(change)) })
        }
        Err(why) => {
            tracing::error!(job = %execution.job, %why, "a run could not be started");
            None
        }
    }
}

fn beginning(job: &Job, run: JobRun, spec: &SharedSpec, create_time: Timestamp) -> Execution {
    Execution {
        job: job.name.clone(),
        id: run.id,
        create_time,
        trigger: run.trigger,
        tick: run.tick,
        spec: spec.clone(),
    }
}

/// Whether the operation of a run was started, by this try or by an earlier one.
async fn has_begun(commands: &Commands, key: Key, ended: &Ended<Record>) -> bool {
    match ended {
        Ended::Written { .. } | Ended::Kept { before: Some(_), .. } | Ended::Unreadable(_) => true,
        // It was started long ago, and only its execution is left.
        Ended::Failed(CommitError::Conflict) => {
            commands.reader().read::<Execution>(keys(key)[0]).await.is_ok_and(|it| it.is_some())
        }
        Ended::Failed(_) | Ended::Kept { before: None, .. } | Ended::Unknown => false,
    }
}

fn control(commands: &Commands, job: &Job, id: Uuid, command: Command) -> KeyedCommand {
    let key = commands.context().key(&job.name.execution(id).operation());
    KeyedCommand { key, command }
}

fn admit() -> Command {
    let resume = Resume { etag: String::new(), input: None, nonce: random(), by_job: true };
    Command::Resume(Box::new(resume))
}

/// Whether a command was applied, or never can be: then its operation is over or gone.
fn is_settled(commands: &Commands, outcome: CommandOutcome) -> bool {
    let Err(error) = outcome else { return true };
    let is_trouble = matches!(error.reason, Reason::StoreUnavailable | Reason::Internal);
    if is_trouble {
        commands.context().log_failure("could not steer the run of a job; trying again", &error);
    }
    !is_trouble
}
