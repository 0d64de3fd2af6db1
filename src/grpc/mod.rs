//! The gRPC face: parse, call, convert, nothing else.

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
pub mod status;
mod workers;

use tonic::service::Routes;

use crate::engine::Engine;
use crate::limits::MAX_MESSAGE_BYTES;
use crate::proto::DESCRIPTORS;
use crate::proto::google::longrunning::operations_server::{Operations, OperationsServer};
use crate::proto::grpc::health::v1::health_server::HealthServer;
use crate::proto::longhaul::v1::callers_server::CallersServer;
use crate::proto::longhaul::v1::jobs_server::JobsServer;
use crate::proto::longhaul::v1::producers_server::ProducersServer;
use crate::proto::longhaul::v1::workers_server::WorkersServer;
use crate::types::Registry;

use self::gate::Gate;
use self::half_close::Noting;
use self::health::Health;

/// All services of an engine, for any tonic server.
///
/// # Errors
/// If reflection cannot serve the built-in definitions, which a test rules out.
pub fn routes(engine: &Engine, health: Health) -> Result<Routes, tonic_reflection::server::Error> {
    let added = engine.types().added_set();
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
        .add_service(HealthServer::new(health))
        .add_service(reflection(&added, "grpc.reflection.v1.ServerReflection").build_v1()?)
        .add_service(
            reflection(&added, "grpc.reflection.v1alpha.ServerReflection").build_v1alpha()?,
        );
    Ok(routes.routes())
}

/// Reflection on our definitions and on those that were added, each as it came. Services of added definitions are described,
/// but not listed: they are served elsewhere.
fn reflection<'a>(added: &'a [u8], own: &str) -> tonic_reflection::server::Builder<'a> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(added)
        .with_service_name(own);
    Registry::builtin_services()
        .into_iter()
        .fold(builder, tonic_reflection::server::Builder::with_service_name)
}

/// `google.longrunning.Operations` alone.
pub fn operations(engine: &Engine) -> OperationsServer<impl Operations + use<>> {
    OperationsServer::new(Gate::new(operations::Service::new(engine), engine))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// Whether the method at this path only reads operations, with all their payloads.
pub(crate) fn is_read(path: &str) -> bool {
    READS.iter().any(|method| path.ends_with(method))
}

const READS: [&str; 4] =
    ["/GetOperation", "/GetOperationRecord", "/ListOperations", "/ListOperationRecords"];
