//! The API's own method.

use longhaul::proto::google::longrunning::Operation;
use longhaul::proto::google::protobuf::Any;
use longhaul::proto::longhaul::v1::StartOperationRequest;
use longhaul::proto::longhaul::v1::producers_client::ProducersClient;
use prost::Name;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::pb::library_server::Library;
use crate::pb::{ExportBooksMetadata, ExportBooksRequest, ExportBooksResponse};
use crate::worker::QUEUE;

/// The library.
pub(crate) struct Api {
    producers: ProducersClient<Routes>,
}

impl Api {
    /// An API whose operations start there.
    pub(crate) const fn new(producers: ProducersClient<Routes>) -> Self {
        Self { producers }
    }
}

#[tonic::async_trait]
impl Library for Api {
    async fn export_books(
        &self,
        request: Request<ExportBooksRequest>,
    ) -> Result<Response<Operation>, Status> {
        let request = request.into_inner();
        // Refuse an invalid request now; only later failures are the operation's error.
        if !request.shelf.starts_with("shelves/") {
            return Err(Status::invalid_argument("shelf must look like shelves/SHELF"));
        }
        let start = StartOperationRequest {
            parent: request.shelf.clone(),
            queue: QUEUE.to_owned(),
            method: "ExportBooks".to_owned(),
            metadata_type: ExportBooksMetadata::full_name(),
            response_type: ExportBooksResponse::full_name(),
            request_id: request.request_id.clone(),
            request: Some(Any::from_msg(&request)),
            ..StartOperationRequest::default()
        };
        let started = self.producers.clone().start_operation(start).await?;
        Ok(Response::new(started.into_inner()))
    }
}
