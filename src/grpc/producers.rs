//! `longhaul.v1.Producers`.

use tonic::metadata::MetadataValue;
use tonic::{Request, Response};

use super::call::{Reply, caller, trace_parent};
use crate::engine::Engine;
use crate::proto::google::longrunning::Operation;
use crate::proto::longhaul::v1::producers_server::Producers;
use crate::proto::longhaul::v1::{
    BatchStartOperationsRequest, BatchStartOperationsResponse, StartOperationRequest,
};
use crate::wire::starts;

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
        let trace_parent = trace_parent(&request);
        let wanted = starts::start(request.into_inner(), trace_parent)?;
        let started = self.engine.start_operation(&caller, wanted).await?;
        Ok(replayed(Response::new(started.published), started.replayed))
    }

    async fn batch_start_operations(
        &self,
        request: Request<BatchStartOperationsRequest>,
    ) -> Reply<BatchStartOperationsResponse> {
        let caller = caller(&request);
        let trace_parent = trace_parent(&request);
        let wanted = starts::batch(request.into_inner(), &trace_parent)?;
        let started = self.engine.start_batch(&caller, wanted).await;
        Ok(Response::new(starts::batch_reply(started)))
    }
}

/// Says in a header that the same request had started the operation before.
pub(super) fn replayed<T>(mut response: Response<T>, replayed: bool) -> Response<T> {
    if replayed {
        response.metadata_mut().insert("longhaul-replayed", MetadataValue::from_static("true"));
    }
    response
}
