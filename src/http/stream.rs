//! Answers of many messages: server-sent events for browsers, or a JSON array that grows, as Google's REST clients expect.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage};

use super::accept::{EVENTS, JSON};
use super::error::HttpFailure;
use super::methods::Messages;
use super::shared::types_elsewhere;
use crate::engine::{Engine, Error};
use crate::types::Registry;
use crate::wire::status::status_to_http;
use crate::wire::transcode::write::MessageJson;

/// How an answer of many messages is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Server-sent events.
    Events,
    /// A JSON array.
    Array,
}

/// What a client of server-sent events sends when it comes back, if the last thing it saw was the end.
pub(super) fn has_seen_the_end(last_event_id: &str) -> bool {
    last_event_id.ends_with(END)
}

/// The answer to a client that need not come back: an EventSource tries again after anything else.
pub(super) fn nothing_more() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// How the payloads of a stream are shown.
pub(super) struct ShownAt {
    pub(super) engine: Engine,
    /// The place that the stream is about.
    pub(super) place: String,
    /// Its types when the stream began.
    pub(super) types: Registry,
}

/// The answer that is written while `messages` come.
pub(super) fn respond(
    form: Form,
    messages: Messages,
    descriptor: MessageDescriptor,
    shown: ShownAt,
) -> Response<Body> {
    let writer = Writer { form, messages, descriptor, shown, at: StreamStage::Start };
    let pieces = unfold(writer, |mut writer| async move {
        let piece = writer.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), writer))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let content_type = match form {
        Form::Events => EVENTS,
        Form::Array => JSON,
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies must pass on each piece as it comes.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    headers.insert(HeaderName::from_static("incremental"), HeaderValue::from_static("?1"));
    response
}

struct Writer {
    form: Form,
    messages: Messages,
    descriptor: MessageDescriptor,
    shown: ShownAt,
    at: StreamStage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamStage {
    Start,
    First,
    Later,
    End,
}

impl Writer {
    /// What is written next; `None` after the last.
    async fn next(&mut self) -> Option<Bytes> {
        let at = self.at;
        match at {
            StreamStage::End => return None,
            StreamStage::Start => {
                self.at = StreamStage::First;
                let begin = match self.form {
                    Form::Events => format!("retry: {RETRY_MS}\n\n"),
                    Form::Array => "[".to_owned(),
                };
                return Some(begin.into());
            }
            StreamStage::First | StreamStage::Later => self.at = StreamStage::Later,
        }
        let message = match self.messages.next().await {
            Some(Ok(message)) => DynamicMessage::decode(self.descriptor.clone(), message)
                .map_err(|error| HttpFailure::from(Error::internal(&error))),
            Some(Err(failure)) => Err(failure),
            None => {
                self.at = StreamStage::End;
                return (self.form == Form::Array).then(|| "]".into());
            }
        };
        let text = match (&message, self.form) {
            (Ok(message), Form::Events) => self.shown.event(message).await,
            (Ok(message), Form::Array) => separated(at, &self.shown.json(message).await),
            (Err(failure), form) => {
                self.at = StreamStage::End;
                let error = status_to_http(&failure.status, &self.shown.types).1.to_string();
                match form {
                    Form::Events => format!("event: error\ndata: {error}\n\n"),
                    Form::Array => separated(at, &error) + "]",
                }
            }
        };
        Some(text.into())
    }
}

impl ShownAt {
    async fn json(&self, message: &DynamicMessage) -> String {
        let Self { engine, place, types } = self;
        let parents = types_elsewhere(engine, message, place).await;
        let json = MessageJson::new(message, types).with_parents(&parents);
        serde_json::to_string(&json).unwrap_or_else(|error| {
            let error = Error::internal(&error);
            status_to_http(&HttpFailure::from(error).status, types).1.to_string()
        })
    }

    /// One event. Heartbeats are comments. The last event is named, so that a client does not reconnect for more.
    async fn event(&self, message: &DynamicMessage) -> String {
        let kind = kind(message);
        if kind.as_deref() == Some("HEARTBEAT") {
            return ": heartbeat\n\n".to_owned();
        }
        let token = message.get_field_by_name("resume_token");
        let token = token.as_ref().and_then(|token| token.as_str()).unwrap_or_default();
        let end = if kind.as_deref() == Some("DONE") { END } else { "" };
        let id = if token.is_empty() { String::new() } else { format!("id: {token}{end}\n") };
        format!("{id}data: {}\n\n", self.json(message).await)
    }
}

/// What the message says that it is.
fn kind(message: &DynamicMessage) -> Option<String> {
    let field = message.descriptor().get_field_by_name("type")?;
    let number = message.get_field(&field).as_enum_number()?;
    let kinds = field.kind();
    Some(kinds.as_enum()?.get_value(number)?.name().to_owned())
}

fn separated(at: StreamStage, text: &str) -> String {
    let separator = if at == StreamStage::First { "" } else { ",\n" };
    format!("{separator}{text}")
}

/// What the id of the last event ends in. No resume token has it.
const END: &str = ".end";
/// How long a client of server-sent events waits before it comes back.
const RETRY_MS: u32 = 1_000;
