//! Refusals over HTTP: `{"error": {...}}`, and the same within problem details (RFC 9457) for those who ask for them.

use axum::body::Body;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use prost::Message;
use serde_json::{Value, json};

use super::accept::{Accept, JSON, PROBLEM};
use super::documents::JSON_API;
use crate::engine::{Error, Reason};
use crate::proto::google::rpc::{RetryInfo, Status};
use crate::types::Registry;
use crate::wire::status::{reason, status_to_http, to_message};

/// Why a request is not granted.
#[derive(Debug)]
pub(super) struct HttpFailure {
    /// The error, as over gRPC.
    pub(super) status: Box<Status>,
    /// The status of HTTP where it does not follow from that.
    http: Option<StatusCode>,
    /// Headers of the answer.
    headers: HeaderMap,
    /// The types of the error's details, if they are of a user's.
    types: Option<Box<Registry>>,
}

impl From<Status> for HttpFailure {
    fn from(status: Status) -> Self {
        Self { status: Box::new(status), http: None, headers: HeaderMap::new(), types: None }
    }
}

impl From<Box<Error>> for HttpFailure {
    fn from(error: Box<Error>) -> Self {
        to_message(&error).into()
    }
}

impl HttpFailure {
    /// A refusal for a reason that only HTTP has, with its own status.
    pub(super) fn of_http(http: StatusCode, reason: Reason, message: impl Into<String>) -> Self {
        Self::from(Error::new(reason, message)).with_status(http)
    }

    /// The error that an operation ended with, as an answer; its details are of these types.
    pub(super) fn of_operation(http: StatusCode, status: &Status, types: Registry) -> Self {
        let failure = Self::from(status.clone()).with_status(http);
        Self { types: Some(Box::new(types)), ..failure }
    }

    /// The same with that status of HTTP.
    pub(super) fn with_status(self, http: StatusCode) -> Self {
        Self { http: Some(http), ..self }
    }

    /// The same with that header.
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// An etag came by `If-Match`, so a mismatch has the status that goes with it.
    pub(super) fn in_precondition(self) -> Self {
        if reason(&self.status) == Reason::EtagMismatch.as_str() {
            return self.with_status(StatusCode::PRECONDITION_FAILED);
        }
        self
    }

    /// There is nothing at that path.
    pub(super) fn no_route(path: &str) -> Self {
        let message = format!("there is nothing at {path}; /docs lists what there is");
        Self::of_http(StatusCode::NOT_FOUND, Reason::NotSupported, message)
    }

    /// The path is there by other methods.
    pub(super) fn wrong_method(method: &Method, allowed: &[Method]) -> Self {
        let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("the method {method} is not allowed here; {allowed} is");
        let mut failure =
            Self::of_http(StatusCode::METHOD_NOT_ALLOWED, Reason::NotSupported, message);
        if let Ok(allowed) = allowed.parse() {
            failure.headers.insert(ALLOW, allowed);
        }
        failure
    }

    /// The answer.
    pub(super) fn respond(self, accept: &Accept, path: &str, types: &Registry) -> Response<Body> {
        let types = self.types.as_deref().unwrap_or(types);
        let (derived, mut body) = status_to_http(&self.status, types);
        let derived = StatusCode::from_u16(derived).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let status = self.http.unwrap_or(derived);
        body["error"]["code"] = status.as_u16().into();
        let content_type = if accept.names(JSON_API) {
            body = error_objects(status, body);
            JSON_API
        } else if accept.names(PROBLEM) {
            body = problem(status, path, body);
            PROBLEM
        } else {
            JSON
        };
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.extend(self.headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_delay(&self.status) {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Problem details that carry the error too, so that one body serves both kinds of clients.
fn problem(status: StatusCode, path: &str, body: Value) -> Value {
    let reason = body["error"]["details"][0]["reason"].as_str().unwrap_or("UNKNOWN");
    json!({
        "type": format!("https://longhaul.dev/reasons/{reason}"),
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": body["error"]["message"],
        "instance": path,
        "error": body["error"],
    })
}

/// JSON:API's error objects; other members must be within `meta` there.
fn error_objects(status: StatusCode, body: Value) -> Value {
    let error = &body["error"];
    let mut object = json!({
        "status": status.as_str(),
        "code": error["details"][0]["reason"].as_str().or(error["status"].as_str()),
        "title": status.canonical_reason().unwrap_or("Error"),
        "detail": error["message"],
    });
    if let Some(field) = error["details"][0]["metadata"]["field"].as_str() {
        let pointer = format!("/data/attributes/{}", field.replace('.', "/"));
        object["source"] = json!({ "pointer": pointer });
    }
    json!({ "errors": [object], "meta": { "error": error } })
}

/// Whole seconds to wait before asking again, if the error says so.
fn retry_delay(status: &Status) -> Option<u64> {
    let info = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&info.value[..]).ok()?.retry_delay?;
    let begun = u64::from(delay.nanos > 0);
    Some((u64::try_from(delay.seconds).ok()? + begun).max(1))
}
