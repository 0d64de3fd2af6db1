//! Starting finished operations again.

use std::sync::Arc;

use crate::engine::access::Caller;
use crate::engine::error::{Error, Result};
use crate::engine::operations::calls::Calls;
use crate::engine::operations::starts::{Started, Starts};
use crate::operation::lease::Fingerprint;
use crate::operation::name::{Id, Name, Parent};
use crate::operation::options::{Expiration, Options};
use crate::operation::payload::Payload;
use crate::operation::{Rejection, Spec, Start};
use crate::proto::google::protobuf::Any;

/// A checked request to start a finished operation again.
#[derive(Clone, Debug)]
pub struct Rerun {
    /// Which operation.
    pub name: Name,
    /// The id of the new one; `None`: the server makes one.
    pub id: Option<Id>,
    /// Another request for the worker; `None` is the same.
    pub request: Option<Any>,
    /// Identifies a replay; may be empty.
    pub request_id: String,
    /// Hash of everything that a replay must repeat.
    pub fingerprint: Fingerprint,
}

/// Starts finished operations again.
pub(in crate::engine) struct Reruns {
    starts: Arc<Starts>,
    calls: Arc<Calls>,
}

impl Reruns {
    pub(in crate::engine) const fn new(starts: Arc<Starts>, calls: Arc<Calls>) -> Self {
        Self { starts, calls }
    }

    /// The start of a new operation that is like a finished one.
    pub(in crate::engine) async fn prepare(&self, wanted: Rerun) -> Result<Start> {
        let Rerun { name, id, request, request_id, fingerprint } = wanted;
        let (view, same) = self.calls.get_record(&name, request.is_none()).await?;
        let operation = &view.operation;
        if !operation.state.is_done() {
            let why = "it is not done; wait for it, or cancel it first".to_owned();
            return Err(Rejection::InvalidState { name, verb: "rerun", why }.into());
        }
        let parent = Parent::parse(name.parent()).map_err(Box::<Error>::from)?;
        let spec = Spec {
            request: request.or(same).map(Payload::Inline),
            options: again(&operation.spec.options),
            request_id,
            fingerprint,
            of_job: None,
            rerun_of: Some(name),
            ..(*operation.spec).clone()
        };
        Ok(Start { parent, id, spec, ..Start::default() })
    }

    /// Starts it.
    pub(in crate::engine) async fn start(&self, caller: &Caller, wanted: Start) -> Result<Started> {
        self.starts.start_operation(caller, Box::new(wanted)).await
    }
}

/// The options without the times that were those of the first operation.
fn again(options: &Options) -> Options {
    let expiration = match options.expiration {
        Some(Expiration::At(_)) | None => None,
        after @ Some(Expiration::After(_)) => after,
    };
    Options { schedule_time: None, deadline_time: None, expiration, ..options.clone() }
}
