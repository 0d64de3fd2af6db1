//! `longhaul.v1.Producers`.

use tonic::metadata::MetadataValue;
use tonic::{Request, Response};

use super::call::{Reply, caller, header, trace_parent};
use crate::engine::Engine;
use crate::proto::google::longrunning::Operation;
use crate::proto::longhaul::v1::producers_server::Producers;
use crate::proto::longhaul::v1::{
    BatchStartOperationsRequest, BatchStartOperationsResponse, StartOperationRequest,
};
use crate::wire::starts;
use crate::wire::tokens::{LINK_HEADER, LinkWish};

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
        let (header, parent) = (header(&request, LINK_HEADER), &request.get_ref().parent);
        let link = LinkWish::of(header, parent, &self.engine.guard(&caller))?;
        let wanted = starts::start(request.into_inner(), trace_parent)?;
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
        let trace_parent = trace_parent(&request);
        let wanted = starts::batch(request.into_inner(), &trace_parent)?;
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
