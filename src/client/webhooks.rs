//! Calls about webhook endpoints.

use tonic::Status;

use super::channel::AuthorizedChannel;
use super::connection::{Client, MAX_REPLY, timed};
use super::retry::retried;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::webhooks_client::WebhooksClient;

impl Client {
    /// Creates a webhook endpoint. Generates a `request_id` if there is none, so that a retry returns the endpoint that an
    /// earlier try created, with its secret.
    ///
    /// # Errors
    /// The server's error.
    pub async fn create_webhook_endpoint(
        &self,
        mut request: pb::CreateWebhookEndpointRequest,
    ) -> Result<pb::WebhookEndpoint, Status> {
        if request.request_id.is_empty() {
            request.request_id = uuid::Uuid::new_v4().to_string();
        }
        retried(|| {
            let (mut stub, request) = (self.webhooks(), timed(request.clone()));
            async move { stub.create_webhook_endpoint(request).await }
        })
        .await
    }

    /// A webhook endpoint.
    ///
    /// # Errors
    /// The server's error.
    pub async fn get_webhook_endpoint(&self, name: &str) -> Result<pb::WebhookEndpoint, Status> {
        retried(|| {
            let request = timed(pb::GetWebhookEndpointRequest { name: name.to_owned() });
            let mut stub = self.webhooks();
            async move { stub.get_webhook_endpoint(request).await }
        })
        .await
    }

    /// A page of webhook endpoints.
    ///
    /// # Errors
    /// The server's error.
    pub async fn list_webhook_endpoints(
        &self,
        request: pb::ListWebhookEndpointsRequest,
    ) -> Result<pb::ListWebhookEndpointsResponse, Status> {
        retried(|| {
            let (mut stub, request) = (self.webhooks(), timed(request.clone()));
            async move { stub.list_webhook_endpoints(request).await }
        })
        .await
    }

    /// Changes a webhook endpoint.
    ///
    /// # Errors
    /// The server's error.
    pub async fn update_webhook_endpoint(
        &self,
        request: pb::UpdateWebhookEndpointRequest,
    ) -> Result<pb::WebhookEndpoint, Status> {
        retried(|| {
            let (mut stub, request) = (self.webhooks(), timed(request.clone()));
            async move { stub.update_webhook_endpoint(request).await }
        })
        .await
    }

    /// Deletes a webhook endpoint.
    ///
    /// # Errors
    /// The server's error.
    pub async fn delete_webhook_endpoint(
        &self,
        request: pb::DeleteWebhookEndpointRequest,
    ) -> Result<(), Status> {
        retried(|| {
            let (mut stub, request) = (self.webhooks(), timed(request.clone()));
            async move { stub.delete_webhook_endpoint(request).await }
        })
        .await
    }

    /// Gives a webhook endpoint a new secret. Generates a `request_id` if there is none, so that a retry returns the secret that
    /// an earlier try made.
    ///
    /// # Errors
    /// The server's error.
    pub async fn rotate_webhook_endpoint(
        &self,
        mut request: pb::RotateWebhookEndpointRequest,
    ) -> Result<pb::WebhookEndpoint, Status> {
        if request.request_id.is_empty() {
            request.request_id = uuid::Uuid::new_v4().to_string();
        }
        retried(|| {
            let (mut stub, request) = (self.webhooks(), timed(request.clone()));
            async move { stub.rotate_webhook_endpoint(request).await }
        })
        .await
    }

    /// Resumes a webhook endpoint.
    ///
    /// # Errors
    /// The server's error.
    pub async fn resume_webhook_endpoint(
        &self,
        request: pb::ResumeWebhookEndpointRequest,
    ) -> Result<pb::WebhookEndpoint, Status> {
        retried(|| {
            let (mut stub, request) = (self.webhooks(), timed(request.clone()));
            async move { stub.resume_webhook_endpoint(request).await }
        })
        .await
    }

    pub(super) fn webhooks(&self) -> WebhooksClient<AuthorizedChannel> {
        WebhooksClient::new(self.channel()).max_decoding_message_size(MAX_REPLY)
    }
}
