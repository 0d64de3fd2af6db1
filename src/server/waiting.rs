//! The face of a server that still waits for its store: health, and UNAVAILABLE for everything else.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Layer, Service};

use super::faces::Spoken;
use super::probes::{Probed, Probes};
use crate::engine::Error;
use crate::grpc::health::Health;
use crate::grpc::status::to_status;
use crate::proto::grpc::health::v1::health_server::HealthServer;

/// What answers in the meantime.
pub(crate) fn face(
    health: &Health,
) -> impl Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let routes = Routes::new(HealthServer::new(health.clone())).prepare();
    Probes::of(Waiting).around(OnlyHealth.layer(routes), Body::new)
}

struct Waiting;

impl Probed for Waiting {
    fn unready(&self) -> Option<String> {
        Some("waiting for the store".to_owned())
    }

    fn remark(&self) -> Option<String> {
        None
    }

    fn metrics(&self) -> Option<String> {
        None
    }
}

#[derive(Clone, Copy)]
struct OnlyHealth;

#[derive(Clone)]
struct HealthGate<S> {
    inner: S,
}

impl<S> Layer<S> for OnlyHealth {
    type Service = HealthGate<S>;

    fn layer(&self, inner: S) -> HealthGate<S> {
        HealthGate { inner }
    }
}

impl<S> Service<http::Request<Body>> for HealthGate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path().starts_with("/grpc.health.v1.Health/") {
            return Either::Left(self.inner.call(request));
        }
        let error = Error::waiting_for_store();
        let answer = if Spoken::by(&request) == Spoken::Grpc {
            to_status(error).into_http()
        } else {
            crate::http::refusal(*error).map(Body::new)
        };
        Either::Right(ready(Ok(answer)))
    }
}
