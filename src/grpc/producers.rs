//! `longhaul.v1.Producers`.

use tonic::metadata::MetadataValue;
use tonic::{Request, Response};

use super::call::{Reply, caller, carrier, header};
use crate::engine::Engine;
use crate::proto::google::longrunning::Operation;
use crate::proto::longhaul::v1::producers_server::Producers;
use crate::proto::longhaul::v1::{
    BatchStartOperationsRequest, BatchStartOperationsResponse, StartOperationRequest,
};
use crate::wire::tokens::{LINK_HEADER, LinkWish};
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
        let (header, parent) = (header(&request, LINK_HEADER), &request.get_ref().parent);
        let link = LinkWish::of(header, parent, &self.engine.guard(&caller))?;
        let (metadata, _, message) = request.into_parts();
        let reads = start_callbacks::read_bodies(&message.options);
        let types = start_callbacks::types(&self.engine, &message.parent, reads).await?;
        let wanted = starts::start(message, &carrier(&self.engine, &metadata, START, types))?;
        let started = self.engine.start_operation(&caller, wanted).await?;
        let link = link.map(|link| link.grant(&self.engine, &started)).transpose()?.flatten();
        let response = replayed(Response::new(started.published), started.replayed);
        Ok(linked(response, link.as_deref()))
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

/// Returns a link in a header.
fn linked<T>(mut response: Response<T>, link: Option<&str>) -> Response<T> {
    if let Some(mut link) = link.and_then(|link| MetadataValue::try_from(link).ok()) {
        link.set_sensitive(true);
        response.metadata_mut().insert(LINK_HEADER, link);
    }
    response
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
