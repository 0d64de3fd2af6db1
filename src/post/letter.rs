//! What is sent: the body in the wanted form, and its headers. Standard Webhooks and CloudEvents stand beside each other on
//! the same request.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::sign::{SigningKey, signatures};
use crate::clock::Timestamp;
use crate::operation::events::{OperationEvent, event_name};
use crate::operation::name::EndpointName;
use crate::proto::google::longrunning::{Operation as Published, operation::Result as Outcome};
use crate::proto::longhaul::v1::callback::{Event as Subscribed, Format};
use crate::types::Registry;

/// A request to a receiver, complete but for its time.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The id of the delivery, the same for all attempts.
    pub id: String,
    /// The receiver.
    pub url: String,
    /// The body.
    pub body: Bytes,
    /// The headers, without those that depend on the time.
    pub headers: HeaderMap,
    /// The keys that sign it.
    pub keys: Vec<SigningKey>,
}

/// What a letter tells.
#[derive(Clone, Debug)]
pub struct LetterContent<'a> {
    /// The id of the delivery.
    pub id: &'a str,
    /// What happened.
    pub news: &'a OperationEvent,
    /// What it is called for the receiver.
    pub event: Subscribed,
    /// The operation, if the receiver wants more than the thin body.
    pub operation: Option<&'a Published>,
}

/// What a test of an endpoint tells.
#[derive(Clone, Debug)]
pub struct TestContent<'a> {
    /// The id of the request.
    pub id: &'a str,
    /// The endpoint.
    pub endpoint: &'a EndpointName,
    /// When it is sent.
    pub time: Timestamp,
}

impl LetterContent<'_> {
    /// The body and its content type.
    pub fn body(&self, format: Format, types: &Registry) -> (Bytes, &'static str) {
        match format {
            Format::ResponseBody => (self.response(types), JSON),
            Format::CloudeventsStructured => (bytes(&self.structured(types)), CLOUD_EVENT),
            Format::Unspecified | Format::StandardWebhook => (bytes(&self.standard(types)), JSON),
        }
    }

    /// The headers that CloudEvents asks for in binary mode.
    pub fn cloud_event_headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", self.id.to_owned()),
            ("ce-source", self.source()),
            ("ce-type", self.cloud_event_type()),
            ("ce-subject", self.news.name.as_str().to_owned()),
            ("ce-time", self.news.time.to_string()),
            ("ce-sequence", self.sequence()),
        ];
        if !self.news.trace_parent.is_empty() {
            headers.push(("ce-traceparent", self.news.trace_parent.clone()));
        }
        headers
    }

    fn standard(&self, types: &Registry) -> Value {
        json!({
            "type": format!("operation.{}", event_name(self.event)),
            "timestamp": self.news.time.to_string(),
            "data": self.data(types),
        })
    }

    fn structured(&self, types: &Registry) -> Value {
        let mut event = json!({
            "specversion": "1.0",
            "id": self.id,
            "source": self.source(),
            "type": self.cloud_event_type(),
            "subject": self.news.name.as_str(),
            "time": self.news.time.to_string(),
            "sequence": self.sequence(),
            "datacontenttype": JSON,
            "data": self.data(types),
        });
        if !self.news.trace_parent.is_empty() {
            event["traceparent"] = self.news.trace_parent.clone().into();
        }
        event
    }

    /// The thin body, and the operation where it is wanted.
    fn data(&self, types: &Registry) -> Value {
        let news = self.news;
        let mut data = Map::new();
        data.insert("name".to_owned(), news.name.as_str().into());
        data.insert("uid".to_owned(), news.uid.to_string().into());
        data.insert("state".to_owned(), news.state.as_str_name().into());
        data.insert("done".to_owned(), news.is_done().into());
        data.insert("sequence".to_owned(), news.sequence.into());
        if let Some(fraction) = news.fraction {
            data.insert("fraction".to_owned(), fraction.into());
        }
        if !news.status_detail.is_empty() {
            data.insert("statusDetail".to_owned(), news.status_detail.clone().into());
        }
        if let Some(operation) = self.operation {
            data.insert("operation".to_owned(), types.operation(operation));
        }
        data.into()
    }

    /// The bare response as the API's own schema has it; the error where there is none. Before the end it is the metadata.
    fn response(&self, types: &Registry) -> Bytes {
        let Some(operation) = self.operation else { return Bytes::from_static(b"{}") };
        let value = match &operation.result {
            Some(Outcome::Response(response)) => types.plain(response),
            Some(Outcome::Error(error)) => types.status(error),
            None => operation.metadata.as_ref().map_or_else(|| json!({}), |any| types.plain(any)),
        };
        bytes(&value)
    }

    fn source(&self) -> String {
        source(self.news.name.parent())
    }

    fn cloud_event_type(&self) -> String {
        format!("dev.longhaul.operation.{}", event_name(self.event))
    }

    /// Sorts as text like the number.
    fn sequence(&self) -> String {
        format!("{:020}", self.news.sequence)
    }
}

impl TestContent<'_> {
    fn body(&self, format: Format) -> (Bytes, &'static str) {
        let data = json!({ "name": self.endpoint.to_string() });
        let time = self.time.to_string();
        match format {
            Format::ResponseBody => (Bytes::from_static(b"{}"), JSON),
            Format::CloudeventsStructured => {
                let event = json!({
                    "specversion": "1.0",
                    "id": self.id,
                    "source": source(self.endpoint.parent.as_str()),
                    "type": TEST_EVENT,
                    "subject": self.endpoint.to_string(),
                    "time": time,
                    "datacontenttype": JSON,
                    "data": data,
                });
                (bytes(&event), CLOUD_EVENT)
            }
            Format::Unspecified | Format::StandardWebhook => {
                (bytes(&json!({ "type": TEST, "timestamp": time, "data": data })), JSON)
            }
        }
    }

    fn cloud_event_headers(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", self.id.to_owned()),
            ("ce-source", source(self.endpoint.parent.as_str())),
            ("ce-type", TEST_EVENT.to_owned()),
            ("ce-subject", self.endpoint.to_string()),
            ("ce-time", self.time.to_string()),
        ]
    }
}

impl Letter {
    /// A test of an endpoint. `own` are the receiver's own headers.
    pub fn test(
        told: &TestContent<'_>,
        format: Format,
        own: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self::with(told.id, told.body(format), told.cloud_event_headers(), own)
    }

    /// A letter about `told`. `own` are the receiver's own headers.
    pub fn new(
        told: &LetterContent<'_>,
        format: Format,
        own: impl IntoIterator<Item = (String, String)>,
        types: &Registry,
    ) -> Self {
        Self::with(told.id, told.body(format, types), told.cloud_event_headers(), own)
    }

    fn with(
        id: &str,
        (body, content_type): (Bytes, &'static str),
        cloud_event: Vec<(&'static str, String)>,
        own: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in own {
            let name = HeaderName::try_from(name).ok().filter(|name| !is_reserved(name));
            if let (Some(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
        if content_type != CLOUD_EVENT {
            for (name, value) in cloud_event {
                if let Ok(value) = HeaderValue::try_from(encoded(&value)) {
                    headers.insert(name, value);
                }
            }
        }
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        Self { id: id.to_owned(), url: String::new(), body, headers, keys: Vec::new() }
    }

    /// The headers of an attempt at `now`.
    pub fn headers_at(&self, now: Timestamp) -> HeaderMap {
        let mut headers = self.headers.clone();
        let seconds = now.as_micros() / 1_000_000;
        let mut put = |name, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put("webhook-id", self.id.clone());
        put("webhook-timestamp", seconds.to_string());
        if !self.keys.is_empty() {
            let signed = signatures(&self.keys, &self.id, seconds, &self.body);
            put("webhook-signature", signed);
        }
        headers
    }
}

/// Whether only the server sets that header.
pub fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// As CloudEvents encodes values in headers: spaces, quotes, percent signs and everything beyond ASCII.
fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'!' | b'#'..=b'$' | b'&'..=b'~' => out.push(byte.into()),
            _ => {
                let written = write!(out, "%{byte:02X}");
                debug_assert!(written.is_ok(), "a String takes whatever is written to it");
            }
        }
    }
    out
}

/// The CloudEvents `source` of events about operations of a parent.
fn source(parent: &str) -> String {
    if parent.is_empty() { SOURCE.to_owned() } else { format!("{SOURCE}/{parent}") }
}

fn bytes(value: &Value) -> Bytes {
    value.to_string().into()
}

const JSON: &str = "application/json";
const CLOUD_EVENT: &str = "application/cloudevents+json";
/// The service in the source of every event.
const SOURCE: &str = "//longhaul.dev";
/// The type of a test, and that of its CloudEvent.
const TEST: &str = "webhook.test";
const TEST_EVENT: &str = "dev.longhaul.webhook.test";
const USER_AGENT: &str = concat!("longhaul/", env!("CARGO_PKG_VERSION"));
/// Those that frame the request, or that belong to the call itself.
const RESERVED: [&str; 14] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const RESERVED_PREFIXES: [&str; 4] = ["webhook-", "ce-", "proxy-", "traceparent"];
