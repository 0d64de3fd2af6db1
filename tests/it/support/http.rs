//! HTTP by hand, without a client of gRPC.

use std::collections::HashMap;
use std::net::SocketAddr;

use h2::RecvStream;
use h2::client::SendRequest;
use prost::bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::rest::whole;
use super::{Fixture, within};

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It is a refusal of that status and reason; its error.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, reason: &str) -> Value {
        let error = self.json()["error"].take();
        assert_eq!((self.status, &error["code"]), (status, &Value::from(status)), "{self:?}");
        assert_eq!(error["details"][0]["reason"], reason, "{self:?}");
        assert!(!error["message"].as_str().expect("a message").is_empty(), "{self:?}");
        error
    }
}

/// A request over HTTP/1.1.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    ask_with(address, method, path, &[], "").await
}

/// The same with headers and a body.
pub(crate) async fn ask_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut lines = vec![format!("{method} {path} HTTP/1.1"), "connection: close".to_owned()];
    if !headers.iter().any(|(name, _)| *name == "host") {
        lines.push("host: localhost".to_owned());
    }
    if !body.is_empty() {
        lines.push(format!("content-length: {}", body.len()));
    }
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    let asked = format!("{}\r\n\r\n{body}", lines.join("\r\n"));
    let answered = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(asked.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    let text = within("an answer over HTTP/1.1", answered).await.expect("a connection");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.to_ascii_lowercase(), value.to_owned())
    };
    let status = status.parse().expect("a status");
    let headers: HashMap<_, _> = lines.map(header).collect();
    let is_chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let body = if is_chunked { chunks(body) } else { body.to_owned() };
    Answer { status, headers, body }
}

/// The body that these chunks make.
fn chunks(text: &str) -> String {
    let (mut rest, mut body) = (text, String::new());
    while let Some((length, more)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        body += &more[..length];
        rest = &more[length + 2..];
    }
    body
}

/// A connection of HTTP/2.
pub(crate) struct Http2 {
    pub(super) requests: SendRequest<Bytes>,
    _connection: JoinSet<()>,
}

impl Http2 {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let opened = async {
            let stream = TcpStream::connect(address).await.expect("a connection");
            h2::client::handshake(stream).await.expect("a handshake")
        };
        let (requests, connection) = within("a connection of HTTP/2", opened).await;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        Self { requests, _connection: tasks }
    }

    /// Sends a request, and reads the whole response.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask_with(method, path, headers, "").await
    }

    /// The same with a body.
    pub(crate) async fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let answered = async {
            let (head, body) = self.send(method, path, headers, body.to_owned().into()).await;
            (head, whole(body).await)
        };
        let (head, bytes) = within("an answer over HTTP/2", answered).await;
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.to_str().expect("text").to_owned())
        };
        let body = String::from_utf8(bytes).expect("text");
        let headers = head.headers.iter().map(header).collect();
        Answer { status: head.status.as_u16(), headers, body }
    }

    /// Sends a request; its answer begins.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> (http::response::Parts, RecvStream) {
        let mut request = http::Request::builder().method(method).uri(uri(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let mut requests = self.requests.clone().ready().await.expect("a connection");
        let ends = body.is_empty();
        let (answer, mut sender) = requests.send_request(request, ends).expect("a request");
        if !ends {
            sender.send_data(body, true).expect("a request");
        }
        answer.await.expect("an answer").into_parts()
    }
}

impl Fixture {
    /// The counters of this server.
    pub(crate) async fn metrics(&self) -> Metrics {
        let answer = ask(self.address, "GET", "/metrics").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        Metrics(answer.body)
    }
}

/// The text of `/metrics`.
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// The same for counts.
    #[track_caller]
    pub(crate) fn count(&self, sample: &str) -> i64 {
        self.of(sample) as i64
    }

    /// The value of that sample, such as `watchers` or `leases_given_total{by="start"}`.
    #[track_caller]
    pub(crate) fn of(&self, sample: &str) -> f64 {
        let of = |line: &str| {
            let (name, value) = line.strip_prefix("longhaul_")?.rsplit_once(' ')?;
            (name == sample).then(|| value.parse().expect("a number"))
        };
        self.0.lines().find_map(of).unwrap_or_else(|| panic!("no {sample} in\n{}", self.0))
    }
}

pub(super) fn uri(path: &str) -> String {
    format!("http://localhost{path}")
}
