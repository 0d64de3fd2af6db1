//! Calls about deliveries, and tests of webhook endpoints.

use std::time::Duration;

use tonic::{Request, Status};

use super::connection::{Client, timed};
use super::retry::retried;
use crate::proto::longhaul::v1 as pb;

impl Client {
    /// Sends a test event to a webhook endpoint, and returns what happened. It is sent once, without retries.
    ///
    /// # Errors
    /// The server's error.
    pub async fn test_webhook_endpoint(
        &self,
        name: &str,
    ) -> Result<pb::TestWebhookEndpointResponse, Status> {
        let mut request = Request::new(pb::TestWebhookEndpointRequest { name: name.to_owned() });
        request.set_timeout(TEST_TIMEOUT);
        Ok(self.webhooks().test_webhook_endpoint(request).await?.into_inner())
    }

    /// A delivery to a webhook endpoint or a callback.
    ///
    /// # Errors
    /// The server's error.
    pub async fn get_webhook_delivery(&self, name: &str) -> Result<pb::WebhookDelivery, Status> {
        retried(|| {
            let request = timed(pb::GetWebhookDeliveryRequest { name: name.to_owned() });
            let mut stub = self.webhooks();
            async move { stub.get_webhook_delivery(request).await }
        })
        .await
    }

    /// A page of deliveries, the newest first.
    ///
    /// # Errors
    /// The server's error.
    pub async fn list_webhook_deliveries(
        &self,
        request: pb::ListWebhookDeliveriesRequest,
    ) -> Result<pb::ListWebhookDeliveriesResponse, Status> {
        retried(|| {
            let (mut stub, request) = (self.webhooks(), timed(request.clone()));
            async move { stub.list_webhook_deliveries(request).await }
        })
        .await
    }

    /// Sends a delivery again that has ended. A retry after an outage may find that it was replayed already, which is an error.
    ///
    /// # Errors
    /// The server's error.
    pub async fn replay_webhook_delivery(&self, name: &str) -> Result<pb::WebhookDelivery, Status> {
        retried(|| {
            let request = timed(pb::ReplayWebhookDeliveryRequest { name: name.to_owned() });
            let mut stub = self.webhooks();
            async move { stub.replay_webhook_delivery(request).await }
        })
        .await
    }
}

/// Longer than a server waits for a receiver.
const TEST_TIMEOUT: Duration = Duration::from_mins(1);
