//! Executions: what a run was started with, and how it ended. Each is written once, with the operation of the run.

use uuid::Uuid;

use super::name::{ExecutionName, JobName};
use crate::clock::Timestamp;
use crate::operation::payload::Payload;
use crate::operation::{Change, Operation, Record, SharedSpec, State, Trigger};
use crate::proto::google::rpc::Status;

/// The beginning of an execution: the configuration that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    /// The job.
    pub job: JobName,
    /// Its id, which is that of its operation.
    pub id: Uuid,
    /// When its operation was started.
    pub create_time: Timestamp,
    /// Why it runs.
    pub trigger: Trigger,
    /// Its tick, unless a caller ran it.
    pub tick: Option<Timestamp>,
    /// The operation that was started.
    pub spec: SharedSpec,
}

/// The end of an execution.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutionEnd {
    /// The job.
    pub job: JobName,
    /// Its id.
    pub id: Uuid,
    /// How it ended.
    pub ending: Ending,
    /// When a worker first took it.
    pub start_time: Option<Timestamp>,
    /// When it ended.
    pub end_time: Timestamp,
    /// How many attempts it took.
    pub attempts: u32,
    /// Whether its job knows that it is over.
    pub settled: bool,
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// Well, with this response.
    Succeeded(Payload),
    /// Badly.
    Failed(Status),
    /// On request.
    Cancelled(Status),
}

impl Execution {
    /// Its full name.
    pub fn name(&self) -> ExecutionName {
        self.job.execution(self.id)
    }
}

impl ExecutionEnd {
    /// Its full name.
    pub fn name(&self) -> ExecutionName {
        self.job.execution(self.id)
    }

    /// The end of the execution that `change` brings, if the operation is one of a job and was not over.
    pub fn of(before: &Record, change: &Change, now: Timestamp) -> Option<Self> {
        let before = before.operation().filter(|before| !before.state.is_done())?;
        let of_job = before.spec.of_job.as_ref()?;
        let ended = match (&change.ended, change.record.as_ref()?) {
            (Some(ended), _) => ended,
            (None, Record::Operation(operation)) if operation.state.is_done() => operation,
            (None, Record::Operation(_)) => return None,
            // It was parked, and deleting it ended it.
            (None, Record::Tombstone(_)) => before,
        };
        let name = ExecutionName::parse(&of_job.execution).ok()?;
        Some(Self {
            ending: Ending::of(ended),
            start_time: ended.start_time,
            end_time: ended.end_time.unwrap_or(now),
            attempts: ended.attempts_used,
            settled: false,
            job: name.job,
            id: name.id,
        })
    }
}

impl Ending {
    fn of(operation: &Operation) -> Self {
        match &operation.state {
            State::Succeeded(response) => Self::Succeeded(operation.plain_response(response)),
            State::Failed(error) => Self::Failed(error.clone()),
            State::Cancelled(error) => Self::Cancelled(error.clone()),
            State::Pending(_) | State::Running(_) | State::Cancelling(..) | State::Suspended(_) => {
                Self::Cancelled(operation.cancelled())
            }
        }
    }
}
