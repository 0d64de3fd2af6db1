//! The gRPC face: parse, call, convert, nothing else.

mod callers;
pub(crate) mod deadline;
pub mod explain;
mod half_close;
pub mod health;
mod operations;
mod producers;
pub mod status;
mod workers;

use tonic::service::Routes;
use tonic::{Request, Status};

use crate::engine::{Caller, Engine};
use crate::limits::MAX_MESSAGE_BYTES;
use crate::proto::DESCRIPTORS;
use crate::proto::google::longrunning::operations_server::{Operations, OperationsServer};
use crate::proto::grpc::health::v1::health_server::HealthServer;
use crate::proto::longhaul::v1::callers_server::CallersServer;
use crate::proto::longhaul::v1::producers_server::ProducersServer;
use crate::proto::longhaul::v1::workers_server::WorkersServer;

use self::half_close::Noting;
use self::health::Health;

/// The services on an engine, ready to be mounted in any tonic server.
///
/// # Errors
/// Where the built-in definitions cannot be served by reflection, which a test rules out.
pub fn routes(engine: &Engine, health: Health) -> Result<Routes, tonic_reflection::server::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
    };
    let mut routes = Routes::builder();
    routes
        .add_service(operations(engine))
        .add_service(
            ProducersServer::new(producers::Service::new(engine))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            CallersServer::new(callers::Service::new(engine))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(Noting(
            WorkersServer::new(workers::Service::new(engine))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        ))
        .add_service(HealthServer::new(health))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok(routes.routes())
}

/// `google.longrunning.Operations` alone.
pub fn operations(engine: &Engine) -> OperationsServer<impl Operations + use<>> {
    OperationsServer::new(operations::Service::new(engine))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// Who asks: nobody in particular, until there is authentication.
fn caller<T>(_request: &Request<T>) -> Caller {
    Caller::default()
}

/// The text of a header, if it is one.
fn header<'a, T>(request: &'a Request<T>, name: &str) -> Option<&'a str> {
    request.metadata().get(name).and_then(|value| value.to_str().ok())
}

type Reply<T> = Result<tonic::Response<T>, Status>;
