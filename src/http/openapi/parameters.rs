//! Headers of requests, as parameters of the document.

use serde_json::{Map, Value, json};

use crate::http::routes::{Route, RouteKind};
use crate::limits::MAX_HTTP_WAIT;

/// References to the headers that a route looks at.
pub(super) fn of(route: &Route) -> Vec<Value> {
    let own: &[&str] = match route.answer {
        RouteKind::Start => &[
            "Prefer",
            "Idempotency-Key",
            "Operation-Id",
            "Repeatability-Request-ID",
            "Repeatability-First-Sent",
            "Traceparent",
        ],
        RouteKind::Poll | RouteKind::Result | RouteKind::Monitor => &["Prefer", "If-None-Match"],
        RouteKind::Cancel => &["Prefer", "If-Match"],
        RouteKind::Delete => &["If-Match"],
        RouteKind::Plain if route.rpc.method.is_server_streaming() => &["Last-Event-ID"],
        RouteKind::Plain if takes_etag(route) => &["If-Match"],
        RouteKind::Plain | RouteKind::Wait => &[],
    };
    let all = own.iter().chain(&["X-Request-ID"]);
    all.map(|name| json!({ "$ref": format!("#/components/parameters/{name}") })).collect()
}

/// Whether `If-Match` is a field of the request.
pub(super) fn takes_etag(route: &Route) -> bool {
    route.rpc.method.input().get_field_by_name("etag").is_some()
}

/// Each of them.
pub(super) fn components() -> Map<String, Value> {
    let text = json!({ "type": "string" });
    let most = MAX_HTTP_WAIT.as_secs();
    let wait = format!(
        "Preferences (RFC 7240): `wait=N` in seconds, at most {most}; `respond-async`; `location=monitor` or `location=result`; `redirect`. Others are ignored; Preference-Applied says which were honoured."
    );
    let tags = json!({ "type": "string", "examples": ["\"1f\"", "*"] });
    let id = json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" });
    let all = [
        ("Prefer", &*wait, json!({ "type": "string", "examples": ["wait=10", "respond-async"] })),
        (
            "Idempotency-Key",
            "Makes the start safe to repeat: the same key with the same request returns the same operation. With or without quotes. The same as `requestId`.",
            json!({ "type": "string", "pattern": "^\"[A-Za-z0-9._~-]{1,128}\"$" }),
        ),
        (
            "Operation-Id",
            "Id of the operation, the same as `operationId`. Also makes the start safe to repeat.",
            json!({ "type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" }),
        ),
        (
            "Repeatability-Request-ID",
            "Makes the start safe to repeat, together with Repeatability-First-Sent.",
            id.clone(),
        ),
        (
            "Repeatability-First-Sent",
            "When the request was first sent, as an HTTP date.",
            text.clone(),
        ),
        (
            "Traceparent",
            "W3C trace context, which is stored with the operation; ignored if it is malformed.",
            text.clone(),
        ),
        (
            "If-None-Match",
            "Entity tags that the client has: 304 if one is the newest.",
            tags.clone(),
        ),
        ("If-Match", "Entity tags of which one must be the newest: 412 otherwise.", tags),
        ("Last-Event-ID", "The last event that the client has received.", text),
        ("X-Request-ID", "Id of the request, which the response repeats.", id),
    ];
    let parameter = |(name, description, schema): (&str, &str, Value)| {
        let value =
            json!({ "name": name, "in": "header", "description": description, "schema": schema });
        (name.to_owned(), value)
    };
    all.into_iter().map(parameter).collect()
}
