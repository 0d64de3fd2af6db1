//! `longhaul.v1.Callers`.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{Reply, caller};
use crate::engine::{Engine, Watch};
use crate::grpc::status::to_status;
use crate::limits::MAX_CHECKPOINT_BYTES;
use crate::limits::MAX_TEXT_BYTES;
use crate::proto::longhaul::v1::callers_server::Callers;
use crate::proto::longhaul::v1::{
    GetOperationRecordRequest, ListOperationRecordsRequest, ListOperationRecordsResponse,
    OperationRecord, PauseOperationRequest, ResumeOperationRequest, WatchOperationRequest,
    WatchOperationResponse,
};
use crate::wire::{fields, operations, views};

pub(super) struct Service {
    engine: Engine,
}

impl Service {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone() }
    }
}

#[tonic::async_trait]
impl Callers for Service {
    type WatchOperationStream =
        Pin<Box<dyn Stream<Item = Result<WatchOperationResponse, Status>> + Send>>;

    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Reply<Self::WatchOperationStream> {
        let name = fields::name(&request.get_ref().name).map_err(to_status)?;
        let options = views::watch(request.get_ref()).map_err(to_status)?;
        let full = views::is_full(request.get_ref().view).map_err(to_status)?;
        let watch =
            self.engine.watch(&caller(&request), &name, options).await.map_err(to_status)?;
        Ok(Response::new(Box::pin(events(watch, full))))
    }

    async fn get_operation_record(
        &self,
        request: Request<GetOperationRecordRequest>,
    ) -> Reply<OperationRecord> {
        let caller = caller(&request);
        let name = fields::name(&request.get_ref().name).map_err(to_status)?;
        if !views::is_full(request.get_ref().view).map_err(to_status)? {
            let view = self.engine.get(&caller, &name).await.map_err(to_status)?;
            return Ok(Response::new(views::record(&view, None)));
        }
        let (view, started_with) =
            self.engine.get_with_request(&caller, &name).await.map_err(to_status)?;
        Ok(Response::new(views::record(&view, started_with)))
    }

    async fn list_operation_records(
        &self,
        request: Request<ListOperationRecordsRequest>,
    ) -> Reply<ListOperationRecordsResponse> {
        let caller = caller(&request);
        let query = operations::list_records(request.into_inner()).map_err(to_status)?;
        let page = self.engine.list(&caller, query).await.map_err(to_status)?;
        Ok(Response::new(ListOperationRecordsResponse {
            operation_records: page.views.iter().map(|view| views::record(view, None)).collect(),
            next_page_token: page.next_page_token,
            unreachable: Vec::new(),
        }))
    }

    async fn pause_operation(
        &self,
        request: Request<PauseOperationRequest>,
    ) -> Reply<OperationRecord> {
        let caller = caller(&request);
        let request = request.into_inner();
        let name = fields::name(&request.name).map_err(to_status)?;
        let reason = fields::text("reason", request.reason, MAX_TEXT_BYTES).map_err(to_status)?;
        let view =
            self.engine.pause(&caller, &name, request.etag, reason).await.map_err(to_status)?;
        Ok(Response::new(views::record(&view, None)))
    }

    async fn resume_operation(
        &self,
        request: Request<ResumeOperationRequest>,
    ) -> Reply<OperationRecord> {
        let caller = caller(&request);
        let request = request.into_inner();
        let name = fields::name(&request.name).map_err(to_status)?;
        let input = fields::any("input", request.input, MAX_CHECKPOINT_BYTES).map_err(to_status)?;
        let view =
            self.engine.resume(&caller, &name, request.etag, input).await.map_err(to_status)?;
        Ok(Response::new(views::record(&view, None)))
    }
}

fn events(
    watch: Watch,
    full: bool,
) -> impl Stream<Item = Result<WatchOperationResponse, Status>> + Send {
    futures_util::stream::unfold(watch, move |mut watch| async move {
        let event = watch.next().await?;
        Some((event.map(|event| views::event(event, full)).map_err(to_status), watch))
    })
}
