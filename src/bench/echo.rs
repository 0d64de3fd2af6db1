//! A server that only answers: the cost of tonic itself.

use std::net::SocketAddr;

use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::client::payload;
use crate::proto::google::longrunning::operations_server::{Operations, OperationsServer};
use crate::proto::google::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
    ListOperationsResponse, Operation, WaitOperationRequest,
};
use crate::proto::longhaul::v1::producers_server::{Producers, ProducersServer};
use crate::proto::longhaul::v1::{
    BatchStartOperationsRequest, BatchStartOperationsResponse, StartOperationRequest,
};
use crate::server::connections::{self, Connections};
use crate::server::cores::Cores;

struct Echo;

/// On the same threads as `longhaul serve` by default, so that the difference is longhaul's own work.
pub(super) fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let connections = Connections::new(connections::Options::default());
        let routes = Routes::new(OperationsServer::new(Echo))
            .add_service(ProducersServer::new(Echo))
            .prepare();
        let served_by = connections.clone();
        let mut cores = Cores::start(count, move |accepted| {
            let (routes, served_by) = (routes.clone(), served_by.clone());
            async move { served_by.serve(accepted, routes).await }
        })?;
        cores.accept(listener, &connections).await
    })
}

fn answer(name: String) -> Response<Operation> {
    Response::new(Operation { name, metadata: Some(payload()), ..Operation::default() })
}

fn nothing<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("an echo answers GetOperation and StartOperation"))
}

#[tonic::async_trait]
impl Operations for Echo {
    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        Ok(answer(request.into_inner().name))
    }

    async fn list_operations(
        &self,
        _request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        nothing()
    }

    async fn delete_operation(
        &self,
        _request: Request<DeleteOperationRequest>,
    ) -> Result<Response<()>, Status> {
        nothing()
    }

    async fn cancel_operation(
        &self,
        _request: Request<CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        nothing()
    }

    async fn wait_operation(
        &self,
        _request: Request<WaitOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        nothing()
    }
}

#[tonic::async_trait]
impl Producers for Echo {
    async fn start_operation(
        &self,
        request: Request<StartOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let request = request.into_inner();
        let name = format!("{}/operations/019200000-0000-7000-8000-000000000000", request.parent);
        Ok(answer(name))
    }

    async fn batch_start_operations(
        &self,
        _request: Request<BatchStartOperationsRequest>,
    ) -> Result<Response<BatchStartOperationsResponse>, Status> {
        nothing()
    }
}
