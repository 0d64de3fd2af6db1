//! What all routes share: the parts of a face, a request on its way to its method, and its message.

use std::collections::BTreeSet;

use axum::body::Body;
use futures_util::future::join_all;
use http::StatusCode;
use http::request::Parts;
use http_body::Body as _;
use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::accept::Accept;
use super::error::HttpFailure;
use super::methods::Methods;
use super::routes::{self, Route, Routes};
use super::{body, query};
use crate::engine::{Caller, Engine, Error, Reason};
use crate::operation::name::ancestry;
use crate::types::Registry;
use crate::wire::access::ask_by_type;
use crate::wire::transcode::read;
use crate::wire::transcode::write::{self, TypesByParent};

/// The parts of a face.
pub(super) struct FaceParts {
    pub(super) engine: Engine,
    pub(super) methods: Methods,
    pub(super) routes: Routes,
}

/// The message of a request.
pub(super) struct RequestMessage {
    /// The message, encoded.
    pub(super) bytes: Vec<u8>,
    /// The types of the place that it is about.
    pub(super) types: Registry,
    /// The name, parent or pattern of that place.
    pub(super) place: String,
}

/// A request on its way to its method.
pub(super) struct Asked<'a> {
    pub(super) route: &'a Route,
    pub(super) fields: Vec<(&'a str, String)>,
    /// Fields that headers give.
    pub(super) given: Vec<(&'static str, String)>,
    pub(super) head: Parts,
    pub(super) body: Body,
    pub(super) accept: &'a Accept,
}

impl Asked<'_> {
    /// Who asks, as the server found out.
    pub(super) fn caller(&self) -> Caller {
        self.head.extensions.get::<Caller>().cloned().unwrap_or_default()
    }

    /// The name in the path, if that is the whole request.
    pub(super) fn bare_name(&self) -> Option<&str> {
        let is_bare = self.head.uri.query().is_none() && self.body.is_end_stream();
        match &self.fields[..] {
            [("name", name)] if is_bare && self.given.is_empty() => Some(name),
            _ => None,
        }
    }
}

impl FaceParts {
    /// The message that path, query, body and headers make.
    pub(super) async fn message(&self, asked: Asked<'_>) -> Result<RequestMessage, HttpFailure> {
        let caller = asked.caller();
        let Asked { route, fields, given: by_headers, head, body, .. } = asked;
        let input = route.rpc.method.input();
        let given = body::read(&head.headers, body).await?;
        let mut object = match (&route.body, given) {
            (routes::Body::Whole, given) => body::fields(&head.headers, body::object(given)?)?,
            (routes::Body::Field(field), Some(given)) => Map::from_iter([(field.clone(), given)]),
            (routes::Body::Field(_) | routes::Body::None, None) => Map::new(),
            (routes::Body::None, Some(given)) => no_body(given)?,
        };
        for (field, text) in fields {
            query::bind_path(&mut object, &input, field, &text)?;
        }
        query::bind(&mut object, &input, head.uri.query().unwrap_or_default())?;
        for (field, text) in by_headers {
            query::bind_header(&mut object, &input, field, &text)?;
        }
        let place = place(&object).to_owned();
        let types = self.engine.types_at(&place).await?;
        let guard = self.engine.guard(&caller);
        let names = (!guard.allows_all()).then(|| names_in(&input, &object));
        let read = read::message(&types, input.clone(), object).map_err(|error| {
            // A caller who is denied must not learn from it which types are known there.
            let name = input.full_name().to_owned();
            let names = names.and_then(|names| read::message(&types, input, names).ok());
            let names = names.map(|names| names.encode_to_vec()).unwrap_or_default();
            ask_by_type(&name, &names, &guard).err().unwrap_or(error)
        });
        Ok(RequestMessage { bytes: read?.encode_to_vec(), types, place })
    }
}

/// The texts of a request without its payloads: among them all that the policy is asked about.
fn names_in(message: &MessageDescriptor, object: &Map<String, Value>) -> Map<String, Value> {
    let named = |(key, value): (&String, &Value)| {
        let field = read::field(message, key)?;
        let kept = match (field.kind(), value) {
            (Kind::String, Value::String(_) | Value::Array(_)) => Some(value.clone()),
            (Kind::Message(inner), Value::Object(object)) if is_ours(&inner) && !field.is_map() => {
                Some(names_in(&inner, object).into())
            }
            (Kind::Message(inner), Value::Array(items)) if is_ours(&inner) => {
                let names = |item: &Value| item.as_object().map(|item| names_in(&inner, item));
                Some(items.iter().filter_map(names).map(Value::Object).collect())
            }
            _ => None,
        };
        kept.map(|kept| (key.clone(), kept))
    };
    object.iter().filter_map(named).collect()
}

fn is_ours(message: &MessageDescriptor) -> bool {
    message.package_name().starts_with("longhaul.")
}

/// The name or the parent in a request, which tells of which types its payloads are.
fn place(object: &Map<String, Value>) -> &str {
    let start = object.get("start").and_then(Value::as_object);
    let found = ["name", "parent"].iter().find_map(|field| object.get(*field)?.as_str());
    found.or_else(|| start?.get("parent")?.as_str()).unwrap_or_default()
}

/// The types of operations in an answer that lie elsewhere than at the place that was asked about. Where they cannot be
/// read now, the types of that place must do.
pub(super) async fn types_elsewhere(
    engine: &Engine,
    message: &DynamicMessage,
    place: &str,
) -> TypesByParent {
    let mut parents = BTreeSet::new();
    if engine.may_have_type_sets() {
        write::parents_in(message, &mut parents);
    }
    parents.remove(ancestry(place).first().copied().unwrap_or_default());
    let read = parents.into_iter().map(async |parent| {
        let types = engine.types_at(&parent).await.ok()?;
        Some((parent, types))
    });
    join_all(read).await.into_iter().flatten().collect()
}

pub(super) fn not_acceptable(offered: &str) -> HttpFailure {
    let message = format!("nothing of what Accept names can be had here; {offered} can");
    HttpFailure::of_http(StatusCode::NOT_ACCEPTABLE, Reason::InvalidArgument, message)
}

/// Requests that are all in path and query take a body that says nothing.
fn no_body(given: Value) -> Result<Map<String, Value>, HttpFailure> {
    match body::object(Some(given))? {
        object if object.is_empty() => Ok(object),
        _ => Err(Error::field("body", "this request takes no body; put its fields into the query")
            .into()),
    }
}
