//! `longhaul.v1.Producers`.

use tonic::metadata::MetadataValue;
use tonic::{Request, Response};

use super::{Reply, caller, header};
use crate::engine::{Engine, Result, StartRequest, Started};
use crate::grpc::status::to_status;
use crate::limits::MAX_REPLY_BYTES;
use crate::operation::payload::{EMPTY, type_url};
use crate::proto::google::longrunning::{Operation, operation};
use crate::proto::longhaul::v1::producers_server::Producers;
use crate::proto::longhaul::v1::{
    BatchStartOperationsRequest, BatchStartOperationsResponse, StartOperationRequest,
    batch_start_operations_response as batch_response,
};
use crate::wire::starts;
use crate::wire::status::to_message;

pub(super) struct Service {
    engine: Engine,
}

impl Service {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone() }
    }
}

#[tonic::async_trait]
impl Producers for Service {
    async fn start_operation(&self, request: Request<StartOperationRequest>) -> Reply<Operation> {
        let caller = caller(&request);
        let trace_parent = starts::trace_parent(header(&request, "traceparent")).to_owned();
        let start = starts::start(request.into_inner(), &trace_parent).map_err(to_status)?;
        if start.validate_only {
            let mut checked = validated(&start);
            self.engine
                .validate_start(&caller, start)
                .await
                .map_err(to_status)?
                .as_str()
                .clone_into(&mut checked.name);
            return Ok(Response::new(checked));
        }
        let started = self.engine.start_operation(&caller, start).await.map_err(to_status)?;
        // Nobody else holds a view of what has just been started.
        let published = std::sync::Arc::unwrap_or_clone(started.view).published;
        Ok(replayed(Response::new(published), started.replayed))
    }

    async fn batch_start_operations(
        &self,
        request: Request<BatchStartOperationsRequest>,
    ) -> Reply<BatchStartOperationsResponse> {
        let caller = caller(&request);
        let trace_parent = starts::trace_parent(header(&request, "traceparent")).to_owned();
        let batch = starts::batch(request.into_inner(), &trace_parent).map_err(to_status)?;
        let started = self.engine.start_batch(&caller, batch).await;
        Ok(Response::new(BatchStartOperationsResponse { results: results(started) }))
    }
}

/// One result for each start; where the reply grows too large, the last ones have only their name.
fn results(started: Vec<Result<Started>>) -> Vec<batch_response::Result> {
    use batch_response::result::Outcome;
    let mut bytes = 0;
    let mut result = |started: Result<Started>| match started {
        Ok(started) => {
            let full = started.view.published.clone();
            bytes += prost::Message::encoded_len(&full);
            let operation = if bytes > MAX_REPLY_BYTES {
                Operation { name: full.name, ..Operation::default() }
            } else {
                full
            };
            batch_response::Result {
                outcome: Some(Outcome::Operation(operation)),
                replayed: started.replayed,
            }
        }
        Err(error) => batch_response::Result {
            outcome: Some(Outcome::Error(to_message(&error))),
            replayed: false,
        },
    };
    started.into_iter().map(&mut result).collect()
}

/// What a start would be that was only checked: done, with an empty response (AIP-163, AIP-151), and empty metadata, without
/// which some clients fail.
fn validated(start: &StartRequest) -> Operation {
    let empty = |name: &str| prost_types::Any { type_url: type_url(name), value: Vec::new() };
    let response = if start.response_type.is_empty() { EMPTY } else { &start.response_type };
    let metadata =
        if start.server_metadata { "longhaul.v1.OperationMetadata" } else { &start.metadata_type };
    Operation {
        name: String::new(),
        metadata: (!metadata.is_empty()).then(|| empty(metadata)),
        done: true,
        result: Some(operation::Result::Response(empty(response))),
    }
}

/// Says in a header that the operation was there already.
pub(super) fn replayed<T>(mut response: Response<T>, replayed: bool) -> Response<T> {
    if replayed {
        response.metadata_mut().insert("longhaul-replayed", MetadataValue::from_static("true"));
    }
    response
}
