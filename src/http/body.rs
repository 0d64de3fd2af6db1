//! The bodies of requests: JSON within its bounds, or nothing.

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};

use super::documents::JSON_API;
use super::error::HttpFailure;
use crate::engine::{Error, Reason};
use crate::limits::MAX_BODY_BYTES;
use crate::types::json;

/// Reads the body of a request.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Option<Value>, HttpFailure> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    let limited = Limited::new(body, MAX_BODY_BYTES);
    let bytes = limited.collect().await.map_err(|error| broken(&*error))?.to_bytes();
    // Google's clients send an empty body with all kinds of types.
    if bytes.is_empty() {
        return Ok(None);
    }
    check_type(headers)?;
    parse(&bytes).map(Some)
}

/// The object that a body holds.
pub(super) fn object(value: Option<Value>) -> Result<Map<String, Value>, HttpFailure> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(Error::field("body", "the body must be a JSON object").into()),
    }
}

/// The fields that an object holds: itself, or the attributes of the resource object that JSON:API sends.
pub(super) fn fields(
    headers: &HeaderMap,
    mut object: Map<String, Value>,
) -> Result<Map<String, Value>, HttpFailure> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|found| found.to_str().ok());
    if !content_type.is_some_and(|found| found.starts_with(JSON_API)) {
        return Ok(object);
    }
    let attributes = object.get_mut("data").and_then(|data| data.get_mut("attributes"));
    match attributes.map(Value::take) {
        Some(Value::Object(attributes)) => Ok(attributes),
        None if object.is_empty() => Ok(object),
        _ => {
            let message = "a body of JSON:API must be a resource object: {\"data\": {\"type\": \"operations\", \"attributes\": {}}}";
            Err(Error::field("data.attributes", message).into())
        }
    }
}

fn parse(bytes: &Bytes) -> Result<Value, HttpFailure> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Error::field("body", format!("the body is not UTF-8 at byte {at}"))
    })?;
    Ok(json::parse(text).map_err(|error| Error::field("body", format!("the body is {error}")))?)
}

fn check_type(headers: &HeaderMap) -> Result<(), HttpFailure> {
    let encoding = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity");
    if let Some(encoding) = encoding {
        return Err(unsupported(&format!(
            "a body with the encoding {encoding:?} is not read; send it plain"
        )));
    }
    let Some(found) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let found = found.to_str().unwrap_or("?");
    let kind = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json") {
        return Ok(());
    }
    Err(unsupported(&format!("a body of the type {found} is not read; send application/json")))
}

fn unsupported(message: &str) -> HttpFailure {
    HttpFailure::of_http(StatusCode::UNSUPPORTED_MEDIA_TYPE, Reason::InvalidArgument, message)
}

fn too_large() -> HttpFailure {
    let message =
        format!("the body is larger than the {MAX_BODY_BYTES} bytes that this server reads");
    Error::new(Reason::PayloadTooLarge, message).with("limit", MAX_BODY_BYTES).into()
}

/// The body did not arrive whole. The connection may have said why.
fn broken(error: &(dyn std::error::Error + 'static)) -> HttpFailure {
    if error.is::<LengthLimitError>() {
        return too_large();
    }
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(known) = error.downcast_ref::<Box<Error>>() {
            return of_connection(known.clone());
        }
        if let Some(known) = error.downcast_ref::<Error>() {
            return of_connection(Box::new(known.clone()));
        }
        cause = error.source();
    }
    Error::field("body", format!("the body did not arrive whole: {error}")).into()
}

/// HTTP has a status of its own for a body that takes too long. The rest of it is not read.
fn of_connection(error: Box<Error>) -> HttpFailure {
    if error.reason != Reason::RequestLate {
        return error.into();
    }
    HttpFailure::from(error)
        .with_status(StatusCode::REQUEST_TIMEOUT)
        .with_header(CONNECTION, HeaderValue::from_static("close"))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    async fn reading(
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Result<Option<Value>, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().expect("a name");
            map.insert(name, value.parse().expect("a value"));
        }
        read(&map, body.into()).await.map_err(|failure| {
            let accept = super::super::accept::Accept::default();
            let types = crate::types::Registry::builtin();
            failure.respond(&accept, "/", &types).status().as_u16()
        })
    }

    #[tokio::test]
    async fn a_body_is_json_or_nothing() {
        const TYPE: &str = "content-type";
        for (headers, body, expected) in [
            (&[(TYPE, "application/json")][..], "{}", Ok(Some(Value::Object(Map::new())))),
            (&[(TYPE, "Application/JSON; charset=utf-8")], "1", Ok(Some(1.into()))),
            (&[(TYPE, "application/merge-patch+json")], "1", Ok(Some(1.into()))),
            (&[], "1", Ok(Some(1.into()))),
            (&[(TYPE, "application/json"), ("content-length", "0")], "", Ok(None)),
            (&[(TYPE, "application/x-www-form-urlencoded")], "", Ok(None)),
            (&[(TYPE, "application/x-www-form-urlencoded")], "a=b", Err(415)),
            (&[(TYPE, "text/plain")], "{}", Err(415)),
            (&[("content-encoding", "gzip")], "{}", Err(415)),
            (&[("content-length", "9999999999")], "{}", Err(413)),
            (&[], "{", Err(400)),
            (&[], "{} {}", Err(400)),
            (&[], "18446744073709551616", Err(400)),
        ] {
            assert_eq!(reading(headers, body).await, expected, "{headers:?} {body}");
        }
        assert_eq!(reading(&[], &b"\xff"[..]).await, Err(400));
        assert_eq!(reading(&[], vec![b' '; MAX_BODY_BYTES + 1]).await, Err(413));
        for (reason, status) in [(Reason::RequestLate, 408), (Reason::Overloaded, 503)] {
            let late = Body::from_stream(stream::iter([
                Ok(Bytes::from_static(b"{")),
                Err(Error::new(reason, "why")),
            ]));
            assert_eq!(reading(&[], late).await, Err(status), "as the connection says");
        }
        let deep = "[".repeat(10_000);
        assert_eq!(reading(&[], deep).await, Err(400));
    }
}
