//! Which face answers a request: gRPC what says that it is gRPC, HTTP everything else.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::header::CONTENT_TYPE;
use http::{Request, Response, Version};
use tonic::body::Body;
use tower::{Service, ServiceExt};

use crate::engine::Engine;
use crate::http::methods::Methods;
use crate::http::{self as face, Hosts};

/// Both faces of a server.
#[derive(Clone)]
pub(super) struct Faces<G, H> {
    pub(super) grpc: G,
    pub(super) http: H,
}

impl<G, H> Service<Request<Body>> for Faces<G, H>
where
    G: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    H: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<G::Future, H::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.grpc.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_grpc(&request) {
            Either::Left(self.grpc.call(request))
        } else {
            Either::Right(self.http.call(request))
        }
    }
}

/// Whether a request is one of gRPC.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    request.version() == Version::HTTP_2
        && content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The HTTP face of an engine and its services.
pub(super) fn http<S>(
    engine: &Engine,
    services: S,
    hosts: Hosts,
) -> anyhow::Result<
    impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static,
>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let methods = services
        .map_request(|request: Request<axum::body::Body>| request.map(Body::new))
        .map_response(|response: Response<Body>| response.map(axum::body::Body::new));
    let face = face::Face::new(engine, Methods::of(methods))?.only_for(hosts);
    Ok(face
        .map_request(|request: Request<Body>| request.map(axum::body::Body::new))
        .map_response(|response: Response<axum::body::Body>| response.map(Body::new)))
}
