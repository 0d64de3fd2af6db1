//! What the server says about itself: `/openapi.json`, and a page for people at `/docs`.
//!
//! Both follow from the definitions, so they are made once, when they are first asked for.

use std::sync::LazyLock;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::Value;

use super::accept::{Accept, JSON};
use super::error::HttpFailure;
use super::routes::Routes;
use super::shared::not_acceptable;
use super::{etag, openapi, reference};
use crate::engine::Error;

/// A page about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerPage {
    /// The OpenAPI document.
    OpenApi,
    /// The same for people.
    Docs,
    /// How it looks.
    Style,
}

/// What a page holds.
struct PageContent {
    bytes: Bytes,
    etag: HeaderValue,
}

impl ServerPage {
    /// The page at that path.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/openapi.json" => Some(Self::OpenApi),
            "/docs" => Some(Self::Docs),
            "/docs/style.css" => Some(Self::Style),
            _ => None,
        }
    }

    /// The answer to a request for it.
    pub(super) fn answer(
        self,
        method: &Method,
        head: &Parts,
        accept: &Accept,
    ) -> Result<Response<Body>, HttpFailure> {
        if method != Method::GET && method != Method::HEAD {
            return Err(HttpFailure::wrong_method(method, &[Method::GET, Method::HEAD]));
        }
        let (media, content) = match self {
            Self::OpenApi => (JSON, &OPEN_API),
            Self::Docs => ("text/html", &DOCS),
            Self::Style => ("text/css", &STYLE),
        };
        accept.choose(&[media]).ok_or_else(|| not_acceptable(media))?;
        let content = content.as_ref().map_err(|error| Error::internal(error))?;
        let known = etag::is_known(&head.headers, content.etag.to_str().unwrap_or_default());
        let mut response = if known {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            Response::new(Body::from(content.bytes.clone()))
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, content.etag.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(CONTENT_TYPE, self.content_type());
        Ok(response)
    }

    const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::OpenApi => JSON,
            Self::Docs => "text/html; charset=utf-8",
            Self::Style => "text/css; charset=utf-8",
        })
    }
}

impl PageContent {
    fn of(bytes: Vec<u8>) -> Result<Self, String> {
        let hash = blake3::hash(&bytes).to_hex();
        let etag = HeaderValue::try_from(format!("\"{}\"", &hash[..ETAG_DIGITS]));
        Ok(Self { bytes: bytes.into(), etag: etag.map_err(|error| error.to_string())? })
    }
}

type Made = LazyLock<Result<PageContent, String>>;

static DOCUMENT: LazyLock<Result<Value, String>> = LazyLock::new(|| {
    let routes = Routes::of_services().map_err(|error| error.to_string())?;
    Ok(openapi::document(&routes))
});
static OPEN_API: Made =
    LazyLock::new(|| PageContent::of(DOCUMENT.as_ref()?.to_string().into_bytes()));
static DOCS: Made =
    LazyLock::new(|| PageContent::of(reference::page(DOCUMENT.as_ref()?).into_bytes()));
static STYLE: Made = LazyLock::new(|| PageContent::of(include_bytes!("reference.css").to_vec()));

/// Nothing runs in the page, and nothing but its style is loaded.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const ETAG_DIGITS: usize = 16;
