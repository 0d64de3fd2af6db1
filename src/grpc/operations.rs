//! `google.longrunning.Operations`.

use tonic::{Request, Response};

use super::call::{Reply, caller, read_from};
use super::deadline::time_left;
use crate::engine::Engine;
use crate::proto::google::longrunning::operations_server::Operations;
use crate::proto::google::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
    ListOperationsResponse, Operation, WaitOperationRequest,
};
use crate::wire::{fields, operations, views};

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
        let request = request.into_inner();
        let types = operations::types(&self.engine, &request.name, &request.filter).await?;
        let query = operations::list(request, &types)?;
        let page = self.engine.list(&caller, query).await?;
        let index = page.index;
        Ok(read_from(index, operations::list_reply(page)))
    }

    async fn get_operation(&self, request: Request<GetOperationRequest>) -> Reply<Operation> {
        let caller = caller(&request);
        let name = fields::name(&request.get_ref().name)?;
        Ok(Response::new(self.engine.poll(&caller, &name).await?))
    }

    async fn delete_operation(&self, request: Request<DeleteOperationRequest>) -> Reply<()> {
        let caller = caller(&request);
        let name = fields::name(&request.get_ref().name)?;
        self.engine.delete(&caller, &name).await?;
        Ok(Response::new(()))
    }

    async fn cancel_operation(&self, request: Request<CancelOperationRequest>) -> Reply<()> {
        let caller = caller(&request);
        let name = fields::name(&request.get_ref().name)?;
        self.engine.cancel(&caller, &name).await?;
        Ok(Response::new(()))
    }

    async fn wait_operation(&self, request: Request<WaitOperationRequest>) -> Reply<Operation> {
        let caller = caller(&request);
        let name = fields::name(&request.get_ref().name)?;
        let timeout = operations::wait(request.get_ref(), time_left(&request))?;
        let view = self.engine.wait(&caller, &name, timeout).await?;
        Ok(Response::new(views::published(view)))
    }
}
