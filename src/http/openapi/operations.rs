//! The operations of the document: one for each address of each route.

use http::Method;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};

use super::addresses::{self, Address};
use super::comments::described;
use super::schemas::{Schemas, is_required};
use super::{answers, parameters};
use crate::http::documents::JSON_API;
use crate::http::query::is_text;
use crate::http::routes::{Body, Route, RouteKind, Routes};

/// All of them: address, method of HTTP in lower case, operation.
pub(super) fn all(routes: &Routes, schemas: &mut Schemas) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for route in routes.iter() {
        for address in addresses::of(route) {
            let operation = operation(route, &address, schemas);
            all.push((address.text, route.method.as_str().to_ascii_lowercase(), operation));
        }
    }
    all
}

fn operation(route: &Route, address: &Address, schemas: &mut Schemas) -> Value {
    let method = &route.rpc.method;
    let comment = described(method.full_name());
    let extra = extra(route);
    let description = [comment, extra].join("\n\n");
    let first = if route.answer == RouteKind::Result || route.answer == RouteKind::Monitor {
        extra
    } else {
        comment
    };
    let summary = first.split_once(". ").map_or(first, |(summary, _)| summary);
    let mut operation = Map::new();
    let mut put = |key: &str, value: Value| drop(operation.insert(key.to_owned(), value));
    put("operationId", id(route, address).into());
    put("tags", json!([method.parent_service().name()]));
    put("summary", summary.trim_end_matches('.').into());
    put("description", description.trim().into());
    put("parameters", given(route, address, schemas).into());
    if let Some(body) = body(route, schemas) {
        put("requestBody", body);
    }
    put("responses", answers::of(route, address, schemas));
    if route.answer == RouteKind::Start {
        put("callbacks", json!({}));
    }
    put("x-grpc-method", method.full_name().into());
    put("x-route", route.pattern.as_str().into());
    operation.into()
}

fn id(route: &Route, address: &Address) -> String {
    let name = match route.answer {
        RouteKind::Result => "GetResult",
        RouteKind::Monitor => "GetMonitor",
        _ => route.rpc.method.name(),
    };
    let first = name.chars().next().unwrap_or_default().to_ascii_lowercase();
    format!("{first}{}{}", name.get(1..).unwrap_or_default(), address.suffix)
}

/// What a route does over HTTP beside its method.
fn extra(route: &Route) -> &'static str {
    match route.answer {
        RouteKind::Start => {
            "Over HTTP: 202 with the addresses of the operation; 200 if the client waited for its end (`Prefer: wait=N`) and it came in time, or if the request was only validated."
        }
        RouteKind::Poll => {
            "Over HTTP: 200 in every state. `Accept` selects one of several documents; `Prefer: wait=N` waits for the end, or, with `If-None-Match`, for a change."
        }
        RouteKind::Result => {
            "Returns the response alone. 202 until it is there, 422 if the operation failed, 410 if it was cancelled."
        }
        RouteKind::Monitor => {
            "Returns the status of an operation while it runs. Once it is done: 201 with the location of its result, or 303 with `Prefer: redirect`."
        }
        RouteKind::Cancel | RouteKind::Delete => {
            "Over HTTP: `If-Match` makes it conditional on the entity tag of the operation."
        }
        RouteKind::Wait => "Over HTTP it waits for at most a minute.",
        RouteKind::Plain if route.rpc.method.is_server_streaming() => {
            "Over HTTP: server-sent events if `Accept` names text/event-stream, otherwise a JSON array that grows."
        }
        RouteKind::Plain => "",
    }
}

fn given(route: &Route, address: &Address, schemas: &mut Schemas) -> Vec<Value> {
    let mut given = address.parameters();
    let mut elsewhere: Vec<&str> = route.template.fields().collect();
    if let Body::Field(field) = &route.body {
        elsewhere.push(field);
    }
    if route.body != Body::Whole {
        query("", &route.rpc.method.input(), &elsewhere, schemas, &mut given);
    }
    given.extend(parameters::of(route));
    given
}

/// The fields of a request as parameters of the query.
fn query(
    prefix: &str,
    message: &MessageDescriptor,
    elsewhere: &[&str],
    schemas: &mut Schemas,
    given: &mut Vec<Value>,
) {
    for field in message.fields().filter(|field| !elsewhere.contains(&field.name())) {
        let name = format!("{prefix}{}", field.json_name());
        if let Kind::Message(inner) = field.kind()
            && !is_text(inner.full_name())
        {
            let is_plain = !field.is_map() && !field.is_list() && prefix.is_empty();
            if is_plain && inner.package_name() != "google.protobuf" {
                query(&format!("{name}."), &inner, &[], schemas, given);
            }
            continue;
        }
        given.push(json!({
            "name": name,
            "in": "query",
            "description": described(field.full_name()),
            "schema": schemas.of_field(&field),
        }));
    }
}

fn body(route: &Route, schemas: &mut Schemas) -> Option<Value> {
    let method = &route.rpc.method;
    let (schema, required) = match &route.body {
        Body::None => return None,
        Body::Whole => (schemas.of_message(&method.input()), needs_body(route, method)),
        Body::Field(name) => {
            let field: FieldDescriptor = method.input().get_field_by_name(name)?;
            (schemas.of_field(&field), false)
        }
    };
    let mut content = Map::new();
    content.insert("application/json".to_owned(), json!({ "schema": schema }));
    if route.answer == RouteKind::Start {
        let resource = json!({
            "type": "object",
            "required": ["data"],
            "properties": {
                "data": {
                    "type": "object",
                    "required": ["type", "attributes"],
                    "properties": { "type": { "const": "operations" }, "attributes": schema },
                },
            },
        });
        content.insert(JSON_API.to_owned(), json!({ "schema": resource }));
    }
    Some(json!({ "required": required, "content": content }))
}

/// Whether a request without a body lacks a field that it needs.
fn needs_body(route: &Route, method: &MethodDescriptor) -> bool {
    let in_path: Vec<&str> = route.template.fields().collect();
    let mut fields = method.input().fields().collect::<Vec<_>>().into_iter();
    route.method == Method::POST
        && fields.any(|field| is_required(&field) && !in_path.contains(&field.name()))
}
