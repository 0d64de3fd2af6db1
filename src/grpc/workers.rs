//! `longhaul.v1.Workers`.

use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::future::ready;
use futures_util::stream::once;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::call::{Reply, caller, carrier};
use super::deadline::time_left;
use super::explain;
use super::half_close::HalfClosed;
use super::producers::replayed;
use crate::engine::Engine;
use crate::engine::workers::stream::Input;
use crate::grpc::status::to_status;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::workers_server::Workers;
use crate::wire::starts::LeasedStart;
use crate::wire::{access, start_callbacks, starts, stream, work};

pub(super) struct Service {
    engine: Engine,
}

impl Service {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone() }
    }
}

#[tonic::async_trait]
impl Workers for Service {
    async fn lease_operations(
        &self,
        request: Request<pb::LeaseOperationsRequest>,
    ) -> Reply<pb::LeaseOperationsResponse> {
        let caller = caller(&request);
        let time_left = time_left(&request);
        let lease = work::lease(request.into_inner(), time_left)?;
        let lease = access::in_scope(&self.engine.guard(&caller), lease);
        let batch = self.engine.lease(&caller, lease).await?;
        Ok(Response::new(work::lease_reply(batch).await?))
    }

    async fn start_leased_operation(
        &self,
        request: Request<pb::StartLeasedOperationRequest>,
    ) -> Reply<pb::StartLeasedOperationResponse> {
        let caller = caller(&request);
        let (metadata, _, message) = request.into_parts();
        let start = message.start.as_ref();
        let reads = start_callbacks::read_bodies(start.and_then(|start| start.options.as_ref()));
        let parent = start.map_or("", |start| &*start.parent);
        let types = start_callbacks::types(&self.engine, parent, reads).await?;
        let carrier = carrier(&self.engine, &metadata, START, types);
        let LeasedStart { start, worker, duration } = starts::start_leased(message, &carrier)?;
        let (started, leased) = self.engine.start_leased(&caller, start, worker, duration).await?;
        let is_replayed = started.replayed;
        Ok(replayed(Response::new(starts::leased_reply(started, leased)), is_replayed))
    }

    async fn renew_leases(
        &self,
        request: Request<pb::RenewLeasesRequest>,
    ) -> Reply<pb::RenewLeasesResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let renewed = self.engine.renew_each(&caller, work::renewals(&request)?).await;
        Ok(Response::new(work::renewed(request, renewed)))
    }

    async fn report_progress(
        &self,
        request: Request<pb::ReportProgressRequest>,
    ) -> Reply<pb::ReportProgressResponse> {
        let caller = caller(&request);
        let (name, report) = work::report(request.into_inner())?;
        let done = self.engine.work(&caller, &name, report).await?;
        Ok(Response::new(work::reported(&done)))
    }

    async fn complete_operation(
        &self,
        request: Request<pb::CompleteOperationRequest>,
    ) -> Reply<pb::CompleteOperationResponse> {
        let caller = caller(&request);
        let (name, complete) = work::complete(request.into_inner())?;
        let done = self.engine.work(&caller, &name, complete).await?;
        Ok(Response::new(work::completed(&done)))
    }

    async fn fail_operation(
        &self,
        request: Request<pb::FailOperationRequest>,
    ) -> Reply<pb::FailOperationResponse> {
        let caller = caller(&request);
        let (name, fail) = work::fail(request.into_inner())?;
        let done = self.engine.work(&caller, &name, fail).await?;
        Ok(Response::new(work::failed(&done)))
    }

    async fn release_lease(
        &self,
        request: Request<pb::ReleaseLeaseRequest>,
    ) -> Reply<pb::ReleaseLeaseResponse> {
        let caller = caller(&request);
        let (name, release) = work::release(request.into_inner())?;
        self.engine.work(&caller, &name, release).await?;
        Ok(Response::new(pb::ReleaseLeaseResponse {}))
    }

    async fn suspend_operation(
        &self,
        request: Request<pb::SuspendOperationRequest>,
    ) -> Reply<pb::SuspendOperationResponse> {
        let caller = caller(&request);
        let (name, suspend) = work::suspend(request.into_inner())?;
        self.engine.work(&caller, &name, suspend).await?;
        Ok(Response::new(pb::SuspendOperationResponse {}))
    }

    type ServeQueueStream =
        Pin<Box<dyn Stream<Item = Result<pb::ServeQueueResponse, Status>> + Send>>;

    async fn serve_queue(
        &self,
        request: Request<tonic::Streaming<pb::ServeQueueRequest>>,
    ) -> Reply<Self::ServeQueueStream> {
        let caller = caller(&request);
        let half_closed = request.extensions().get::<HalfClosed>().cloned().unwrap_or_default();
        let messages = request.into_inner().map(Some).chain(once(ready(None)));
        let mut read = access::stream_reader(self.engine.clone(), caller);
        let incoming = messages.map(move |message| match message {
            Some(Ok(message)) => Input::Request(read(message)),
            Some(Err(status)) => Input::Request(Err(explain::error(&status))),
            None if half_closed.is_set() => Input::HalfClosed,
            None => Input::Broken,
        });
        let outgoing = ReceiverStream::new(self.engine.serve_queue(Box::pin(incoming)));
        let replies = outgoing.map(|said| said.map(stream::response).map_err(to_status));
        Ok(Response::new(Box::pin(replies)))
    }
}

const START: &str = "/longhaul.v1.Workers/StartLeasedOperation";
