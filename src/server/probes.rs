//! Plain HTTP on the port of the API: `/healthz`, `/readyz` and `/metrics`.
//!
//! Handled before the HTTP face, over HTTP/1.1 and HTTP/2.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tower::Service;

/// A server that can be probed.
pub(crate) trait Probed: Send + Sync + 'static {
    /// Why it is not ready, if it is not.
    fn unready(&self) -> Option<String>;
    /// A warning for operators although it is ready.
    fn remark(&self) -> Option<String>;
    /// Its metrics in the OpenMetrics text format; `None` before the store is open.
    fn metrics(&self) -> Option<String>;
}

/// Answers probes of one server.
#[derive(Clone)]
pub(crate) struct Probes(Arc<dyn Probed>);

/// A service that leaves probes to [`Probes`].
#[derive(Clone)]
pub(crate) struct Answering<S, F> {
    inner: S,
    probes: Probes,
    body: F,
}

impl Probes {
    /// The probes of that server.
    pub(crate) fn of(server: impl Probed) -> Self {
        Self(Arc::new(server))
    }

    /// Answers probes in front of `inner`, whose bodies `body` makes from text.
    pub(crate) fn around<S, C, F: Fn(String) -> C>(self, inner: S, body: F) -> Answering<S, F> {
        Answering { inner, probes: self, body }
    }

    /// The response to a probe; `None` for other requests.
    fn answer(&self, method: &Method, path: &str) -> Option<Response<String>> {
        if !matches!(path, HEALTH | READINESS | METRICS) {
            return None;
        }
        if method != Method::GET && method != Method::HEAD {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "this can only be read\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(refusal);
        }
        let answer = match path {
            METRICS => self.metrics(),
            READINESS => self.readiness(),
            _ => plain(StatusCode::OK, "ok\n"),
        };
        Some(if method == Method::HEAD { answer.map(|_| String::new()) } else { answer })
    }

    fn readiness(&self) -> Response<String> {
        match self.0.unready() {
            None => plain(
                StatusCode::OK,
                self.0
                    .remark()
                    .map_or_else(|| "ok\n".to_owned(), |remark| format!("ok\n{remark}\n")),
            ),
            Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        }
    }

    fn metrics(&self) -> Response<String> {
        match self.0.metrics() {
            Some(text) => answer(StatusCode::OK, OPEN_METRICS, text),
            None => self.readiness(),
        }
    }
}

impl<S, B, C, F> Service<Request<B>> for Answering<S, F>
where
    F: Fn(String) -> C,
    S: Service<Request<B>, Response = Response<C>>,
{
    type Response = Response<C>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        match self.probes.answer(request.method(), path) {
            Some(answer) => Either::Right(ready(Ok(answer.map(&self.body)))),
            None => Either::Left(self.inner.call(request)),
        }
    }
}

fn plain(status: StatusCode, text: impl Into<String>) -> Response<String> {
    answer(status, PLAIN, text.into())
}

fn answer(status: StatusCode, content_type: &'static str, text: String) -> Response<String> {
    let mut answer = Response::new(text);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

const HEALTH: &str = "/healthz";
const READINESS: &str = "/readyz";
const METRICS: &str = "/metrics";
const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
