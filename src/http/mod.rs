//! The HTTP face: JSON over HTTP/1.1 and HTTP/2, for clients without gRPC.
//!
//! A request finds its method in the route table (`routes`), which is read from the definitions. Path, query and body become
//! its message (`query`, `wire/transcode`), the method is called in this process (`methods`), and what it answers is written as JSON. So
//! each method has one implementation for both faces, and a new one is served as soon as its definition says how.

mod accept;
mod body;
mod documents;
mod error;
mod etag;
mod hosts;
mod idempotency;
pub(crate) mod methods;
mod openapi;
mod origins;
mod pages;
mod prefer;
mod query;
mod reference;
mod retry_after;
mod routes;
mod shared;
mod status;
mod stream;
mod strict;
mod template;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use prost_reflect::DynamicMessage;
use tower::Service;

use self::accept::{Accept, EVENTS, JSON, PROBLEM};
use self::error::HttpFailure;
use self::methods::{MethodCall, Methods};
use self::pages::ServerPage;
use self::routes::{BadTable, Lost, RouteKind, Routes};
use self::shared::{Asked, FaceParts, RequestMessage, not_acceptable, types_elsewhere};
use self::stream::{Form, ShownAt};
use crate::engine::{Engine, Error, Reason};
use crate::limits::MAX_HTTP_WAIT;
use crate::types::Registry;
use crate::wire::transcode::write::MessageJson;

pub(crate) use self::hosts::Hosts;
pub use self::origins::Origins;

/// The face of one server. Clones are the same face.
#[derive(Clone)]
pub(crate) struct Face {
    shared: Arc<FaceParts>,
    hosts: Hosts,
}

impl Face {
    /// A face for that engine, the methods that are served on it, and requests for these hosts.
    ///
    /// # Errors
    /// Where the built-in definitions cannot be routed, which a test rules out.
    pub(crate) fn new(engine: &Engine, methods: Methods, hosts: Hosts) -> Result<Self, BadTable> {
        let routes = Routes::of_services()?;
        let shared = FaceParts { engine: engine.clone(), methods, routes };
        Ok(Self { shared: Arc::new(shared), hosts })
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        let accept = Accept::of(&head.headers);
        let path = head.uri.path().to_owned();
        let is_head = head.method == Method::HEAD;
        let id = request_id(&mut head.headers);
        let granted = match self.hosts.check(&head) {
            Ok(()) => self.shared.grant(head, body, &accept).await,
            Err(refusal) => Err(refusal),
        };
        let own = self.shared.engine.types();
        let mut response = granted.unwrap_or_else(|failure| failure.respond(&accept, &path, own));
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id);
        headers.insert(NO_SNIFF, HeaderValue::from_static("nosniff"));
        headers.append(VARY, HeaderValue::from_static("accept, prefer, x-goog-api-client, origin"));
        if is_head { response.map(|_| Body::empty()) } else { response }
    }
}

impl FaceParts {
    async fn grant(
        &self,
        head: Parts,
        body: Body,
        accept: &Accept,
    ) -> Result<Response<Body>, HttpFailure> {
        let (method, path) = (method(&head), head.uri.path().to_owned());
        let (route, fields) = match self.routes.find(&method, &path) {
            Ok(found) => found,
            Err(lost) => match ServerPage::at(&path) {
                Some(page) => return page.answer(&method, &head, accept),
                None => return Err(no_route(&lost, &method, &path)),
            },
        };
        tracing::trace!(route = route.pattern, "routed");
        let asked = Asked { route, fields, given: Vec::new(), head, body, accept };
        // Boxed, so that each request moves and keeps the future of its own route, and not the largest of all.
        let answer: BoxFuture<'_, _> = match route.answer {
            _ if route.rpc.method.is_server_streaming() => Box::pin(self.stream(asked)),
            RouteKind::Plain | RouteKind::Wait => Box::pin(self.call(asked)),
            RouteKind::Start => Box::pin(self.start(asked)),
            RouteKind::Poll => Box::pin(self.poll(asked)),
            RouteKind::Result => Box::pin(self.result(asked)),
            RouteKind::Monitor => Box::pin(self.monitor(asked)),
            RouteKind::Cancel => Box::pin(self.cancel(asked)),
            RouteKind::Delete => Box::pin(self.delete(asked)),
        };
        answer.await
    }

    /// Calls a method that answers once.
    async fn call(&self, asked: Asked<'_>) -> Result<Response<Body>, HttpFailure> {
        if asked.accept.choose(&[JSON]).or(asked.accept.choose(&[PROBLEM])).is_none() {
            return Err(not_acceptable(JSON));
        }
        let rpc = Arc::clone(&asked.route.rpc);
        let strict = strict::is_strict(&asked.head.headers);
        let cacheable = asked.route.method == Method::GET;
        let waits = asked.route.answer == RouteKind::Wait;
        let condition = condition(&asked)?;
        let is_conditional = condition.is_some();
        let mut asked = asked;
        asked.given.extend(condition);
        let (mut call, place, types) = self.transcode(asked).await?;
        if waits {
            call.headers.insert("grpc-timeout", longest_wait());
        }
        let reply = self.methods.call(call).await;
        let reply = reply
            .map_err(|failure| if is_conditional { failure.in_precondition() } else { failure })?;
        let message = DynamicMessage::decode(rpc.method.output(), reply.message);
        let mut message = message.map_err(|error| Error::internal(&error))?;
        let parents = types_elsewhere(&self.engine, &message, &place).await;
        if strict {
            strict::adapt(&mut message, &types, &parents)?;
        }
        let json = MessageJson::new(&message, &types).with_parents(&parents);
        let json = serde_json::to_vec(&json);
        let mut response =
            Response::new(Body::from(json.map_err(|error| Error::internal(&error))?));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        let caching = if cacheable { "no-cache" } else { "no-store" };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
        pass_on(&reply.headers, headers);
        Ok(response)
    }

    /// Calls a method that answers with many messages.
    async fn stream(&self, asked: Asked<'_>) -> Result<Response<Body>, HttpFailure> {
        let query = asked.head.uri.query().unwrap_or_default();
        let form = form(asked.accept, query).ok_or_else(|| not_acceptable(EVENTS))?;
        let last = asked.head.headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let last = last.filter(|id| form == Form::Events && !id.is_empty()).map(str::to_owned);
        if last.as_deref().is_some_and(stream::has_seen_the_end) {
            return Ok(stream::nothing_more());
        }
        let rpc = Arc::clone(&asked.route.rpc);
        let mut asked = asked;
        if let Some(last) = last.filter(|_| rpc.method.input().get_field_by_name(RESUME).is_some())
        {
            // What the client has seen last counts, whatever the address says that it began with.
            asked.fields.push((RESUME, last));
            asked.head.uri = without_resume_token(&asked.head.uri)?;
        }
        let (call, place, types) = self.transcode(asked).await?;
        let (_, messages) = self.methods.stream(call).await?;
        let shown = ShownAt { engine: self.engine.clone(), place, types };
        Ok(stream::respond(form, messages, rpc.method.output(), shown))
    }

    /// Makes a call of path, query and body; with the place that it is about, and the types of that.
    async fn transcode(
        &self,
        mut asked: Asked<'_>,
    ) -> Result<(MethodCall, String, Registry), HttpFailure> {
        let path = asked.route.rpc.path.clone();
        let headers = asked.head.headers.clone();
        let extensions = std::mem::take(&mut asked.head.extensions);
        let RequestMessage { bytes: message, types, place } = self.message(asked).await?;
        Ok((MethodCall { path, headers, extensions, message }, place, types))
    }
}

impl Service<Request<Body>> for Face {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let face = self.clone();
        Box::pin(async move { Ok(face.answer(request).await) })
    }
}

/// The answer of a server that cannot answer now.
pub(crate) fn refusal(error: Error) -> Response<Body> {
    HttpFailure::from(Box::new(error)).respond(&Accept::default(), "/", &Registry::builtin())
}

/// Whether a request only reads operations, with all their payloads, and at once.
pub(crate) fn is_read<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    request.method() == Method::GET
        && path.starts_with("/v1/")
        && !path.ends_with(":watch")
        && !request.headers().contains_key("prefer")
}

/// The etag that `If-Match` asks for, for methods whose requests have a field for it.
fn condition(asked: &Asked<'_>) -> Result<Option<(&'static str, String)>, HttpFailure> {
    let has_field = asked.route.rpc.method.input().get_field_by_name(ETAG).is_some();
    let mut tags = if has_field { etag::required(&asked.head.headers) } else { Vec::new() };
    if tags.len() > 1 {
        let message = "If-Match has several entity tags; this method takes one";
        return Err(Error::field(ETAG, message).into());
    }
    Ok(tags.pop().map(|tag| (ETAG, tag)))
}

/// Java's clients send PATCH as POST, since their connections know no PATCH.
fn method(head: &Parts) -> Method {
    let patch = head.headers.get("x-http-method-override").is_some_and(|method| method == "PATCH");
    if patch && head.method == Method::POST { Method::PATCH } else { head.method.clone() }
}

/// The id that the client gave its request, or a new one. Methods get it as metadata.
fn request_id(headers: &mut HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()));
    if let Some(id) = given {
        return id.clone();
    }
    let id = uuid::Uuid::new_v4().to_string();
    let id = HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("none"));
    headers.insert(REQUEST_ID, id.clone());
    id
}

fn no_route(lost: &Lost, method: &Method, path: &str) -> HttpFailure {
    match lost {
        Lost::Nothing => HttpFailure::no_route(path),
        Lost::Methods(allowed) => HttpFailure::wrong_method(method, allowed),
        Lost::Grpc => HttpFailure::of_http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Reason::NotSupported,
            format!(
                "{path} is served over gRPC, that is by POST over HTTP/2 with the content type application/grpc, and to browsers with application/grpc-web"
            ),
        ),
        Lost::NoText => Error::new(Reason::InvalidName, template::NoText.to_string()).into(),
    }
}

/// The longest wait over HTTP, in the form of the `grpc-timeout` header.
fn longest_wait() -> HeaderValue {
    let seconds = format!("{}S", MAX_HTTP_WAIT.as_secs());
    HeaderValue::try_from(seconds).unwrap_or_else(|_| HeaderValue::from_static("60S"))
}

/// Server-sent events are for those who ask for them by name.
fn form(accept: &Accept, query: &str) -> Option<Form> {
    let alt = query::parameter(query, &["alt", "$alt"]);
    if accept.names(EVENTS) && accept.choose(&[EVENTS, JSON]) == Some(EVENTS)
        || alt.as_deref() == Some("sse")
    {
        return Some(Form::Events);
    }
    accept.choose(&[JSON]).map(|_| Form::Array)
}

fn without_resume_token(uri: &http::Uri) -> Result<http::Uri, HttpFailure> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        if key != RESUME && key != "resumeToken" {
            query.append_pair(&key, &value);
        }
    }
    let path_and_query = format!("{}?{}", uri.path(), query.finish());
    Ok(path_and_query.parse().map_err(|error: http::uri::InvalidUri| Error::internal(&error))?)
}

/// Our own metadata of an answer becomes headers.
fn pass_on(metadata: &HeaderMap, headers: &mut HeaderMap) {
    for (name, value) in metadata {
        if name.as_str().starts_with("longhaul-") {
            headers.insert(name, value.clone());
        }
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NO_SNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
const MAX_REQUEST_ID: usize = 128;
/// The field of changes that says what they are made for.
const ETAG: &str = "etag";
/// The field of watches that says where to go on.
const RESUME: &str = "resume_token";
