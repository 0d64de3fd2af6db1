//! The policy in front of the services: each call is asked about before its handler sees it.
//!
//! A method that is not listed here does not compile, and neither does one whose request is not in the table of
//! `wire/access.rs`. Health and reflection have no gate: every client that reaches the server may call them.

use std::future::ready;
use std::pin::Pin;

use tonic::{Request, Response, Status, Streaming};

use super::call::caller_in;
use crate::engine::Engine;
use crate::grpc::status::to_status;
use crate::proto::google::longrunning as lro;
use crate::proto::google::longrunning::operations_server::Operations;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::admin_server::Admin;
use crate::proto::longhaul::v1::callers_server::Callers;
use crate::proto::longhaul::v1::jobs_server::Jobs;
use crate::proto::longhaul::v1::producers_server::Producers;
use crate::proto::longhaul::v1::queues_server::Queues;
use crate::proto::longhaul::v1::tokens_server::Tokens;
use crate::proto::longhaul::v1::type_sets_server::TypeSets;
use crate::proto::longhaul::v1::webhooks_server::Webhooks;
use crate::proto::longhaul::v1::workers_server::Workers;
use crate::wire::access::Guarded;

/// A service behind the policy.
pub(super) struct Gate<S> {
    service: S,
    engine: Engine,
}

impl<S> Gate<S> {
    pub(super) fn new(service: S, engine: &Engine) -> Self {
        Self { service, engine: engine.clone() }
    }

    fn ask<M: Guarded>(&self, request: &Request<M>) -> Result<(), Status> {
        let guard = self.engine.guard(caller_in(request));
        if guard.allows_all() {
            return Ok(());
        }
        request.get_ref().ask(&guard).map_err(to_status)
    }
}

/// What the macro `async_trait` makes of the answer of an `async fn`; written out, the gate hands on the future of the handler
/// without one of its own.
type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'a>>;

macro_rules! methods {
    ($($method:ident: $request:ty => $reply:ty;)+) => {
        $(fn $method<'life0, 'async_trait>(
            &'life0 self,
            request: Request<$request>,
        ) -> Answer<'async_trait, $reply>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            match self.ask(&request) {
                Ok(()) => self.service.$method(request),
                Err(denied) => Box::pin(ready(Err(denied))),
            }
        })+
    };
}

impl<S: Operations> Operations for Gate<S> {
    methods! {
        list_operations: lro::ListOperationsRequest => lro::ListOperationsResponse;
        get_operation: lro::GetOperationRequest => lro::Operation;
        delete_operation: lro::DeleteOperationRequest => ();
        cancel_operation: lro::CancelOperationRequest => ();
        wait_operation: lro::WaitOperationRequest => lro::Operation;
    }
}

impl<S: Producers> Producers for Gate<S> {
    methods! {
        start_operation: pb::StartOperationRequest => lro::Operation;
        batch_start_operations: pb::BatchStartOperationsRequest => pb::BatchStartOperationsResponse;
    }
}

impl<S: Callers> Callers for Gate<S> {
    type WatchOperationStream = S::WatchOperationStream;
    type WatchOperationsStream = S::WatchOperationsStream;

    methods! {
        watch_operation: pb::WatchOperationRequest => Self::WatchOperationStream;
        watch_operations: pb::WatchOperationsRequest => Self::WatchOperationsStream;
        get_operation_record: pb::GetOperationRecordRequest => pb::OperationRecord;
        list_operation_records: pb::ListOperationRecordsRequest => pb::ListOperationRecordsResponse;
        get_operation_stats: pb::GetOperationStatsRequest => pb::OperationStats;
        pause_operation: pb::PauseOperationRequest => pb::OperationRecord;
        rerun_operation: pb::RerunOperationRequest => lro::Operation;
        rerun_operations: pb::RerunOperationsRequest => lro::Operation;
        resume_operation: pb::ResumeOperationRequest => pb::OperationRecord;
        create_link: pb::CreateLinkRequest => pb::Link;
    }
}

impl<S: Jobs> Jobs for Gate<S> {
    methods! {
        create_job: pb::CreateJobRequest => pb::Job;
        get_job: pb::GetJobRequest => pb::Job;
        list_jobs: pb::ListJobsRequest => pb::ListJobsResponse;
        update_job: pb::UpdateJobRequest => pb::Job;
        delete_job: pb::DeleteJobRequest => ();
        run_job: pb::RunJobRequest => lro::Operation;
        pause_job: pb::PauseJobRequest => pb::Job;
        resume_job: pb::ResumeJobRequest => pb::Job;
        backfill_job: pb::BackfillJobRequest => pb::BackfillJobResponse;
        list_upcoming_runs: pb::ListUpcomingRunsRequest => pb::ListUpcomingRunsResponse;
        get_execution: pb::GetExecutionRequest => pb::Execution;
        list_executions: pb::ListExecutionsRequest => pb::ListExecutionsResponse;
        delete_execution: pb::DeleteExecutionRequest => ();
    }
}

impl<S: Queues> Queues for Gate<S> {
    methods! {
        get_queue: pb::GetQueueRequest => pb::Queue;
        list_queues: pb::ListQueuesRequest => pb::ListQueuesResponse;
        update_queue: pb::UpdateQueueRequest => pb::Queue;
        pause_queue: pb::PauseQueueRequest => pb::Queue;
        resume_queue: pb::ResumeQueueRequest => pb::Queue;
        list_workers: pb::ListWorkersRequest => pb::ListWorkersResponse;
        drain_worker: pb::DrainWorkerRequest => pb::DrainWorkerResponse;
        resume_worker: pb::ResumeWorkerRequest => pb::ResumeWorkerResponse;
    }
}

impl<S: TypeSets> TypeSets for Gate<S> {
    methods! {
        create_type_set: pb::CreateTypeSetRequest => pb::TypeSet;
        get_type_set: pb::GetTypeSetRequest => pb::TypeSet;
        list_type_sets: pb::ListTypeSetsRequest => pb::ListTypeSetsResponse;
        delete_type_set: pb::DeleteTypeSetRequest => ();
    }
}

impl<S: Tokens> Tokens for Gate<S> {
    methods! {
        create_token: pb::CreateTokenRequest => pb::Token;
        get_token: pb::GetTokenRequest => pb::Token;
        list_tokens: pb::ListTokensRequest => pb::ListTokensResponse;
        rotate_token: pb::RotateTokenRequest => pb::Token;
        delete_token: pb::DeleteTokenRequest => ();
    }
}

impl<S: Webhooks> Webhooks for Gate<S> {
    methods! {
        create_webhook_endpoint: pb::CreateWebhookEndpointRequest => pb::WebhookEndpoint;
        get_webhook_endpoint: pb::GetWebhookEndpointRequest => pb::WebhookEndpoint;
        list_webhook_endpoints: pb::ListWebhookEndpointsRequest => pb::ListWebhookEndpointsResponse;
        update_webhook_endpoint: pb::UpdateWebhookEndpointRequest => pb::WebhookEndpoint;
        delete_webhook_endpoint: pb::DeleteWebhookEndpointRequest => ();
        rotate_webhook_endpoint: pb::RotateWebhookEndpointRequest => pb::WebhookEndpoint;
        resume_webhook_endpoint: pb::ResumeWebhookEndpointRequest => pb::WebhookEndpoint;
        test_webhook_endpoint: pb::TestWebhookEndpointRequest => pb::TestWebhookEndpointResponse;
        get_webhook_delivery: pb::GetWebhookDeliveryRequest => pb::WebhookDelivery;
        list_webhook_deliveries: pb::ListWebhookDeliveriesRequest => pb::ListWebhookDeliveriesResponse;
        replay_webhook_delivery: pb::ReplayWebhookDeliveryRequest => pb::WebhookDelivery;
    }
}

impl<S: Admin> Admin for Gate<S> {
    type ExportRecordsStream = S::ExportRecordsStream;

    methods! {
        export_records: pb::ExportRecordsRequest => Self::ExportRecordsStream;
    }
}

impl<S: Workers> Workers for Gate<S> {
    type ServeQueueStream = S::ServeQueueStream;

    methods! {
        lease_operations: pb::LeaseOperationsRequest => pb::LeaseOperationsResponse;
        start_leased_operation: pb::StartLeasedOperationRequest => pb::StartLeasedOperationResponse;
        renew_leases: pb::RenewLeasesRequest => pb::RenewLeasesResponse;
        report_progress: pb::ReportProgressRequest => pb::ReportProgressResponse;
        complete_operation: pb::CompleteOperationRequest => pb::CompleteOperationResponse;
        fail_operation: pb::FailOperationRequest => pb::FailOperationResponse;
        release_lease: pb::ReleaseLeaseRequest => pb::ReleaseLeaseResponse;
        suspend_operation: pb::SuspendOperationRequest => pb::SuspendOperationResponse;
    }

    /// Each message is asked about when it arrives, by `stream_reader` in `wire/access.rs`.
    fn serve_queue<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Streaming<pb::ServeQueueRequest>>,
    ) -> Answer<'async_trait, Self::ServeQueueStream>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        self.service.serve_queue(request)
    }
}
