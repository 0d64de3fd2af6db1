//! The responses of the document: each status that a route can answer with, its headers and its content.

use http::{Method, StatusCode};
use prost_reflect::{Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::addresses::Address;
use super::parameters::takes_etag;
use super::schemas::{Schemas, reference};
use crate::http::accept::{EVENTS, JSON, PROBLEM};
use crate::http::documents::{Document, JSON_API};
use crate::http::routes::{Body, Route, RouteKind};

/// The responses of a route at an address.
pub(super) fn of(route: &Route, address: &Address, schemas: &mut Schemas) -> Value {
    let mut responses = granted(route, schemas);
    if route.answer == RouteKind::Start {
        responses["202"]["links"] = links(address);
    }
    for status in refusals(route, &address.text) {
        let name = phrase(status);
        let response = json!({ "$ref": format!("#/components/responses/{name}") });
        responses.insert(status.as_str().to_owned(), response);
    }
    responses.into()
}

fn granted(route: &Route, schemas: &mut Schemas) -> Map<String, Value> {
    let output = schemas.of_message(&route.rpc.method.output());
    let operation = documents(&output);
    let mut responses = Map::new();
    let mut put = |status: &str, about: &str, headers: &[&str], content: Value| {
        let mut response = json!({ "description": about, "headers": references(headers) });
        if !content.is_null() {
            response["content"] = content;
        }
        responses.insert(status.to_owned(), response);
    };
    match route.answer {
        RouteKind::Start => {
            put("202", "It has started.", STARTED, operation.clone());
            put("200", "It is done, or the request was only validated.", STARTED, operation);
        }
        RouteKind::Poll => {
            put("200", "The operation, in any state.", SHOWN, operation);
            put(
                "303",
                "It is done: the created resource, for JSON:API with `Prefer: redirect`.",
                MOVED,
                Value::Null,
            );
        }
        RouteKind::Result => {
            put("200", "The response.", SHOWN, json!({ JSON: { "schema": {} } }));
            put("202", "It is not done.", WAITING, operation);
        }
        RouteKind::Monitor => {
            put("200", "The status.", SHOWN, operation.clone());
            put("201", "It is done.", CREATED, operation);
            put("303", "It is done, with `Prefer: redirect`.", MOVED, Value::Null);
        }
        RouteKind::Cancel => {
            let mut content = operation;
            // Google's clients want an empty object.
            content[JSON]["schema"] = json!({ "type": "object" });
            put("200", "Cancellation was requested.", SHOWN, content);
        }
        RouteKind::Plain if route.rpc.method.is_server_streaming() => {
            let content = messages(&output);
            put("200", "The messages.", &["Cache-Control", "X-Accel-Buffering"], content);
            put("204", "The client has already received the last event.", &[], Value::Null);
        }
        RouteKind::Delete | RouteKind::Wait | RouteKind::Plain => {
            let headers: &[&str] = &["Cache-Control", "Longhaul-Index", "Longhaul-Replayed"];
            put("200", "Done.", headers, json!({ JSON: { "schema": output } }));
        }
    }
    if matches!(route.answer, RouteKind::Poll | RouteKind::Result | RouteKind::Monitor) {
        let headers = ["ETag", "Cache-Control", "Retry-After"];
        put("304", "Nothing that the client does not have.", &headers, Value::Null);
    }
    responses
}

/// What a client can do with the operation that it has started.
fn links(address: &Address) -> Value {
    let in_path = address.names().map(|name| {
        let given: Value = format!("$request.path.{name}").into();
        (name.to_owned(), given)
    });
    let mut parameters: Map<String, Value> = in_path.collect();
    parameters.insert("operation".to_owned(), "$response.header.Operation-Id".into());
    let link = |name: &&str| {
        let id = format!("{name}{}", address.suffix);
        ((*name).to_owned(), json!({ "operationId": id, "parameters": parameters }))
    };
    LINKS.iter().map(link).collect::<Map<_, _>>().into()
}

/// The content of a stream: events, or an array.
fn messages(message: &Value) -> Value {
    let data = json!({ "type": "string", "contentMediaType": JSON, "contentSchema": message });
    let events = json!({
        "description": "The form of each event. Its id is the resume token of the message.",
        "type": "object",
        "required": ["data"],
        "properties": { "id": { "type": "string" }, "data": data },
    });
    let array = json!({ "type": "array", "items": message });
    json!({ EVENTS: { "schema": events }, JSON: { "schema": array } })
}

/// The statuses of refusals.
fn refusals(route: &Route, address: &str) -> Vec<StatusCode> {
    let mut all = vec![
        StatusCode::BAD_REQUEST,
        StatusCode::FORBIDDEN,
        StatusCode::NOT_ACCEPTABLE,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    let input = route.rpc.method.input();
    if address.contains('{') {
        all.push(StatusCode::NOT_FOUND);
    }
    if route.body != Body::None {
        all.extend([
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ]);
    }
    if route.method != Method::GET {
        all.push(StatusCode::CONFLICT);
    }
    if has_request_id(&input) || route.answer == RouteKind::Result {
        all.push(StatusCode::UNPROCESSABLE_ENTITY);
    }
    match route.answer {
        RouteKind::Result => all.push(StatusCode::GONE),
        RouteKind::Cancel | RouteKind::Delete => all.push(StatusCode::PRECONDITION_FAILED),
        _ if takes_etag(route) => all.push(StatusCode::PRECONDITION_FAILED),
        _ => {}
    }
    all
}

fn has_request_id(message: &MessageDescriptor) -> bool {
    message.fields().any(|field| match field.kind() {
        Kind::Message(inner) if inner.package_name() == message.package_name() => {
            inner.get_field_by_name("request_id").is_some()
        }
        _ => field.name() == "request_id",
    })
}

/// An operation in each of its documents.
fn documents(operation: &Value) -> Value {
    json!({
        JSON: { "schema": operation },
        Document::Status.media_type(): { "schema": reference("StatusDocument") },
        Document::Azure.media_type(): { "schema": reference("AzureDocument") },
        JSON_API: { "schema": reference("JsonApiDocument") },
    })
}

/// The refusals that routes refer to.
pub(super) fn errors() -> Map<String, Value> {
    let content = json!({
        JSON: { "schema": reference("Error") },
        PROBLEM: { "schema": reference("Problem") },
        JSON_API: { "schema": reference("JsonApiErrors") },
    });
    let all = ERRORS.iter().map(|(status, about, headers)| {
        let headers = references(&[headers, &["Cache-Control"][..]].concat());
        let value = json!({ "description": about, "headers": headers, "content": content });
        (phrase(*status), value)
    });
    all.collect()
}

/// The name of a refusal in the document.
fn phrase(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or("Error").replace(' ', "")
}

fn references(names: &[&str]) -> Value {
    let all = names.iter().chain(&["X-Request-ID", "Vary"]);
    let references = all.map(|name| {
        ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }))
    });
    references.collect::<Map<_, _>>().into()
}

/// Each header of a response.
pub(super) fn headers() -> Map<String, Value> {
    let header = |(name, description): &(&str, &str)| {
        let is_number = *name == "Retry-After";
        let schema = if is_number {
            json!({ "type": "integer", "minimum": 1 })
        } else {
            json!({ "type": "string" })
        };
        ((*name).to_owned(), json!({ "description": description, "schema": schema }))
    };
    HEADERS.iter().map(header).collect()
}

const HEADERS: [(&str, &str); 15] = [
    ("Cache-Control", "How long the response may be kept."),
    ("Content-Location", "Address of the operation."),
    ("ETag", "Strong entity tag of this representation."),
    (
        "Link",
        "The watch (`monitor`), the list (`monitor-group`), the cancel route, this document, and related resources.",
    ),
    ("Location", "Where to go on."),
    ("Longhaul-Index", "The index that a list was read from."),
    ("Longhaul-Replayed", "`true` if an earlier request had started the operation."),
    ("Operation-Id", "Id of the operation."),
    ("Operation-Location", "Whole address of the operation."),
    ("Preference-Applied", "The preferences that were honoured."),
    ("Repeatability-Result", "`accepted`, if the request had Repeatability headers."),
    ("Retry-After", "Seconds to wait before the next request."),
    ("Vary", "The headers on which the response depends."),
    ("X-Accel-Buffering", "`no`: each message is to be passed on as it comes."),
    ("X-Request-ID", "Id of the request."),
];

const LINKS: [&str; 8] = [
    "cancelOperation",
    "deleteOperation",
    "getMonitor",
    "getOperation",
    "getOperationRecord",
    "getResult",
    "pauseOperation",
    "resumeOperation",
];
const SHOWN: &[&str] =
    &["ETag", "Cache-Control", "Retry-After", "Link", "Preference-Applied", "Operation-Id"];
const STARTED: &[&str] = &[
    "Location",
    "Content-Location",
    "Operation-Location",
    "Operation-Id",
    "Retry-After",
    "ETag",
    "Link",
    "Cache-Control",
    "Preference-Applied",
    "Longhaul-Replayed",
    "Repeatability-Result",
];
const WAITING: &[&str] = &[
    "Location",
    "Content-Location",
    "Retry-After",
    "ETag",
    "Link",
    "Cache-Control",
    "Preference-Applied",
];
const CREATED: &[&str] = &["Location", "ETag", "Link", "Cache-Control"];
const MOVED: &[&str] = &["Location", "Preference-Applied"];

const ERRORS: [(StatusCode, &str, &[&str]); 14] = [
    (
        StatusCode::BAD_REQUEST,
        "The request cannot be read, or a field is refused; the details name it.",
        &[],
    ),
    (
        StatusCode::FORBIDDEN,
        "The caller may not do this, or Host or Origin is not a name of the server.",
        &[],
    ),
    (StatusCode::NOT_FOUND, "There is no such operation or route.", &[]),
    (StatusCode::NOT_ACCEPTABLE, "Accept names nothing that there is.", &[]),
    (StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time.", &["Retry-After"]),
    (StatusCode::CONFLICT, "The name is taken, or the etag does not hold.", &[]),
    (StatusCode::GONE, "The operation was cancelled: its error.", &["Content-Location"]),
    (StatusCode::PRECONDITION_FAILED, "If-Match does not hold.", &[]),
    (StatusCode::PAYLOAD_TOO_LARGE, "The body or a payload is too large.", &[]),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is not JSON, or is compressed.", &[]),
    (
        StatusCode::UNPROCESSABLE_ENTITY,
        "Another request had the same request id; or the operation failed: its error.",
        &["Content-Location"],
    ),
    (StatusCode::INTERNAL_SERVER_ERROR, "The server has a fault; its log has the cause.", &[]),
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "The store or the server cannot answer now; ask again.",
        &["Retry-After"],
    ),
    (StatusCode::GATEWAY_TIMEOUT, "The deadline of the request has passed.", &[]),
];
