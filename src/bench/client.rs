//! The calls that are measured.

use std::time::Duration;

use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::client::{AuthorizedChannel, ServerTarget};
use crate::proto::google::longrunning::operations_client::OperationsClient;
use crate::proto::google::longrunning::{
    GetOperationRequest, ListOperationsRequest, ListOperationsResponse, Operation,
    WaitOperationRequest,
};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::batch_start_operations_response::result::Outcome;
use crate::proto::longhaul::v1::callers_client::CallersClient;
use crate::proto::longhaul::v1::jobs_client::JobsClient;
use crate::proto::longhaul::v1::producers_client::ProducersClient;
use crate::proto::longhaul::v1::workers_client::WorkersClient;

/// One connection with all services on it.
#[derive(Clone)]
pub(super) struct Client {
    operations: OperationsClient<AuthorizedChannel>,
    producers: ProducersClient<AuthorizedChannel>,
    callers: CallersClient<AuthorizedChannel>,
    workers: WorkersClient<AuthorizedChannel>,
    jobs: JobsClient<AuthorizedChannel>,
}

/// The parent and the queue of a run.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) parent: String,
    pub(super) queue: String,
}

impl Client {
    pub(super) async fn connect(server: &ServerTarget) -> anyhow::Result<Self> {
        let endpoint = server.endpoint()?;
        let channel = endpoint
            // Many watchers share a connection.
            .initial_connection_window_size(WINDOW)
            .connect()
            .await?;
        let channel = AuthorizedChannel::new(channel, server.token().cloned());
        Ok(Self {
            operations: OperationsClient::new(channel.clone()),
            producers: ProducersClient::new(channel.clone()),
            callers: CallersClient::new(channel.clone()),
            workers: WorkersClient::new(channel.clone()),
            jobs: JobsClient::new(channel),
        })
    }

    pub(super) async fn get(&self, name: &str) -> Result<Operation, Status> {
        let request = GetOperationRequest { name: name.to_owned() };
        Ok(self.operations.clone().get_operation(request).await?.into_inner())
    }

    pub(super) async fn list(
        &self,
        parent: &str,
        filter: &str,
        token: &str,
    ) -> Result<ListOperationsResponse, Status> {
        let request = ListOperationsRequest {
            name: parent.to_owned(),
            filter: filter.to_owned(),
            page_token: token.to_owned(),
            ..ListOperationsRequest::default()
        };
        Ok(self.operations.clone().list_operations(request).await?.into_inner())
    }

    pub(super) async fn wait(&self, name: &str) -> Result<Operation, Status> {
        let timeout = prost_types::Duration::try_from(LONG).ok();
        let request = WaitOperationRequest { name: name.to_owned(), timeout };
        Ok(self.operations.clone().wait_operation(request).await?.into_inner())
    }

    /// Starts an operation with a request of 200 bytes, and returns its name.
    pub(super) async fn start(&self, place: &Destination) -> Result<String, Status> {
        Ok(self.producers.clone().start_operation(start(place)).await?.into_inner().name)
    }

    /// Starts an operation with a concurrency key.
    pub(super) async fn start_keyed(&self, place: &Destination, key: &str) -> Result<(), Status> {
        let mut request = start(place);
        let concurrency =
            pb::Concurrency { key: key.to_owned(), limit: KEY_LIMIT, ..Default::default() };
        request.options.get_or_insert_default().concurrency = Some(concurrency);
        self.producers.clone().start_operation(request).await.map(drop)
    }

    /// Starts an operation that calls each of these at its end.
    pub(super) async fn start_with_callbacks(
        &self,
        place: &Destination,
        urls: &[String],
    ) -> Result<(), Status> {
        let mut request = start(place);
        let callback = |url: &String| pb::Callback { uri: url.clone(), ..pb::Callback::default() };
        request.options.get_or_insert_default().callbacks = urls.iter().map(callback).collect();
        self.producers.clone().start_operation(request).await.map(drop)
    }

    /// Starts an operation with that id.
    pub(super) async fn start_as(
        &self,
        place: &Destination,
        operation_id: String,
    ) -> Result<(), Status> {
        let request = pb::StartOperationRequest { operation_id, ..start(place) };
        self.producers.clone().start_operation(request).await.map(drop)
    }

    /// Starts many in one call.
    pub(super) async fn start_many(&self, place: &Destination, count: usize) -> Result<(), Status> {
        let requests = (0..count).map(|_| start(place)).collect();
        let request = pb::BatchStartOperationsRequest { requests, ..Default::default() };
        let reply = self.producers.clone().batch_start_operations(request).await?.into_inner();
        let results = reply.results.iter();
        let started =
            results.filter(|result| matches!(result.outcome, Some(Outcome::Operation(_)))).count();
        if started == count { Ok(()) } else { Err(Status::data_loss("a start was refused")) }
    }

    pub(super) async fn serve_queue(
        &self,
        requests: ReceiverStream<pb::ServeQueueRequest>,
    ) -> Result<tonic::Streaming<pb::ServeQueueResponse>, Status> {
        Ok(self.workers.clone().serve_queue(requests).await?.into_inner())
    }

    pub(super) async fn lease(
        &self,
        place: &Destination,
        most: usize,
    ) -> Result<Vec<pb::Lease>, Status> {
        let request = pb::LeaseOperationsRequest {
            queue: place.queue.clone(),
            worker: "bench".to_owned(),
            max_operations: i32::try_from(most).unwrap_or(i32::MAX),
            wait_duration: prost_types::Duration::try_from(LEASE_WAIT).ok(),
            ..pb::LeaseOperationsRequest::default()
        };
        Ok(self.workers.clone().lease_operations(request).await?.into_inner().leases)
    }

    pub(super) async fn report(&self, lease: &pb::Lease, number: i64) -> Result<(), Status> {
        self.workers.clone().report_progress(report(lease, number)).await?;
        Ok(())
    }

    pub(super) async fn complete(&self, lease: &pb::Lease) -> Result<(), Status> {
        self.workers.clone().complete_operation(completion(lease)).await?;
        Ok(())
    }

    pub(super) async fn create_job(&self, request: pb::CreateJobRequest) -> Result<(), Status> {
        self.jobs.clone().create_job(request).await.map(drop)
    }

    pub(super) async fn delete_job(&self, name: String) -> Result<(), Status> {
        let request = pb::DeleteJobRequest { name, force: true, ..Default::default() };
        self.jobs.clone().delete_job(request).await.map(drop)
    }

    /// A page of the records of a parent.
    pub(super) async fn records(
        &self,
        parent: &str,
        token: &str,
    ) -> Result<pb::ListOperationRecordsResponse, Status> {
        let request = pb::ListOperationRecordsRequest {
            parent: parent.to_owned(),
            page_size: 1_000,
            page_token: token.to_owned(),
            ..Default::default()
        };
        Ok(self.callers.clone().list_operation_records(request).await?.into_inner())
    }

    pub(super) async fn watch(
        &self,
        name: &str,
    ) -> Result<tonic::Streaming<pb::WatchOperationResponse>, Status> {
        let request = pb::WatchOperationRequest {
            name: name.to_owned(),
            ..pb::WatchOperationRequest::default()
        };
        Ok(self.callers.clone().watch_operation(request).await?.into_inner())
    }

    /// Watches the operations of a parent.
    pub(super) async fn watch_set(
        &self,
        parent: &str,
    ) -> Result<tonic::Streaming<pb::WatchOperationsResponse>, Status> {
        let parent = parent.to_owned();
        let request = pb::WatchOperationsRequest { parent, ..Default::default() };
        Ok(self.callers.clone().watch_operations(request).await?.into_inner())
    }
}

fn start(place: &Destination) -> pb::StartOperationRequest {
    pb::StartOperationRequest {
        parent: place.parent.clone(),
        queue: place.queue.clone(),
        method: "bench".to_owned(),
        request: Some(payload()),
        options: Some(pb::OperationOptions {
            expiration: Some(pb::operation_options::Expiration::Ttl(SHORTEST_TTL)),
            ..pb::OperationOptions::default()
        }),
        ..pb::StartOperationRequest::default()
    }
}

/// A report with this number.
pub(super) fn report(lease: &pb::Lease, number: i64) -> pb::ReportProgressRequest {
    let progress = pb::Progress { completed_units: number, ..pb::Progress::default() };
    pb::ReportProgressRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        progress: Some(progress),
        report_number: number,
        ..pb::ReportProgressRequest::default()
    }
}

/// A completion with a response of 200 bytes.
pub(super) fn completion(lease: &pb::Lease) -> pb::CompleteOperationRequest {
    pb::CompleteOperationRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        response: Some(payload()),
        ..pb::CompleteOperationRequest::default()
    }
}

/// 200 bytes.
pub(super) fn payload() -> Any {
    Any {
        type_url: "type.googleapis.com/google.protobuf.BytesValue".to_owned(),
        value: vec![b'x'; 200].into(),
    }
}

/// How many operations with a concurrency key run at the same time.
const KEY_LIMIT: i32 = 100;
const WINDOW: u32 = 8 << 20;
/// Longer than any measurement takes to end an operation.
const LONG: Duration = Duration::from_mins(1);
/// How late an idle worker may notice the end of a measurement.
const LEASE_WAIT: Duration = Duration::from_secs(1);
/// The shortest that the server accepts.
const SHORTEST_TTL: prost_types::Duration = prost_types::Duration { seconds: 3_600, nanos: 0 };
