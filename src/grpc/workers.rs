//! `longhaul.v1.Workers`.

use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::future::ready;
use futures_util::stream::once;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response};

use super::deadline::longest_wait;
use super::explain;
use super::half_close::HalfClosed;
use super::producers::replayed;
use super::{Reply, caller, header};
use crate::engine::workers::stream::Input;
use crate::engine::{Caller, Engine, Error, Result};
use crate::grpc::status::to_status;
use crate::limits::{DEFAULT_LEASE, MAX_LABEL_NAME_BYTES, MAX_RENEWALS, MAX_REPLY_BYTES};
use crate::operation::command::Command;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::workers_server::Workers;
use crate::wire::status::to_message;
use crate::wire::{fields, starts, stream, work};

pub(super) struct Service {
    engine: Engine,
}

impl Service {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone() }
    }

    async fn renew(
        &self,
        caller: &Caller,
        renewal: &pb::renew_leases_request::Renewal,
    ) -> Result<pb::renew_leases_response::Result> {
        let name = fields::name(&renewal.name)?;
        let done = self.engine.renew(caller, &name, work::renewal(renewal)?).await?;
        let (expire_time, lease_duration) = done
            .operation()
            .map(|operation| work::lease_times(operation, done.time))
            .unwrap_or_default();
        let directive = done.operation().map(work::directive);
        Ok(pb::renew_leases_response::Result {
            name: renewal.name.clone(),
            expire_time,
            directive,
            error: None,
            lease_duration,
        })
    }

    async fn work(
        &self,
        caller: &Caller,
        name: &str,
        command: Result<Command>,
    ) -> std::result::Result<crate::engine::Done, tonic::Status> {
        let name = fields::name(name).map_err(to_status)?;
        self.engine.work(caller, &name, command.map_err(to_status)?).await.map_err(to_status)
    }
}

#[tonic::async_trait]
impl Workers for Service {
    async fn lease_operations(
        &self,
        request: Request<pb::LeaseOperationsRequest>,
    ) -> Reply<pb::LeaseOperationsResponse> {
        let caller = caller(&request);
        let longest = longest_wait(&request);
        let lease = work::lease(request.into_inner(), longest).map_err(to_status)?;
        let mut batch = self.engine.lease(&caller, lease).await.map_err(to_status)?;
        let leased = batch.load(MAX_REPLY_BYTES).await.map_err(to_status)?;
        let leases = leased.into_iter().map(work::lease_message).collect();
        batch.told();
        Ok(Response::new(pb::LeaseOperationsResponse { leases, retry_delay: None }))
    }

    async fn start_leased_operation(
        &self,
        request: Request<pb::StartLeasedOperationRequest>,
    ) -> Reply<pb::StartLeasedOperationResponse> {
        let caller = caller(&request);
        let trace_parent = starts::trace_parent(header(&request, "traceparent")).to_owned();
        let request = request.into_inner();
        let start =
            request.start.ok_or_else(|| to_status(Error::field("start", "start must be set")))?;
        fields::not_yet("start.validate_only", start.validate_only).map_err(to_status)?;
        let scheduled =
            start.options.as_ref().is_some_and(|options| options.schedule_time.is_some());
        if scheduled {
            let message = "start.options.schedule_time cannot be set: whoever starts an operation leased works on it now";
            return Err(to_status(Error::field("start.options.schedule_time", message)));
        }
        let start = starts::start(start, &trace_parent).map_err(to_status)?;
        let worker =
            fields::text("worker", request.worker, MAX_LABEL_NAME_BYTES).map_err(to_status)?;
        let duration = work::lease_duration("lease_duration", request.lease_duration)
            .map_err(to_status)?
            .unwrap_or(DEFAULT_LEASE);
        let (started, leased) =
            self.engine.start_leased(&caller, start, worker, duration).await.map_err(to_status)?;
        let operation = Some(started.view.published.clone());
        let reply =
            pb::StartLeasedOperationResponse { operation, lease: leased.map(work::lease_message) };
        Ok(replayed(Response::new(reply), started.replayed))
    }

    async fn renew_leases(
        &self,
        request: Request<pb::RenewLeasesRequest>,
    ) -> Reply<pb::RenewLeasesResponse> {
        let caller = &caller(&request);
        let renewals = &request.get_ref().renewals;
        if renewals.len() > MAX_RENEWALS {
            let message = format!(
                "renewals has {} items, at most {MAX_RENEWALS} are allowed",
                renewals.len()
            );
            return Err(to_status(Error::field("renewals", message)));
        }
        let results = futures_util::stream::iter(renewals.iter().cloned())
            .map(|renewal| async move {
                let result = self.renew(caller, &renewal).await;
                result.unwrap_or_else(|error| pb::renew_leases_response::Result {
                    name: renewal.name.clone(),
                    error: Some(to_message(&error)),
                    ..pb::renew_leases_response::Result::default()
                })
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        Ok(Response::new(pb::RenewLeasesResponse { results }))
    }

    async fn report_progress(
        &self,
        request: Request<pb::ReportProgressRequest>,
    ) -> Reply<pb::ReportProgressResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let name = request.name.clone();
        let report = work::report(request).map(|report| Command::Report(Box::new(report)));
        let done = self.work(&caller, &name, report).await?;
        let (expire_time, lease_duration) = done
            .operation()
            .map(|operation| work::lease_times(operation, done.time))
            .unwrap_or_default();
        let directive = done.operation().map(work::directive);
        Ok(Response::new(pb::ReportProgressResponse { expire_time, directive, lease_duration }))
    }

    async fn complete_operation(
        &self,
        request: Request<pb::CompleteOperationRequest>,
    ) -> Reply<pb::CompleteOperationResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let name = request.name.clone();
        let complete =
            work::complete(request).map(|complete| Command::Complete(Box::new(complete)));
        let done = self.work(&caller, &name, complete).await?;
        Ok(Response::new(pb::CompleteOperationResponse { discarded: done.answer.discarded }))
    }

    async fn fail_operation(
        &self,
        request: Request<pb::FailOperationRequest>,
    ) -> Reply<pb::FailOperationResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let name = request.name.clone();
        let fail = work::fail(request).map(|fail| Command::Fail(Box::new(fail)));
        let answer = self.work(&caller, &name, fail).await?.answer;
        Ok(Response::new(pb::FailOperationResponse {
            will_retry: answer.will_retry,
            schedule_time: answer.schedule_time.map(Into::into),
            discarded: answer.discarded,
        }))
    }

    async fn release_lease(
        &self,
        request: Request<pb::ReleaseLeaseRequest>,
    ) -> Reply<pb::ReleaseLeaseResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let name = request.name.clone();
        let release = work::release(request).map(|release| Command::Release(Box::new(release)));
        self.work(&caller, &name, release).await?;
        Ok(Response::new(pb::ReleaseLeaseResponse {}))
    }

    async fn suspend_operation(
        &self,
        request: Request<pb::SuspendOperationRequest>,
    ) -> Reply<pb::SuspendOperationResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let name = request.name.clone();
        let suspend = work::suspend(request).map(|suspend| Command::Suspend(Box::new(suspend)));
        self.work(&caller, &name, suspend).await?;
        Ok(Response::new(pb::SuspendOperationResponse {}))
    }

    type ServeQueueStream = Pin<
        Box<dyn Stream<Item = std::result::Result<pb::ServeQueueResponse, tonic::Status>> + Send>,
    >;

    async fn serve_queue(
        &self,
        request: Request<tonic::Streaming<pb::ServeQueueRequest>>,
    ) -> Reply<Self::ServeQueueStream> {
        let caller = caller(&request);
        let half_closed = request.extensions().get::<HalfClosed>().cloned().unwrap_or_default();
        let messages = request.into_inner().map(Some).chain(once(ready(None)));
        let incoming = messages.map(move |message| match message {
            Some(Ok(message)) => Input::Request(stream::request(message)),
            Some(Err(status)) => Input::Request(Err(explain::error(&status))),
            None if half_closed.is_set() => Input::HalfClosed,
            None => Input::Broken,
        });
        let outgoing = ReceiverStream::new(self.engine.serve_queue(caller, Box::pin(incoming)));
        let replies = outgoing.map(|said| said.map(stream::response).map_err(to_status));
        Ok(Response::new(Box::pin(replies)))
    }
}

/// Renewals of one request that run at the same time.
const AT_ONCE: usize = 32;
