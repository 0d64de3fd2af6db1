//! HTTP by hand, without a client of gRPC.

use std::collections::HashMap;
use std::net::SocketAddr;

use h2::client::SendRequest;
use prost::bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Fixture, within};

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

/// A request over HTTP/1.1.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    let asked = format!("{method} {path} HTTP/1.1\r\nhost: longhaul\r\nconnection: close\r\n\r\n");
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
    Answer { status, headers: lines.map(header).collect(), body: body.to_owned() }
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
        let mut request = http::Request::builder().method(method).uri(uri(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answered = async {
            let mut requests = self.requests.clone().ready().await.expect("a connection");
            let (answer, _) = requests
                .send_request(request.body(()).expect("a request"), true)
                .expect("a request");
            let (head, mut body) = answer.await.expect("an answer").into_parts();
            let mut bytes = Vec::new();
            while let Some(data) = body.data().await {
                bytes.extend_from_slice(&data.expect("data"));
            }
            (head, bytes)
        };
        let (head, bytes) = within("an answer over HTTP/2", answered).await;
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.to_str().expect("text").to_owned())
        };
        let body = String::from_utf8(bytes).expect("text");
        let headers = head.headers.iter().map(header).collect();
        Answer { status: head.status.as_u16(), headers, body }
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
    format!("http://longhaul.test{path}")
}
