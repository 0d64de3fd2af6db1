//! `longhaul.v1.Webhooks`.

use tonic::{Request, Response};

use super::call::{Reply, caller};
use crate::engine::Engine;
use crate::proto::longhaul::v1::webhooks_server::Webhooks;
use crate::proto::longhaul::v1::{
    CreateWebhookEndpointRequest, DeleteWebhookEndpointRequest, GetWebhookDeliveryRequest,
    GetWebhookEndpointRequest, ListWebhookDeliveriesRequest, ListWebhookDeliveriesResponse,
    ListWebhookEndpointsRequest, ListWebhookEndpointsResponse, ReplayWebhookDeliveryRequest,
    ResumeWebhookEndpointRequest, RotateWebhookEndpointRequest, TestWebhookEndpointRequest,
    TestWebhookEndpointResponse, UpdateWebhookEndpointRequest, WebhookDelivery, WebhookEndpoint,
};
use crate::wire::{deliveries, webhooks};

pub(super) struct Service {
    engine: Engine,
}

impl Service {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone() }
    }
}

#[tonic::async_trait]
impl Webhooks for Service {
    async fn create_webhook_endpoint(
        &self,
        request: Request<CreateWebhookEndpointRequest>,
    ) -> Reply<WebhookEndpoint> {
        let caller = caller(&request);
        let new = webhooks::create(&self.engine, request.into_inner()).await?;
        let validated = new.validate_only;
        let created = self.engine.create_endpoint(&caller, new).await?;
        Ok(Response::new(webhooks::created(&created, validated)))
    }

    async fn get_webhook_endpoint(
        &self,
        request: Request<GetWebhookEndpointRequest>,
    ) -> Reply<WebhookEndpoint> {
        let caller = caller(&request);
        let name = webhooks::get(request.get_ref())?;
        let found = self.engine.get_endpoint(&caller, &name).await?;
        Ok(Response::new(webhooks::shown(&found)))
    }

    async fn list_webhook_endpoints(
        &self,
        request: Request<ListWebhookEndpointsRequest>,
    ) -> Reply<ListWebhookEndpointsResponse> {
        let caller = caller(&request);
        let query = webhooks::list(request.into_inner())?;
        let page = self.engine.list_endpoints(&caller, query).await?;
        Ok(Response::new(webhooks::list_reply(page)))
    }

    async fn update_webhook_endpoint(
        &self,
        request: Request<UpdateWebhookEndpointRequest>,
    ) -> Reply<WebhookEndpoint> {
        let caller = caller(&request);
        let (target, changes) = webhooks::update(&self.engine, request.into_inner()).await?;
        let change = |former: &_| changes.apply(former);
        let changed = self.engine.update_endpoint(&caller, &target, &change).await?;
        Ok(Response::new(webhooks::shown(&changed)))
    }

    async fn delete_webhook_endpoint(
        &self,
        request: Request<DeleteWebhookEndpointRequest>,
    ) -> Reply<()> {
        let caller = caller(&request);
        let (target, allow_missing) = webhooks::delete(request.into_inner())?;
        self.engine.delete_endpoint(&caller, &target, allow_missing).await?;
        Ok(Response::new(()))
    }

    async fn rotate_webhook_endpoint(
        &self,
        request: Request<RotateWebhookEndpointRequest>,
    ) -> Reply<WebhookEndpoint> {
        let caller = caller(&request);
        let rotation = webhooks::rotate(request.into_inner())?;
        let rotated = self.engine.rotate_endpoint(&caller, &rotation).await?;
        Ok(Response::new(webhooks::rotated(&rotated, &rotation.request_id)))
    }

    async fn resume_webhook_endpoint(
        &self,
        request: Request<ResumeWebhookEndpointRequest>,
    ) -> Reply<WebhookEndpoint> {
        let caller = caller(&request);
        let target = webhooks::resume(request.into_inner())?;
        let resumed = self.engine.resume_endpoint(&caller, &target).await?;
        Ok(Response::new(webhooks::shown(&resumed)))
    }

    async fn test_webhook_endpoint(
        &self,
        request: Request<TestWebhookEndpointRequest>,
    ) -> Reply<TestWebhookEndpointResponse> {
        let caller = caller(&request);
        let name = webhooks::test(request.get_ref())?;
        let trial = self.engine.test_endpoint(&caller, &name).await?;
        Ok(Response::new(deliveries::tested(&trial)))
    }

    async fn get_webhook_delivery(
        &self,
        request: Request<GetWebhookDeliveryRequest>,
    ) -> Reply<WebhookDelivery> {
        let caller = caller(&request);
        let name = deliveries::name(&request.get_ref().name)?;
        let found = self.engine.get_delivery(&caller, &name).await?;
        Ok(Response::new(deliveries::shown(&name.to_string(), &found)))
    }

    async fn list_webhook_deliveries(
        &self,
        request: Request<ListWebhookDeliveriesRequest>,
    ) -> Reply<ListWebhookDeliveriesResponse> {
        let caller = caller(&request);
        let query = deliveries::list(request.into_inner())?;
        let page = self.engine.list_deliveries(&caller, &query).await?;
        Ok(Response::new(deliveries::list_reply(page)))
    }

    async fn replay_webhook_delivery(
        &self,
        request: Request<ReplayWebhookDeliveryRequest>,
    ) -> Reply<WebhookDelivery> {
        let caller = caller(&request);
        let name = deliveries::name(&request.get_ref().name)?;
        let replayed = self.engine.replay_delivery(&caller, &name).await?;
        Ok(Response::new(deliveries::shown(&name.to_string(), &replayed)))
    }
}
