//! The gRPC face: parse, call, convert, nothing else.

mod admin;
mod call;
mod callers;
pub(crate) mod deadline;
pub mod explain;
mod gate;
mod half_close;
pub mod health;
mod jobs;
mod operations;
mod producers;
mod queues;
mod reflection;
pub mod status;
mod tokens;
mod type_sets;
mod webhooks;
mod workers;

use tonic::service::Routes;

use crate::engine::Engine;
use crate::limits::MAX_MESSAGE_BYTES;
use crate::proto::google::longrunning::operations_server::{Operations, OperationsServer};
use crate::proto::grpc::health::v1::health_server::HealthServer;
use crate::proto::longhaul::v1::admin_server::AdminServer;
use crate::proto::longhaul::v1::callers_server::CallersServer;
use crate::proto::longhaul::v1::jobs_server::JobsServer;
use crate::proto::longhaul::v1::producers_server::ProducersServer;
use crate::proto::longhaul::v1::queues_server::QueuesServer;
use crate::proto::longhaul::v1::tokens_server::TokensServer;
use crate::proto::longhaul::v1::type_sets_server::TypeSetsServer;
use crate::proto::longhaul::v1::webhooks_server::WebhooksServer;
use crate::proto::longhaul::v1::workers_server::WorkersServer;

use self::gate::Gate;
use self::half_close::Noting;
use self::health::Health;
use self::reflection::{Reflection, V1, V1Alpha};

/// All services of an engine, for any tonic server.
///
/// # Errors
/// If reflection cannot serve the built-in definitions, which a test rules out.
pub fn routes(engine: &Engine, health: Health) -> Result<Routes, tonic_reflection::server::Error> {
    let mut routes = Routes::builder();
    routes
        .add_service(operations(engine))
        .add_service(
            ProducersServer::new(Gate::new(producers::Service::new(engine), engine))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            CallersServer::new(Gate::new(callers::Service::new(engine), engine))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            JobsServer::new(Gate::new(jobs::Service::new(engine), engine))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(Noting(
            WorkersServer::new(Gate::new(workers::Service::new(engine), engine))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        ))
        .add_service(QueuesServer::new(Gate::new(queues::Service::new(engine), engine)))
        .add_service(AdminServer::new(Gate::new(admin::Service::new(engine), engine)))
        .add_service(
            TypeSetsServer::new(Gate::new(type_sets::Service::new(engine), engine))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            TokensServer::new(Gate::new(tokens::Service::new(engine), engine))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(WebhooksServer::new(Gate::new(webhooks::Service::new(engine), engine)))
        .add_service(HealthServer::new(health))
        .add_service(Reflection::<V1>::new(engine)?)
        .add_service(Reflection::<V1Alpha>::new(engine)?);
    Ok(routes.routes())
}

/// `google.longrunning.Operations` alone.
pub fn operations(engine: &Engine) -> OperationsServer<impl Operations + use<>> {
    OperationsServer::new(Gate::new(operations::Service::new(engine), engine))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// Whether the method at this path only reads, and what may be large: operations with all their payloads, or descriptors.
pub(crate) fn is_read(path: &str) -> bool {
    READS.iter().any(|method| path.ends_with(method))
}

const READS: [&str; 8] = [
    "/GetOperation",
    "/GetOperationRecord",
    "/ListOperations",
    "/ListOperationRecords",
    "/GetExecution",
    "/GetJob",
    "/GetTypeSet",
    "/ListTypeSets",
];
