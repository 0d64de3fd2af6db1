//! `google.longrunning.Operations`.

use tonic::{Request, Response};

use super::deadline::longest_wait;
use super::{Reply, caller};
use crate::engine::Engine;
use crate::grpc::status::to_status;
use crate::proto::google::longrunning::operations_server::Operations;
use crate::proto::google::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
    ListOperationsResponse, Operation, WaitOperationRequest,
};
use crate::wire::{fields, operations};

pub(super) struct Service {
    engine: Engine,
}

impl Service {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone() }
    }
}

#[tonic::async_trait]
impl Operations for Service {
    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Reply<ListOperationsResponse> {
        let caller = caller(&request);
        let query = operations::list(request.into_inner()).map_err(to_status)?;
        let page = self.engine.list(&caller, query).await.map_err(to_status)?;
        Ok(Response::new(ListOperationsResponse {
            operations: page.views.iter().map(|view| view.published.clone()).collect(),
            next_page_token: page.next_page_token,
            unreachable: Vec::new(),
        }))
    }

    async fn get_operation(&self, request: Request<GetOperationRequest>) -> Reply<Operation> {
        let name = fields::name(&request.get_ref().name).map_err(to_status)?;
        Ok(Response::new(self.engine.poll(&caller(&request), &name).await.map_err(to_status)?))
    }

    async fn delete_operation(&self, request: Request<DeleteOperationRequest>) -> Reply<()> {
        let name = fields::name(&request.get_ref().name).map_err(to_status)?;
        self.engine.delete(&caller(&request), &name).await.map_err(to_status)?;
        Ok(Response::new(()))
    }

    async fn cancel_operation(&self, request: Request<CancelOperationRequest>) -> Reply<()> {
        let name = fields::name(&request.get_ref().name).map_err(to_status)?;
        self.engine.cancel(&caller(&request), &name).await.map_err(to_status)?;
        Ok(Response::new(()))
    }

    async fn wait_operation(&self, request: Request<WaitOperationRequest>) -> Reply<Operation> {
        let name = fields::name(&request.get_ref().name).map_err(to_status)?;
        let timeout =
            operations::wait(request.get_ref(), longest_wait(&request)).map_err(to_status)?;
        let view = self.engine.wait(&caller(&request), &name, timeout).await.map_err(to_status)?;
        Ok(Response::new(view.published.clone()))
    }
}
