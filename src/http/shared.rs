//! What all routes share: the parts of a face, a request on its way to its method, and its message.

use axum::body::Body;
use http::StatusCode;
use http::request::Parts;
use http_body::Body as _;
use prost::Message;
use serde_json::{Map, Value};

use super::accept::Accept;
use super::error::HttpFailure;
use super::methods::Methods;
use super::routes::{self, Route, Routes};
use super::{body, query};
use crate::engine::{Engine, Error, Reason};
use crate::types::Registry;
use crate::wire::transcode::read;

/// The parts of a face.
pub(super) struct FaceParts {
    pub(super) engine: Engine,
    pub(super) methods: Methods,
    pub(super) routes: Routes,
    pub(super) types: Registry,
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
    /// The request that path, query, body and headers make, encoded.
    pub(super) async fn message(&self, asked: Asked<'_>) -> Result<Vec<u8>, HttpFailure> {
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
        Ok(read::message(&self.types, input, object)?.encode_to_vec())
    }
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
