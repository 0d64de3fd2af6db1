//! Doing what jobs have decided: starting, releasing and cancelling the operations of runs.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::engine::commands::apply::{CommandOutcome, Commands, KeyedCommand};
use crate::engine::error::{Error, Reason};
use crate::engine::firing::transactions::BeginRun;
use crate::engine::random::random;
use crate::engine::reading::view::payload;
use crate::engine::transact::Ended;
use crate::job::{Execution, Job, JobRun, JobStep};
use crate::operation::command::{Cancel, Command, Resume};
use crate::operation::gate::Admittance;
use crate::operation::payload::Payload;
use crate::operation::{Birth, OfJob, Record, SharedSpec, Spec, Start, start};
use crate::record::execution::keys;
use crate::record::operation::Slot;
use crate::record::{Also, Change};
use crate::store::{CommitError, Key};

/// What is to be done for one of several jobs.
struct StepOf {
    /// Which job.
    number: usize,
    step: JobStep,
}

/// Does the steps of jobs; for each job those that are done.
pub(super) async fn take(commands: &Commands, jobs: &[(Key, Job)]) -> Vec<Vec<JobStep>> {
    let (mut starts, mut begins, mut controls, mut keyed) = (vec![], vec![], vec![], vec![]);
    for (number, (key, job)) in jobs.iter().enumerate() {
        let spec = loaded_spec(commands, *key, job).await;
        for step in job.steps() {
            match (step, &spec) {
                (JobStep::Start(run), Some(spec)) => {
                    let Some(begin) = begin(commands, job, run, spec) else { continue };
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

/// The spec of a job with its request, if there is something to start.
async fn loaded_spec(commands: &Commands, key: Key, job: &Job) -> Option<SharedSpec> {
    if !job.runs.iter().any(|run| !run.started) {
        return None;
    }
    let spec = &job.config.spec;
    let Some(Payload::Detached(_)) = &spec.request else { return Some(spec.clone()) };
    let store = &*commands.context().store;
    match payload(store, key, Slot::Request, spec.request.as_ref()).await {
        Ok(Some(request)) => {
            let request = request.map(Payload::Inline);
            Some(SharedSpec::from(Spec { request, ..(**spec).clone() }))
        }
        // The job has another request by now: it stays due.
        Ok(None) => None,
        Err(error) => {
            let error = Box::<Error>::from(error);
            commands.context().log_failure("could not read the request of a job", &error);
            None
        }
    }
}

/// The start of a run. Nothing in a job's configuration lets it be refused.
fn begin(commands: &Commands, job: &Job, run: JobRun, spec: &SharedSpec) -> Option<BeginRun> {
    let context = commands.context();
    let execution = job.name.execution(run.id);
    let name = execution.operation();
    let key = context.key(&name);
    let now = context.now(key);
    let of_job = OfJob {
        job: job.name.to_string(),
        execution: execution.to_string(),
        trigger: run.trigger,
        tick: run.tick,
        queued: run.held,
    };
    let wanted =
        Start { spec: Spec { of_job: Some(of_job), ..(**spec).clone() }, ..Start::default() };
    // A gate is asked as for an operation whose time has come.
    let admission = spec.options.concurrency.is_some().then_some(Admittance::Waiting);
    let uid = Uuid::new_v4();
    let birth = Birth { name, uid, lease: None, admission, not_after: None };
    match start(wanted, birth, now) {
        Ok(change) => {
            let beginning = beginning(job, run, spec, now);
            let also = vec![Also::create(keys(key)[0], beginning)];
            let change = Change { also, ..change.into() };
            Some(BeginRun { key, change: Some(Box::new(change)) })
        }
        Err(why) => {
            tracing::error!(job = %job.name, %why, "a run could not be started");
            None
        }
    }
}

fn beginning(job: &Job, run: JobRun, spec: &SharedSpec, now: Timestamp) -> Execution {
    Execution {
        job: job.name.clone(),
        id: run.id,
        create_time: now,
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
