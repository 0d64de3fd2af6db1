//! `longhaul.v1.Callers`.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::call::{Reply, caller, read_from};
use super::producers::replayed;
use crate::engine::Engine;
use crate::proto::encoded::Encoded;
use crate::proto::google::longrunning::Operation;
use crate::proto::longhaul::v1::callers_server::Callers;
use crate::proto::longhaul::v1::{
    CreateLinkRequest, GetOperationRecordRequest, GetOperationStatsRequest, Link,
    ListOperationRecordsRequest, ListOperationRecordsResponse, OperationRecord, OperationStats,
    PauseOperationRequest, RerunOperationRequest, RerunOperationsRequest, ResumeOperationRequest,
    WatchOperationRequest, WatchOperationsRequest,
};
use crate::wire::{fields, operations, sets, starts, tokens, views};

/// Encoded events.
type Events = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send>>;

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
    type WatchOperationStream = Events;
    type WatchOperationsStream = Events;

    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Reply<Self::WatchOperationStream> {
        let caller = caller(&request);
        let request = request.into_inner();
        let (name, options) = (fields::name(&request.name)?, views::watch(&request)?);
        let full = views::is_full(request.view)?;
        let watch = self.engine.watch(&caller, &name, options).await?;
        let events = watch.into_events().map(move |event| Ok(views::event(event?, full)));
        Ok(Response::new(Box::pin(events)))
    }

    async fn watch_operations(
        &self,
        request: Request<WatchOperationsRequest>,
    ) -> Reply<Self::WatchOperationsStream> {
        let caller = caller(&request);
        let request = request.into_inner();
        let types = operations::types(&self.engine, &request.parent, &request.filter).await?;
        let request = sets::watch(request, &types)?;
        let full = request.full;
        let watch = self.engine.watch_set(&caller, request)?;
        let events = watch.into_events().map(move |event| Ok(sets::event(event?, full)));
        Ok(Response::new(Box::pin(events)))
    }

    async fn get_operation_record(
        &self,
        request: Request<GetOperationRecordRequest>,
    ) -> Reply<OperationRecord> {
        let caller = caller(&request);
        let name = fields::name(&request.get_ref().name)?;
        let full = views::is_full(request.get_ref().view)?;
        let (view, started_with) = self.engine.get_record(&caller, &name, full).await?;
        Ok(Response::new(views::record(view, started_with)))
    }

    async fn list_operation_records(
        &self,
        request: Request<ListOperationRecordsRequest>,
    ) -> Reply<ListOperationRecordsResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let types = operations::types(&self.engine, &request.parent, &request.filter).await?;
        let query = operations::list_records(request, &types)?;
        let page = self.engine.list(&caller, query).await?;
        let index = page.index;
        Ok(read_from(index, operations::list_records_reply(page)))
    }

    async fn get_operation_stats(
        &self,
        request: Request<GetOperationStatsRequest>,
    ) -> Reply<OperationStats> {
        let caller = caller(&request);
        let parent = operations::stats(request.get_ref())?;
        let stats = self.engine.stats(&caller, &parent).await?;
        Ok(Response::new(operations::stats_reply(stats)))
    }

    async fn pause_operation(
        &self,
        request: Request<PauseOperationRequest>,
    ) -> Reply<OperationRecord> {
        let caller = caller(&request);
        let (name, etag, reason) = views::pause(request.into_inner())?;
        let view = self.engine.pause(&caller, &name, etag, reason).await?;
        Ok(Response::new(views::record(view, None)))
    }

    async fn create_link(&self, request: Request<CreateLinkRequest>) -> Reply<Link> {
        let caller = caller(&request);
        let (verbs, lifetime) = tokens::link(request.get_ref())?;
        let name = fields::name(&request.get_ref().name)?;
        let link = self.engine.create_link(&caller, &name, verbs, lifetime).await?;
        Ok(Response::new(tokens::link_reply(link)))
    }

    async fn rerun_operation(&self, request: Request<RerunOperationRequest>) -> Reply<Operation> {
        let caller = caller(&request);
        let wanted = starts::rerun(request.into_inner())?;
        let started = self.engine.rerun(&caller, wanted).await?;
        Ok(replayed(Response::new(started.published), started.replayed))
    }

    async fn rerun_operations(&self, request: Request<RerunOperationsRequest>) -> Reply<Operation> {
        let caller = caller(&request);
        let request = request.into_inner();
        let types = operations::types(&self.engine, &request.parent, &request.filter).await?;
        let started = self.engine.rerun_all(&caller, starts::rerun_all(request, &types)?).await?;
        Ok(replayed(Response::new(started.published), started.replayed))
    }

    async fn resume_operation(
        &self,
        request: Request<ResumeOperationRequest>,
    ) -> Reply<OperationRecord> {
        let caller = caller(&request);
        let (name, etag, input) = views::resume(request.into_inner())?;
        let view = self.engine.resume(&caller, &name, etag, input).await?;
        Ok(Response::new(views::record(view, None)))
    }
}
