//! `longhaul.v1.Admin`.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::call::Reply;
use super::status::to_status;
use crate::archive::parts;
use crate::engine::{Engine, Error};
use crate::proto::longhaul::v1::admin_server::Admin;
use crate::proto::longhaul::v1::{ExportRecordsRequest, ExportRecordsResponse};

pub(super) struct Service {
    engine: Engine,
}

impl Service {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone() }
    }
}

#[tonic::async_trait]
impl Admin for Service {
    type ExportRecordsStream =
        Pin<Box<dyn Stream<Item = Result<ExportRecordsResponse, Status>> + Send>>;

    async fn export_records(
        &self,
        _request: Request<ExportRecordsRequest>,
    ) -> Reply<Self::ExportRecordsStream> {
        let parts = parts(Arc::clone(self.engine.store()));
        let responses = parts.map(|part| match part {
            Ok(data) => Ok(ExportRecordsResponse { data }),
            Err(error) => Err(to_status(Box::<Error>::from(error))),
        });
        Ok(Response::new(Box::pin(responses)))
    }
}
