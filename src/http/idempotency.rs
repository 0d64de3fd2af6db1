//! The headers that make a start safe to repeat.

use http::header::{HeaderMap, HeaderName};

use super::error::HttpFailure;
use crate::engine::Error;

/// The fields of a start that headers give: its `request_id` by any of three customs, and its id by Azure's.
pub(super) fn given(headers: &HeaderMap) -> Result<Vec<(&'static str, String)>, HttpFailure> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{0}"));
    let mut given = Vec::new();
    if let Some(key) = text(&IDEMPOTENCY_KEY) {
        let key = idempotency_key(key)
            .filter(|_| headers.get_all(&IDEMPOTENCY_KEY).iter().count() == 1)
            .ok_or_else(|| {
                let message = format!("Idempotency-Key is {key}; give it once, as \"KEY\"");
                Error::field("request_id", message)
            })?;
        given.push(("request_id", key));
    }
    if let Some(id) = text(&REPEATABILITY_ID) {
        let first_sent =
            text(&REPEATABILITY_SENT).and_then(|sent| httpdate::parse_http_date(sent).ok());
        if first_sent.is_none() {
            let message = "Repeatability-First-Sent must say when the request was first sent, as an HTTP date";
            return Err(Error::field("request_id", message).into());
        }
        given.push(("request_id", id.to_owned()));
    }
    given.extend(text(&OPERATION_ID).map(|id| ("operation_id", id.to_owned())));
    Ok(given)
}

/// A structured field of type String (RFC 9651), with or without parameters; most clients leave out the quotes.
fn idempotency_key(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else {
        return Some(text.to_owned()).filter(|text| !text.is_empty());
    };
    let (mut key, mut symbols) = (String::new(), quoted.chars());
    loop {
        match symbols.next()? {
            '"' => break,
            '\\' => key.push(symbols.next().filter(|symbol| matches!(symbol, '"' | '\\'))?),
            symbol => key.push(symbol),
        }
    }
    let rest = symbols.as_str().trim_start();
    (!key.is_empty() && (rest.is_empty() || rest.starts_with(';'))).then_some(key)
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The id that a client of Azure gives an operation.
pub(super) const OPERATION_ID: HeaderName = HeaderName::from_static("operation-id");
pub(super) const REPEATABILITY_ID: HeaderName = HeaderName::from_static("repeatability-request-id");
const REPEATABILITY_SENT: HeaderName = HeaderName::from_static("repeatability-first-sent");
