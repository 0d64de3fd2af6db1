//! The other end of the HTTP face: what a generated client says over gRPC goes out as HTTP/JSON, so that one scenario is
//! played over both.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use h2::RecvStream;
use http_body_util::{BodyExt, StreamBody};
use longhaul::limits::MAX_HTTP_WAIT;
use longhaul::proto::DESCRIPTORS;
use longhaul::proto::google::api::{HttpRule, http_rule::Pattern};
use longhaul::proto::google::{longrunning as lro, rpc};
use longhaul::types::Registry;
use longhaul::wire::transcode::{read, write::MessageJson};
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ReflectMessage,
};
use serde_json::Value;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Service, ServiceExt};

use super::http::Http2;
use super::within;

/// How a client reaches its server.
#[derive(Clone)]
pub(crate) enum Line {
    Grpc(Channel),
    Http(Arc<Rest>),
}

/// A connection over which methods are called as HTTP/JSON; those that HTTP does not have go over gRPC.
pub(crate) struct Rest {
    connection: Http2,
    grpc: Channel,
    pool: DescriptorPool,
    types: Registry,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Service<http::Request<Body>> for Line {
    type Response = http::Response<Body>;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Self::Response, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let line = self.clone();
        Box::pin(async move {
            match line {
                Self::Grpc(channel) => Ok(channel.oneshot(request).await?),
                Self::Http(rest) => rest.call(request).await,
            }
        })
    }
}

/// Whether that is a wait longer than HTTP has it, where it ends before its time.
fn is_too_long(message: &DynamicMessage) -> bool {
    let name = "google.longrunning.WaitOperationRequest";
    let wait = (message.descriptor().full_name() == name)
        .then(|| message.transcode_to::<lro::WaitOperationRequest>().expect("a wait"));
    let most = MAX_HTTP_WAIT.as_secs() as i64;
    wait.is_some_and(|wait| wait.timeout.is_none_or(|timeout| timeout.seconds >= most))
}

impl Rest {
    pub(crate) async fn new(address: std::net::SocketAddr, grpc: Channel) -> Self {
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("definitions");
        let types = Registry::builtin();
        Self { connection: Http2::to(address).await, grpc, pool, types }
    }

    async fn call(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Failure> {
        let method = self.method(request.uri().path());
        if method.is_client_streaming() || request.headers().contains_key("grpc-timeout") {
            return Ok(self.grpc.clone().oneshot(request).await?);
        }
        let (head, body) = request.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let message = DynamicMessage::decode(method.input(), bytes.slice(PREFIX..))?;
        let transcoded =
            (!is_too_long(&message)).then(|| self.transcode(&method, &message)).flatten();
        let Some((verb, path, body)) = transcoded else {
            let body = http_body_util::Full::new(bytes);
            let request = http::Request::from_parts(head, Body::new(body));
            return Ok(self.grpc.clone().oneshot(request).await?);
        };
        let passed = head.headers.iter().filter(|(name, _)| {
            !["te", "content-type", "grpc-timeout", "user-agent"].contains(&name.as_str())
        });
        let passed = passed.map(|(name, value)| (name.as_str(), value.to_str().expect("text")));
        let mut headers: Vec<_> = passed.collect();
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        let (head, body) = self.connection.send(verb, &path, &headers, body.into()).await;
        if head.status != 200 && head.status != 202 {
            let text = whole(body).await;
            return Ok(self.refusal(head.status.as_u16(), &text).into_http());
        }
        if method.is_server_streaming() {
            return Ok(self.messages(&method, body));
        }
        let text = whole(body).await;
        let json = serde_json::from_slice(&text).expect("JSON");
        let message = self.read(method.output(), json).encode_to_vec();
        let mut response = grpc(futures_util::stream::iter([Ok(framed(&message)), Ok(end())]));
        response.headers_mut().extend(head.headers.into_iter().filter_map(|(name, value)| {
            let name = name.filter(|name| name.as_str().starts_with("longhaul-"))?;
            Some((name, value))
        }));
        Ok(response)
    }

    fn method(&self, path: &str) -> MethodDescriptor {
        let (service, method) = path[1..].split_once('/').expect("a path");
        let service = self.pool.get_service_by_name(service).expect("a service");
        service.methods().find(|known| known.name() == method).expect("a method")
    }

    fn read(&self, descriptor: MessageDescriptor, json: Value) -> DynamicMessage {
        let Value::Object(object) = json else { panic!("an object, not {json}") };
        read::message(&self.types, descriptor, object).expect("a message")
    }

    /// The request of HTTP that is this request; `None` where no path can say it, such as for names that are none.
    fn transcode(
        &self,
        method: &MethodDescriptor,
        message: &DynamicMessage,
    ) -> Option<(&'static str, String, String)> {
        let json = serde_json::to_value(MessageJson::new(message, &self.types)).expect("JSON");
        let Value::Object(mut fields) = json else { panic!("an object") };
        let rules = self.rules(method);
        // A variable such as `job.name` is a field of a field.
        let nested = rules.iter().find_map(|(_, path, _)| {
            let variable = path.split_once('{')?.1.split_once('=')?.0;
            Some((variable.to_owned(), variable.split_once('.')?))
        });
        let nested = nested.map(|(variable, (outer, inner))| {
            let outer = fields.get_mut(outer).and_then(Value::as_object_mut);
            let value = outer.and_then(|outer| outer.remove(inner));
            fields.extend(value.map(|value| (variable.clone(), value)));
            variable
        });
        let field = ["name", "parent", "queue"]
            .into_iter()
            .chain(nested.as_deref())
            .find(|field| rules.iter().any(|(_, path, _)| path.contains(&format!("{{{field}="))));
        let field = field.filter(|field| fields.contains_key(*field));
        let given = field.and_then(|field| fields.remove(field)).unwrap_or_default();
        let mut given = given.as_str().unwrap_or_default();
        if method.name().starts_with("List") && !given.starts_with('/') {
            given = given.strip_suffix("/operations").unwrap_or(given);
            given = given.strip_suffix("operations").unwrap_or(given);
        }
        let queue = format!("queues/{given}");
        let is_queue = matches!(field, Some("queue" | "queue.name"));
        if is_queue && !given.starts_with("queues/") && !given.is_empty() {
            // Over gRPC the collection may be left out.
            given = &queue;
        }
        let has_pairs = given.split('/').count().is_multiple_of(2)
            && given.split('/').all(|segment| !segment.is_empty());
        if !has_pairs && !["", "-"].contains(&given) || field == Some("name") && given == "-" {
            return None;
        }
        let (verb, path, body) =
            rules.into_iter().find(|(_, path, _)| path.contains('{') != given.is_empty())?;
        let path = match (path.find('{'), path.find('}')) {
            (Some(start), Some(end)) => {
                format!("{}{}{}", &path[..start], escaped(given), &path[end + 1..])
            }
            _ => path,
        };
        if body == "*" {
            return Some((verb, path, Value::Object(fields).to_string()));
        }
        let body = method.input().get_field_by_name(&body);
        let body = body.and_then(|field| fields.remove(field.json_name()));
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut query = form_urlencoded::Serializer::new(String::new());
        flatten("", &Value::Object(fields), &mut query);
        Some((verb, format!("{path}?{}", query.finish()), body))
    }

    /// The bindings of a method: verb, path, and what the body is.
    fn rules(&self, method: &MethodDescriptor) -> Vec<(&'static str, String, String)> {
        let own = |verb, path: &str, body: &str| vec![(verb, path.to_owned(), body.to_owned())];
        match method.full_name() {
            "google.longrunning.Operations.ListOperations" => {
                let mut rules = own("GET", "/v1/operations", "");
                rules.extend(own("GET", "/v1/{name=*/*}/operations", ""));
                return rules;
            }
            "google.longrunning.Operations.WaitOperation" => {
                return own("POST", "/v1/{name=*/*/operations/*}:wait", "*");
            }
            _ => {}
        }
        let extension = self.pool.get_extension_by_name("google.api.http").expect("an extension");
        let options = method.options();
        let rule = options.get_extension(&extension);
        let rule = rule.as_message().expect("a rule").transcode_to::<HttpRule>().expect("a rule");
        let more = rule.additional_bindings.clone();
        std::iter::once(rule)
            .chain(more)
            .map(|rule| match rule.pattern.expect("a pattern") {
                Pattern::Get(path) => ("GET", path, rule.body),
                Pattern::Delete(path) => ("DELETE", path, rule.body),
                Pattern::Post(path) => ("POST", path, rule.body),
                Pattern::Patch(path) => ("PATCH", path, rule.body),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// The status that an error of HTTP carries.
    fn refusal(&self, http: u16, text: &[u8]) -> Status {
        let body: Value = serde_json::from_slice(text).expect("JSON");
        let error = &body["error"];
        assert_eq!(error["code"], http, "{body}");
        let code = error["status"].as_str().and_then(rpc::Code::from_str_name).expect("a status");
        let details = error["details"].as_array().cloned().unwrap_or_default();
        let details =
            details.iter().map(|detail| self.types.read_any(detail).expect("a detail")).collect();
        let message = error["message"].as_str().expect("a message").to_owned();
        let status = rpc::Status { code: code.into(), message: message.clone(), details };
        Status::with_details(Code::from(code as i32), message, status.encode_to_vec().into())
    }

    /// The messages of an array that grows.
    fn messages(&self, method: &MethodDescriptor, body: RecvStream) -> http::Response<Body> {
        let (types, output) = (self.types.clone(), method.output());
        let elements = Elements { body, read: Vec::new() };
        let frames = unfold(Some(elements), move |elements| {
            let (types, output) = (types.clone(), output.clone());
            async move {
                let mut elements = elements?;
                let Some(json) = elements.next().await else { return Some((Ok(end()), None)) };
                let Value::Object(object) = json else { panic!("an object, not {json}") };
                let message = read::message(&types, output, object).expect("a message");
                Some((Ok(framed(&message.encode_to_vec())), Some(elements)))
            }
        });
        grpc(frames)
    }
}

struct Elements {
    body: RecvStream,
    read: Vec<u8>,
}

impl Elements {
    async fn next(&mut self) -> Option<Value> {
        loop {
            let start = self.read.iter().position(|byte| !b"[,\n".contains(byte));
            self.read.drain(..start.unwrap_or(self.read.len()));
            if self.read.first() == Some(&b']') {
                return None;
            }
            let mut values = serde_json::Deserializer::from_slice(&self.read).into_iter::<Value>();
            if let Some(Ok(value)) = values.next() {
                let read = values.byte_offset();
                self.read.drain(..read);
                return Some(value);
            }
            let data = self.body.data().await.expect("the end of the array").expect("data");
            self.body.flow_control().release_capacity(data.len()).expect("flow");
            self.read.extend_from_slice(&data);
        }
    }
}

/// Reads a body to its end.
pub(crate) async fn whole(mut body: RecvStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.expect("data");
        body.flow_control().release_capacity(data.len()).expect("flow");
        bytes.extend_from_slice(&data);
    }
    bytes
}

fn flatten(path: &str, value: &Value, query: &mut form_urlencoded::Serializer<'_, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, query);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| flatten(path, value, query)),
        Value::String(text) => drop(query.append_pair(path, text)),
        other => drop(query.append_pair(path, &other.to_string())),
    }
}

fn escaped(name: &str) -> String {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const REST: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b'"');
    utf8_percent_encode(name, REST).to_string()
}

fn framed(message: &[u8]) -> http_body::Frame<Bytes> {
    let mut frame = BytesMut::with_capacity(message.len() + PREFIX);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    http_body::Frame::data(frame.freeze())
}

fn end() -> http_body::Frame<Bytes> {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    http_body::Frame::trailers(trailers)
}

fn grpc(
    frames: impl futures_util::Stream<Item = Result<http_body::Frame<Bytes>, Status>> + Send + 'static,
) -> http::Response<Body> {
    let mut response = http::Response::new(Body::new(StreamBody::new(frames)));
    let kind = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    response
}

/// What stands before each message of gRPC.
const PREFIX: usize = 5;

/// Server-sent events as they arrive.
pub(crate) struct Events {
    pub(crate) head: http::response::Parts,
    body: RecvStream,
    read: String,
}

/// What stands between two empty lines.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) data: String,
    pub(crate) retry: Option<String>,
    pub(crate) comment: Option<String>,
}

impl Event {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Events {
    pub(crate) async fn open(http2: &Http2, path: &str, headers: &[(&str, &str)]) -> Self {
        let opened = http2.send("GET", path, headers, Bytes::new());
        let (head, body) = within("events", opened).await;
        Self { head, body, read: String::new() }
    }

    /// The next event, sign of life or advice; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.read.find("\n\n") {
                let block: String = self.read.drain(..end + 2).collect();
                let mut event = Event::default();
                for line in block.trim_end().lines() {
                    let (name, value) = line.split_once(": ").expect("a field");
                    match name {
                        "id" => event.id = Some(value.to_owned()),
                        "data" => event.data.push_str(value),
                        "retry" => event.retry = Some(value.to_owned()),
                        "" => event.comment = Some(value.to_owned()),
                        other => panic!("the field {other}"),
                    }
                }
                return Some(event);
            }
            let data = within("an event", self.body.data()).await?.expect("data");
            self.body.flow_control().release_capacity(data.len()).expect("flow");
            self.read += std::str::from_utf8(&data).expect("text");
        }
    }
}
