//! Calls about queues.

use tonic::Status;
use tonic::transport::Channel;

use super::connection::{Client, MAX_REPLY, timed};
use super::retry::retried;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::queues_client::QueuesClient;

impl Client {
    /// A queue now.
    ///
    /// # Errors
    /// The server's error.
    pub async fn queue(&self, name: &str) -> Result<pb::Queue, Status> {
        retried(|| {
            let request = timed(pb::GetQueueRequest { name: name.to_owned() });
            let mut stub = self.queues();
            async move { stub.get_queue(request).await }
        })
        .await
    }

    /// A page of queues.
    ///
    /// # Errors
    /// The server's error.
    pub async fn list_queues(
        &self,
        request: pb::ListQueuesRequest,
    ) -> Result<pb::ListQueuesResponse, Status> {
        retried(|| {
            let (mut stub, request) = (self.queues(), timed(request.clone()));
            async move { stub.list_queues(request).await }
        })
        .await
    }

    /// Changes the limits of a queue. With an etag a retry may find the change of an earlier try, and fails with ABORTED.
    ///
    /// # Errors
    /// The server's error.
    pub async fn update_queue(&self, request: pb::UpdateQueueRequest) -> Result<pb::Queue, Status> {
        retried(|| {
            let (mut stub, request) = (self.queues(), timed(request.clone()));
            async move { stub.update_queue(request).await }
        })
        .await
    }

    /// Pauses a queue: no operation is leased from it until it is resumed.
    ///
    /// # Errors
    /// The server's error.
    pub async fn pause_queue(&self, request: pb::PauseQueueRequest) -> Result<pb::Queue, Status> {
        retried(|| {
            let (mut stub, request) = (self.queues(), timed(request.clone()));
            async move { stub.pause_queue(request).await }
        })
        .await
    }

    /// Resumes a queue.
    ///
    /// # Errors
    /// The server's error.
    pub async fn resume_queue(&self, request: pb::ResumeQueueRequest) -> Result<pb::Queue, Status> {
        retried(|| {
            let (mut stub, request) = (self.queues(), timed(request.clone()));
            async move { stub.resume_queue(request).await }
        })
        .await
    }

    /// A page of workers.
    ///
    /// # Errors
    /// The server's error.
    pub async fn list_workers(
        &self,
        request: pb::ListWorkersRequest,
    ) -> Result<pb::ListWorkersResponse, Status> {
        retried(|| {
            let (mut stub, request) = (self.queues(), timed(request.clone()));
            async move { stub.list_workers(request).await }
        })
        .await
    }

    /// Asks the workers of a name to take no more operations of a queue.
    ///
    /// # Errors
    /// The server's error.
    pub async fn drain_worker(
        &self,
        request: pb::DrainWorkerRequest,
    ) -> Result<pb::DrainWorkerResponse, Status> {
        retried(|| {
            let (mut stub, request) = (self.queues(), timed(request.clone()));
            async move { stub.drain_worker(request).await }
        })
        .await
    }

    /// Ends the drain of the workers of a name.
    ///
    /// # Errors
    /// The server's error.
    pub async fn resume_worker(
        &self,
        request: pb::ResumeWorkerRequest,
    ) -> Result<pb::ResumeWorkerResponse, Status> {
        retried(|| {
            let (mut stub, request) = (self.queues(), timed(request.clone()));
            async move { stub.resume_worker(request).await }
        })
        .await
    }

    fn queues(&self) -> QueuesClient<Channel> {
        QueuesClient::new(self.channel()).max_decoding_message_size(MAX_REPLY)
    }
}
