//! Jobs and executions with everything that callers see of them.

use crate::clock::Timestamp;
use crate::engine::error::Result;
use crate::engine::reading::view::payload;
use crate::filter::{Lookup, Payload as Part, Seen};
use crate::job::{Ending, Execution, ExecutionEnd, Job};
use crate::operation::Operation;
use crate::operation::name::Name;
use crate::operation::payload::Payload;
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1::operation_record::State;
use crate::record::operation::Slot;
use crate::store::{Key, Store};

/// A job, with the request of its template.
#[derive(Clone, Debug)]
pub struct JobView {
    /// The job.
    pub job: Job,
    /// The request; `None` in lists, too.
    pub request: Option<Any>,
}

/// An execution, as far as it has come.
#[derive(Clone, Debug)]
pub struct ExecutionView {
    /// Its beginning.
    pub execution: Execution,
    /// Its end.
    pub end: Option<ExecutionEnd>,
    /// Its operation, while there is no end.
    pub operation: Option<Operation>,
    /// The request; `None` in lists, too.
    pub request: Option<Any>,
    /// The worker's response; `None` in lists, too.
    pub response: Option<Any>,
    /// Its operation's name.
    pub operation_name: Name,
}

impl ExecutionView {
    /// Loads the request and the response.
    pub(super) async fn load(&mut self, store: &dyn Store, keys: [Key; 2]) -> Result<()> {
        let request = self.execution.spec.request.as_ref();
        self.request = payload(store, keys[0], Slot::Request, request).await?.flatten();
        if let Some(Ending::Succeeded(response)) = self.end.as_ref().map(|end| &end.ending) {
            let response = payload(store, keys[1], Slot::Response, Some(response)).await?;
            self.response = response.flatten();
        }
        Ok(())
    }

    /// The state of its operation, or how it ended.
    pub fn stage(&self) -> State {
        match (&self.end, &self.operation) {
            (Some(end), _) => match &end.ending {
                Ending::Succeeded(_) => State::Succeeded,
                Ending::Failed(_) => State::Failed,
                Ending::Cancelled(_) => State::Cancelled,
            },
            (None, Some(operation)) => operation.state.published(),
            (None, None) => State::Unspecified,
        }
    }
}

/// A filter sees an execution as it sees an operation, without payloads.
impl Seen for ExecutionView {
    fn name(&self) -> &str {
        self.operation_name.as_str()
    }

    fn state(&self) -> State {
        self.stage()
    }

    fn create_time(&self) -> Timestamp {
        self.execution.create_time
    }

    fn method(&self) -> &str {
        &self.execution.spec.method
    }

    fn queue(&self) -> &str {
        self.execution.spec.queue.as_str()
    }

    fn progress(&self) -> Option<f64> {
        self.operation.as_ref().and_then(Operation::fraction)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.execution.spec.options.labels.get(key).map(String::as_str)
    }

    fn error(&self) -> Option<&Status> {
        match &self.end.as_ref()?.ending {
            Ending::Failed(error) | Ending::Cancelled(error) => Some(error),
            Ending::Succeeded(_) => None,
        }
    }

    fn payload(&self, which: Part) -> Lookup<'_> {
        let stored: Option<&Payload> = match which {
            Part::Metadata => None,
            Part::Request => self.execution.spec.request.as_ref(),
            Part::Response => match self.end.as_ref().map(|end| &end.ending) {
                Some(Ending::Succeeded(response)) => Some(response),
                _ => None,
            },
        };
        match stored {
            None => Lookup::Absent,
            Some(Payload::Inline(any)) => Lookup::Here(std::borrow::Cow::Borrowed(any)),
            Some(Payload::Detached(detached)) => Lookup::Elsewhere { type_url: &detached.type_url },
        }
    }
}
