//! A client with the calls that the tests need of each service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use longhaul::proto::google::longrunning::operations_client::OperationsClient;
use longhaul::proto::google::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
    Operation, WaitOperationRequest,
};
use longhaul::proto::google::protobuf::Any;
use longhaul::proto::grpc::health::v1::HealthCheckRequest;
use longhaul::proto::grpc::health::v1::health_check_response::ServingStatus;
use longhaul::proto::grpc::health::v1::health_client::HealthClient;
use longhaul::proto::longhaul::v1::callers_client::CallersClient;
use longhaul::proto::longhaul::v1::operation_record::State;
use longhaul::proto::longhaul::v1::producers_client::ProducersClient;
use longhaul::proto::longhaul::v1::queues_client::QueuesClient;
use longhaul::proto::longhaul::v1::watch_operation_response::Type;
use longhaul::proto::longhaul::v1::workers_client::WorkersClient;
use longhaul::proto::longhaul::v1::{
    Callback, CompleteOperationRequest, FailOperationRequest, GetOperationRecordRequest,
    GetOperationStatsRequest, GetQueueRequest, Lease, LeaseOperationsRequest, OperationOptions,
    OperationRecord, PauseOperationRequest, Progress, Queue, ReportProgressRequest,
    StartOperationRequest, WatchOperationRequest, WatchOperationResponse,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use super::bounds::{eventually, soon};

/// A client; clones share its connection, which reconnects by itself.
#[derive(Clone, Debug)]
pub(super) struct Client {
    channel: Channel,
}

/// A watch that runs. Heartbeats are passed over.
pub(super) struct Watcher {
    events: Streaming<WatchOperationResponse>,
}

pub(super) type Reply<T> = Result<T, Status>;

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        let endpoint = Endpoint::try_from(format!("http://{address}")).expect("an endpoint");
        Self { channel: endpoint.connect_lazy() }
    }

    /// The connection, for services that few tests call.
    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn operations(&self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel.clone())
    }

    fn callers(&self) -> CallersClient<Channel> {
        CallersClient::new(self.channel.clone())
    }

    fn workers(&self) -> WorkersClient<Channel> {
        WorkersClient::new(self.channel.clone())
    }

    /// Starts `operations/{id}`; a repeat is recognised as such.
    pub(super) async fn start(&self, id: &str, queue: &str) -> Reply<Operation> {
        self.start_with(id, queue, "").await
    }

    /// The same, with a type for its metadata and its response.
    pub(super) async fn start_with(&self, id: &str, queue: &str, of: &str) -> Reply<Operation> {
        let request = StartOperationRequest {
            operation_id: id.to_owned(),
            request_id: id.to_owned(),
            queue: queue.to_owned(),
            metadata_type: of.to_owned(),
            response_type: of.to_owned(),
            ..StartOperationRequest::default()
        };
        let mut producers = ProducersClient::new(self.channel.clone());
        Ok(producers.start_operation(request).await?.into_inner())
    }

    /// The same with callbacks, in the queue `callbacks`.
    pub(super) async fn start_told(&self, id: &str, callbacks: Vec<Callback>) -> Reply<Operation> {
        let options = OperationOptions { callbacks, ..OperationOptions::default() };
        let request = StartOperationRequest {
            operation_id: id.to_owned(),
            request_id: id.to_owned(),
            queue: "callbacks".to_owned(),
            options: Some(options),
            ..StartOperationRequest::default()
        };
        let mut producers = ProducersClient::new(self.channel.clone());
        Ok(producers.start_operation(request).await?.into_inner())
    }

    pub(super) async fn get(&self, id: &str) -> Reply<Operation> {
        let request = GetOperationRequest { name: name(id) };
        Ok(self.operations().get_operation(request).await?.into_inner())
    }

    pub(super) async fn record(&self, id: &str) -> Reply<OperationRecord> {
        let request = GetOperationRecordRequest { name: name(id), view: 0 };
        Ok(self.callers().get_operation_record(request).await?.into_inner())
    }

    pub(super) async fn state(&self, id: &str) -> Reply<State> {
        Ok(self.record(id).await?.state())
    }

    /// The counts of all parents, by the number of the state.
    pub(super) async fn counts(&self) -> Reply<BTreeMap<i32, i64>> {
        let request = GetOperationStatsRequest { parent: "-".to_owned() };
        let stats = self.callers().get_operation_stats(request).await?.into_inner();
        let counts = stats.counts.into_iter().filter(|count| count.operations != 0);
        Ok(counts.map(|count| (count.state, count.operations)).collect())
    }

    /// A queue as operators see it.
    pub(super) async fn queue(&self, name: &str) -> Reply<Queue> {
        let request = GetQueueRequest { name: name.to_owned() };
        let mut queues = QueuesClient::new(self.channel.clone());
        Ok(queues.get_queue(request).await?.into_inner())
    }

    /// One page.
    pub(super) async fn list(
        &self,
        page_size: i32,
        page_token: &str,
    ) -> Reply<(Vec<Operation>, String)> {
        let request = ListOperationsRequest {
            page_size,
            page_token: page_token.to_owned(),
            ..ListOperationsRequest::default()
        };
        let page = self.operations().list_operations(request).await?.into_inner();
        Ok((page.operations, page.next_page_token))
    }

    /// All pages; no operation may be on them twice.
    pub(super) async fn list_all(&self) -> Vec<Operation> {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let (page, next) = soon("a page", self.list(100, &token)).await.expect("a page");
            all.extend(page);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        let names: BTreeSet<&str> = all.iter().map(|operation| operation.name.as_str()).collect();
        assert_eq!(names.len(), all.len(), "an operation is listed twice");
        all
    }

    pub(super) async fn wait(&self, id: &str, timeout: Duration) -> Reply<Operation> {
        let request = WaitOperationRequest { name: name(id), timeout: duration(timeout) };
        Ok(self.operations().wait_operation(request).await?.into_inner())
    }

    pub(super) async fn watch(&self, id: &str) -> Reply<Watcher> {
        let request = WatchOperationRequest { name: name(id), ..WatchOperationRequest::default() };
        let events = self.callers().watch_operation(request).await?.into_inner();
        Ok(Watcher { events })
    }

    pub(super) async fn cancel(&self, id: &str) -> Reply<()> {
        let request = CancelOperationRequest { name: name(id) };
        self.operations().cancel_operation(request).await.map(drop)
    }

    pub(super) async fn delete(&self, id: &str) -> Reply<()> {
        let request = DeleteOperationRequest { name: name(id) };
        self.operations().delete_operation(request).await.map(drop)
    }

    pub(super) async fn pause(&self, id: &str) -> Reply<OperationRecord> {
        let request = PauseOperationRequest { name: name(id), ..PauseOperationRequest::default() };
        Ok(self.callers().pause_operation(request).await?.into_inner())
    }

    /// Leases at most `max`, each for `lease`, and waits for the first.
    pub(super) async fn lease(
        &self,
        queue: &str,
        max: i32,
        lease: Duration,
        wait: Duration,
    ) -> Reply<Vec<Lease>> {
        let request = LeaseOperationsRequest {
            queue: queue.to_owned(),
            worker: "test".to_owned(),
            max_operations: max,
            lease_duration: duration(lease),
            wait_duration: duration(wait),
            ..LeaseOperationsRequest::default()
        };
        Ok(self.workers().lease_operations(request).await?.into_inner().leases)
    }

    pub(super) async fn report(&self, lease: &Lease, number: i64) -> Reply<()> {
        let request = ReportProgressRequest {
            name: lease.operation.clone(),
            lease_token: lease.lease_token.clone(),
            progress: Some(Progress { completed_units: number, ..Progress::default() }),
            report_number: number,
            ..ReportProgressRequest::default()
        };
        self.workers().report_progress(request).await.map(drop)
    }

    /// Reports a message with numbers that leave no estimate.
    pub(super) async fn report_saying(&self, lease: &Lease, message: &str) -> Reply<()> {
        let progress = Progress {
            fraction: Some(1e-300),
            completed_units: i64::MAX - 1,
            total_units: i64::MAX,
            unit: message.to_owned(),
            message: message.to_owned(),
            ..Progress::default()
        };
        let request = ReportProgressRequest {
            name: lease.operation.clone(),
            lease_token: lease.lease_token.clone(),
            progress: Some(progress),
            report_number: 1,
            ..ReportProgressRequest::default()
        };
        self.workers().report_progress(request).await.map(drop)
    }

    /// The same with metadata.
    pub(super) async fn report_with(&self, lease: &Lease, number: i64, metadata: Any) -> Reply<()> {
        let request = ReportProgressRequest {
            name: lease.operation.clone(),
            lease_token: lease.lease_token.clone(),
            metadata: Some(metadata),
            report_number: number,
            ..ReportProgressRequest::default()
        };
        self.workers().report_progress(request).await.map(drop)
    }

    /// Fails it for good.
    pub(super) async fn fail(&self, lease: &Lease, message: &str) -> Reply<()> {
        let error = longhaul::proto::google::rpc::Status {
            code: Code::FailedPrecondition as i32,
            message: message.to_owned(),
            details: Vec::new(),
        };
        let request = FailOperationRequest {
            name: lease.operation.clone(),
            lease_token: lease.lease_token.clone(),
            error: Some(error),
            ..FailOperationRequest::default()
        };
        self.workers().fail_operation(request).await.map(drop)
    }

    /// Ends it with that response.
    pub(super) async fn complete_with(&self, lease: &Lease, response: Any) -> Reply<()> {
        let request = CompleteOperationRequest {
            name: lease.operation.clone(),
            lease_token: lease.lease_token.clone(),
            response: Some(response),
            ..CompleteOperationRequest::default()
        };
        self.workers().complete_operation(request).await.map(drop)
    }

    pub(super) async fn complete(&self, lease: &Lease) -> Reply<()> {
        let request = CompleteOperationRequest {
            name: lease.operation.clone(),
            lease_token: lease.lease_token.clone(),
            ..CompleteOperationRequest::default()
        };
        self.workers().complete_operation(request).await.map(drop)
    }

    /// The health of the server.
    pub(super) async fn health(&self) -> Reply<ServingStatus> {
        let mut health = HealthClient::new(self.channel.clone());
        Ok(health.check(HealthCheckRequest::default()).await?.into_inner().status())
    }

    /// Waits until the server reports this health.
    pub(super) async fn becomes(&self, status: ServingStatus) {
        eventually(&format!("health {}", status.as_str_name()), || async {
            (self.health().await.ok()? == status).then_some(())
        })
        .await;
    }
}

impl Watcher {
    /// The next event; `None` after the last.
    pub(super) async fn next(&mut self) -> Reply<Option<WatchOperationResponse>> {
        loop {
            let event = soon("an event of a watch", self.events.message()).await?;
            if event.as_ref().is_none_or(|event| event.r#type() != Type::Heartbeat) {
                return Ok(event);
            }
        }
    }

    /// The next event of that kind; earlier ones are skipped, unless one is the end.
    pub(super) async fn until(&mut self, kind: Type) -> WatchOperationResponse {
        loop {
            let event = self.next().await.expect("a watch that goes on");
            let event = event.unwrap_or_else(|| panic!("the watch ended before {kind:?}"));
            if event.r#type() == kind {
                return event;
            }
        }
    }

    /// The error that ends it.
    pub(super) async fn error(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the watch ended without an error"),
                Err(status) => return status,
            }
        }
    }
}

/// The name of the operation with that id.
pub(super) fn name(id: &str) -> String {
    format!("operations/{id}")
}

/// Whether this is the error for an unavailable store: with a reason for programs, and a retry delay.
pub(super) fn assert_store_unavailable(what: &str, status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{what}: {status:?}");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{what}: {status:?}"));
    assert_eq!(info.reason, "STORE_UNAVAILABLE", "{what}: {status:?}");
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(delay.is_some(), "{what}: no RetryInfo in {status:?}");
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}
