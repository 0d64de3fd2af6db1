//! Which face answers a request: gRPC and gRPC-Web what says that it is that, HTTP everything else. Browsers may call the
//! latter two, if the page is allowed to (CORS).

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, Ready, ready};
use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CONTENT_LOCATION, CONTENT_TYPE, ETAG, HeaderName, LINK,
    LOCATION, ORIGIN, RETRY_AFTER,
};
use http::{HeaderValue, Method, Request, Response, Version};
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, ServiceExt};
use tower_http::cors::{AllowHeaders, AllowOrigin, Cors, CorsLayer, Vary};

use crate::engine::Engine;
use crate::http::methods::Methods;
use crate::http::{self as face, Hosts};

/// All faces of a server.
#[derive(Clone)]
pub(super) struct Faces<G, B> {
    pub(super) grpc: G,
    pub(super) others: B,
}

/// The faces that browsers can call.
#[derive(Clone)]
pub(super) struct BrowserFaces<W, H> {
    web: W,
    http: H,
    hosts: Hosts,
}

/// Lets pages of other origins read the answers, where they may.
#[derive(Clone)]
pub(super) struct Pages<S> {
    shared: Cors<S>,
    plain: S,
}

/// The protocol that a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Grpc,
    GrpcWeb,
    Http,
}

impl Spoken {
    pub(super) fn by<B>(request: &Request<B>) -> Self {
        let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        match content_type {
            Some(kind) if kind.starts_with(GRPC_WEB) => {
                let is_known = WEB_KINDS.iter().any(|known| kind[GRPC_WEB.len()..] == **known);
                let is_call = is_known && request.method() == Method::POST;
                if is_call { Self::GrpcWeb } else { Self::Http }
            }
            Some(kind) if kind.starts_with(GRPC) && request.version() == Version::HTTP_2 => {
                Self::Grpc
            }
            _ => Self::Http,
        }
    }
}

impl<G, B> Service<Request<Body>> for Faces<G, B>
where
    G: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    B: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<G::Future, B::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.grpc.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if Spoken::by(&request) == Spoken::Grpc {
            Either::Left(self.grpc.call(request))
        } else {
            Either::Right(self.others.call(request))
        }
    }
}

impl<W, H> Service<Request<Body>> for BrowserFaces<W, H>
where
    W: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    H: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Either<W::Future, Ready<Result<Response<Body>, Infallible>>>, H::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.web.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if Spoken::by(&request) != Spoken::GrpcWeb {
            return Either::Right(self.http.call(request));
        }
        let (head, body) = request.into_parts();
        Either::Left(match self.hosts.refusal(&head) {
            Some(refusal) => Either::Right(ready(Ok(refusal.map(Body::new)))),
            None => Either::Left(self.web.call(Request::from_parts(head, body))),
        })
    }
}

impl<S> Pages<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    fn around(plain: S, hosts: Hosts) -> Self {
        let may_read = move |origin: &HeaderValue| {
            origin.to_str().is_ok_and(|origin| hosts.allows_page(origin))
        };
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(move |origin, _| may_read(origin)))
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(EXPOSED)
            .max_age(MAX_AGE)
            // The HTTP face says it, to those who name no origin too.
            .vary(Vary::list([]));
        Self { shared: layer.layer(plain.clone()), plain }
    }
}

impl<S> Service<Request<Body>> for Pages<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<<Cors<S> as Service<Request<Body>>>::Future, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.plain.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let headers = request.headers();
        let is_preflight = headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if headers.contains_key(ORIGIN) && (is_preflight || request.method() != Method::OPTIONS) {
            Either::Left(self.shared.call(request))
        } else {
            Either::Right(self.plain.call(request))
        }
    }
}

/// What browsers can call: `http`, and `services` over gRPC-Web.
pub(super) fn for_browsers<S, H>(
    services: S,
    http: H,
    hosts: Hosts,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    H: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    H: Clone + Send + 'static,
    H::Future: Send,
{
    let web = GrpcWebLayer::new().layer(services);
    Pages::around(BrowserFaces { web, http, hosts: hosts.clone() }, hosts)
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
    let face = face::Face::new(engine, Methods::of(methods), hosts)?;
    Ok(face
        .map_request(|request: Request<Body>| request.map(axum::body::Body::new))
        .map_response(|response: Response<axum::body::Body>| response.map(Body::new)))
}

const GRPC: &[u8] = b"application/grpc";
const GRPC_WEB: &[u8] = b"application/grpc-web";
/// What may follow: binary and base64, of protobuf.
const WEB_KINDS: [&[u8]; 4] = [b"", b"+proto", b"-text", b"-text+proto"];
/// Headers of answers that scripts may read, beside those that they always may.
const EXPOSED: [HeaderName; 16] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("longhaul-index"),
    HeaderName::from_static("longhaul-replayed"),
    HeaderName::from_static("operation-id"),
    HeaderName::from_static("operation-location"),
    HeaderName::from_static("preference-applied"),
    HeaderName::from_static("repeatability-result"),
    HeaderName::from_static("x-request-id"),
    ALLOW,
    CONTENT_LOCATION,
    ETAG,
    LINK,
    LOCATION,
    RETRY_AFTER,
];
/// How long a browser may remember what a page may do; none of them remembers it longer.
const MAX_AGE: Duration = Duration::from_hours(2);
