//! A connection to a server, and its calls.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::patience::Patience;
use super::retry::{rest, retried};
use super::watch::Watch;
use crate::address::read_server;
use crate::proto::google::longrunning::operations_client::OperationsClient;
use crate::proto::google::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
    ListOperationsResponse, Operation, WaitOperationRequest,
};
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::admin_client::AdminClient;
use crate::proto::longhaul::v1::callers_client::CallersClient;
use crate::proto::longhaul::v1::producers_client::ProducersClient;

/// A connection to a server. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    endpoint: Option<Endpoint>,
}

/// No server answers.
#[derive(Debug, thiserror::Error)]
#[error("no server answers at {server}: {cause}")]
pub struct ConnectError {
    /// The address.
    pub server: String,
    /// The cause.
    pub cause: String,
}

impl Client {
    /// Connects to `HOST:PORT`; the default port is 50051. See [`read_server`].
    ///
    /// # Errors
    /// If no server answers within ten seconds, or the address is invalid.
    pub async fn connect(server: &str) -> Result<Self, ConnectError> {
        let endpoint = Self::endpoint_at(server)?;
        let channel = endpoint.connect().await.map_err(|error| ConnectError {
            server: server.to_owned(),
            cause: root_cause(&error),
        })?;
        Ok(Self { channel, endpoint: Some(endpoint) })
    }

    /// The same without waiting for a server: connects at the first call.
    ///
    /// # Errors
    /// If the address is invalid.
    pub fn lazy(server: &str) -> Result<Self, ConnectError> {
        let endpoint = Self::endpoint_at(server)?;
        Ok(Self { channel: endpoint.connect_lazy(), endpoint: Some(endpoint) })
    }

    fn endpoint_at(server: &str) -> Result<Endpoint, ConnectError> {
        let fault = |cause: String| ConnectError { server: server.to_owned(), cause };
        let address = read_server(server).map_err(fault)?;
        let endpoint = Endpoint::try_from(format!("http://{address}"));
        let endpoint = endpoint.map_err(|error| fault(error.to_string()))?;
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT))
    }

    /// A client on an existing channel.
    pub const fn new(channel: Channel) -> Self {
        Self { channel, endpoint: None }
    }

    /// The endpoint, to make another connection; `None` for a client on an existing channel.
    pub const fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref()
    }

    /// The channel, for generated stubs.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Starts an operation. Generates a `request_id` if there is none, so that a retry returns the operation that an earlier
    /// try started.
    ///
    /// # Errors
    /// The server's error.
    pub async fn start_operation(
        &self,
        mut request: pb::StartOperationRequest,
    ) -> Result<Operation, Status> {
        if request.request_id.is_empty() {
            request.request_id = uuid::Uuid::new_v4().to_string();
        }
        let stub = ProducersClient::new(self.channel()).max_decoding_message_size(MAX_REPLY);
        retried(|| {
            let (mut stub, request) = (stub.clone(), timed(request.clone()));
            async move { stub.start_operation(request).await }
        })
        .await
    }

    /// The operation now.
    ///
    /// # Errors
    /// The server's error.
    pub async fn get(&self, name: &str) -> Result<Operation, Status> {
        retried(|| {
            let (mut stub, request) =
                (self.operations(), timed(GetOperationRequest { name: name.to_owned() }));
            async move { stub.get_operation(request).await }
        })
        .await
    }

    /// A page of operations.
    ///
    /// # Errors
    /// The server's error.
    pub async fn list(
        &self,
        request: ListOperationsRequest,
    ) -> Result<ListOperationsResponse, Status> {
        retried(|| {
            let (mut stub, request) = (self.operations(), timed(request.clone()));
            async move { stub.list_operations(request).await }
        })
        .await
    }

    /// A page of records.
    ///
    /// # Errors
    /// The server's error.
    pub async fn list_records(
        &self,
        request: pb::ListOperationRecordsRequest,
    ) -> Result<pb::ListOperationRecordsResponse, Status> {
        retried(|| {
            let (mut stub, request) = (self.callers(), timed(request.clone()));
            async move { stub.list_operation_records(request).await }
        })
        .await
    }

    /// How many operations there are below a parent; `-` is every parent.
    ///
    /// # Errors
    /// The server's error.
    pub async fn stats(&self, parent: &str) -> Result<pb::OperationStats, Status> {
        retried(|| {
            let request = pb::GetOperationStatsRequest { parent: parent.to_owned() };
            let (mut stub, request) = (self.callers(), timed(request));
            async move { stub.get_operation_stats(request).await }
        })
        .await
    }

    /// Waits until the operation is done, without a limit, also while the server is unreachable. Bound it with a timeout of
    /// your own.
    ///
    /// # Errors
    /// The server's error, if a retry does not help.
    pub async fn wait(&self, name: &str) -> Result<Operation, Status> {
        let mut patience = Patience::new();
        loop {
            let mut request =
                Request::new(WaitOperationRequest { name: name.to_owned(), timeout: None });
            request.set_timeout(WAIT_TIMEOUT);
            match self.operations().wait_operation(request).await.map(Response::into_inner) {
                Ok(operation) if operation.done => return Ok(operation),
                Ok(_) => patience.reached(),
                Err(status) => match patience.after(&status) {
                    Some(pause) => rest(pause).await,
                    None => return Err(status),
                },
            }
        }
    }

    /// Cancels an operation.
    ///
    /// # Errors
    /// The server's error.
    pub async fn cancel(&self, name: &str) -> Result<(), Status> {
        retried(|| {
            let (mut stub, request) =
                (self.operations(), timed(CancelOperationRequest { name: name.to_owned() }));
            async move { stub.cancel_operation(request).await }
        })
        .await
    }

    /// Deletes an operation.
    ///
    /// # Errors
    /// The server's error.
    pub async fn delete(&self, name: &str) -> Result<(), Status> {
        retried(|| {
            let (mut stub, request) =
                (self.operations(), timed(DeleteOperationRequest { name: name.to_owned() }));
            async move { stub.delete_operation(request).await }
        })
        .await
    }

    /// The record of an operation.
    ///
    /// # Errors
    /// The server's error.
    pub async fn record(
        &self,
        name: &str,
        view: pb::OperationView,
    ) -> Result<pb::OperationRecord, Status> {
        retried(|| {
            let request =
                timed(pb::GetOperationRecordRequest { name: name.to_owned(), view: view.into() });
            let mut stub = self.callers();
            async move { stub.get_operation_record(request).await }
        })
        .await
    }

    /// Pauses an operation.
    ///
    /// # Errors
    /// The server's error.
    pub async fn pause(
        &self,
        request: pb::PauseOperationRequest,
    ) -> Result<pb::OperationRecord, Status> {
        retried(|| {
            let (mut stub, request) = (self.callers(), timed(request.clone()));
            async move { stub.pause_operation(request).await }
        })
        .await
    }

    /// Resumes an operation.
    ///
    /// # Errors
    /// The server's error.
    pub async fn resume(
        &self,
        request: pb::ResumeOperationRequest,
    ) -> Result<pb::OperationRecord, Status> {
        retried(|| {
            let (mut stub, request) = (self.callers(), timed(request.clone()));
            async move { stub.resume_operation(request).await }
        })
        .await
    }

    /// Watches an operation to its end; reconnects when the watch breaks.
    pub fn watch(&self, request: pb::WatchOperationRequest) -> Watch {
        Watch::new(self.callers(), request)
    }

    /// The text of an export of the whole store, in parts.
    ///
    /// # Errors
    /// The server's error.
    pub async fn export_records(&self) -> Result<Streaming<pb::ExportRecordsResponse>, Status> {
        let mut stub = AdminClient::new(self.channel());
        Ok(stub.export_records(pb::ExportRecordsRequest {}).await?.into_inner())
    }

    /// Watches a set of operations, without an end; reconnects when the watch breaks, and goes on with what was missed.
    /// After RESYNC forget all operations: a snapshot follows.
    pub fn watch_operations(
        &self,
        request: pb::WatchOperationsRequest,
    ) -> Watch<pb::WatchOperationsResponse> {
        Watch::new(self.callers(), request)
    }

    fn operations(&self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel()).max_decoding_message_size(MAX_REPLY)
    }

    pub(super) fn callers(&self) -> CallersClient<Channel> {
        CallersClient::new(self.channel()).max_decoding_message_size(MAX_REPLY)
    }
}

/// A request with the timeout from the published service configuration of Operations.
pub(super) fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const WAIT_TIMEOUT: Duration = Duration::from_mins(1);
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Large enough for the largest message.
const WINDOW_BYTES: u32 = 4 << 20;
pub(super) const MAX_REPLY: usize = crate::limits::MAX_MESSAGE_BYTES;
