//! `longhaul.v1.Producers`.

use tonic::metadata::MetadataValue;
use tonic::{Request, Response};

use super::call::{Reply, caller, carrier};
use crate::engine::Engine;
use crate::proto::google::longrunning::Operation;
use crate::proto::longhaul::v1::producers_server::Producers;
use crate::proto::longhaul::v1::{
    BatchStartOperationsRequest, BatchStartOperationsResponse, StartOperationRequest,
};
use crate::wire::{start_callbacks, starts};

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
        let (metadata, _, message) = request.into_parts();
        let reads = start_callbacks::read_bodies(&message.options);
        let types = start_callbacks::types(&self.engine, &message.parent, reads).await?;
        let wanted = starts::start(message, &carrier(&self.engine, &metadata, START, types))?;
        let started = self.engine.start_operation(&caller, wanted).await?;
        Ok(replayed(Response::new(started.published), started.replayed))
    }

    async fn batch_start_operations(
        &self,
        request: Request<BatchStartOperationsRequest>,
    ) -> Reply<BatchStartOperationsResponse> {
        let caller = caller(&request);
        let (metadata, _, batch) = request.into_parts();
        let options = batch.requests.iter().filter_map(|start| start.options.as_ref());
        let reads = start_callbacks::read_bodies(options);
        let types = start_callbacks::types(&self.engine, &batch.parent, reads).await?;
        let wanted = starts::batch(batch, &carrier(&self.engine, &metadata, BATCH, types))?;
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

const START: &str = "/longhaul.v1.Producers/StartOperation";
const BATCH: &str = "/longhaul.v1.Producers/BatchStartOperations";
