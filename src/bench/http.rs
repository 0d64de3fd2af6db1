//! Over HTTP: reads and starts as JSON, and idle watchers of server-sent events.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH};
use http::request::Builder;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tonic::Status;

use super::client::{Client, Destination, payload};
use super::report::{Measured, MemoryUse};
use super::run::{Arena, BenchRun, Part};
use crate::client::ServerTarget;

/// Versions of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpVersion {
    /// A connection for each call in flight.
    Http1,
    /// As many connections as gRPC has.
    Http2,
}

/// What is known of the status that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientKnows {
    /// Nothing: the answer is the status.
    Nothing,
    /// The newest: the answer is that nothing has changed.
    Newest,
}

/// The connections of one thread.
struct HttpConnections {
    lines: Vec<HttpConnection>,
    _connections: JoinSet<()>,
}

enum HttpConnection {
    Http1(Mutex<http1::SendRequest<Full<Bytes>>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl HttpConnections {
    async fn open(
        server: &ServerTarget,
        version: HttpVersion,
        count: usize,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(!server.is_encrypted(), "HTTP is measured over plain text alone");
        let (mut lines, mut connections) = (Vec::new(), JoinSet::new());
        for _ in 0..count {
            let stream = TcpStream::connect(server.server()).await?;
            stream.set_nodelay(true)?;
            let io = TokioIo::new(stream);
            lines.push(match version {
                HttpVersion::Http1 => {
                    let (sender, connection) = http1::handshake(io).await?;
                    connections.spawn(async { drop(connection.await) });
                    HttpConnection::Http1(Mutex::new(sender))
                }
                HttpVersion::Http2 => {
                    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                    connections.spawn(async { drop(connection.await) });
                    HttpConnection::Http2(sender)
                }
            });
        }
        Ok(Self { lines, _connections: connections })
    }

    /// Sends a request on the line of that task; its answer begins.
    async fn send(
        &self,
        task: usize,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Status> {
        let sent = match &self.lines[task % self.lines.len()] {
            HttpConnection::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await.map_err(failed)?;
                sender.send_request(request).await
            }
            HttpConnection::Http2(sender) => sender.clone().send_request(request).await,
        };
        sent.map_err(failed)
    }

    /// The same, with the whole body.
    async fn ask(
        &self,
        task: usize,
        request: Request<Full<Bytes>>,
        expected: StatusCode,
    ) -> Result<Response<Bytes>, Status> {
        let (head, body) = self.send(task, request).await?.into_parts();
        let body = body.collect().await.map_err(failed)?.to_bytes();
        if head.status == expected {
            return Ok(Response::from_parts(head, body));
        }
        let text = String::from_utf8_lossy(&body);
        Err(Status::unknown(format!("{} in place of {expected}: {text}", head.status)))
    }
}

/// GET of the status of some hundred operations that wait for a worker.
pub(super) fn gets(
    session: &BenchRun,
    name: &'static str,
    version: HttpVersion,
    known: ClientKnows,
) -> anyhow::Result<Measured> {
    let arena = session.arena(name, 0);
    session.measure(name, &arena, async |part, arena| {
        arena.note(get_in_turn(session, part, arena, version, known).await);
    })
}

async fn get_in_turn(
    session: &BenchRun,
    part: &Part,
    arena: &Arena,
    version: HttpVersion,
    known: ClientKnows,
) -> anyhow::Result<()> {
    let tasks = part.share(session.options.in_flight);
    let lines = lines(session, part, version).await?;
    let mut requests = Vec::new();
    for task in 0..tasks {
        let name = part.client(task).start(&arena.place).await?;
        let request = get(session, &name, "application/json")?;
        let found = lines.ask(task, request.clone(), StatusCode::OK).await?;
        let mut request = request;
        if known == ClientKnows::Newest {
            let tag = found.headers().get(ETAG).cloned().unwrap_or(HeaderValue::from_static("?"));
            request.headers_mut().insert(IF_NONE_MATCH, tag);
        }
        requests.push(request);
    }
    let expected =
        if known == ClientKnows::Newest { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let once =
        async |task: usize| lines.ask(task, requests[task].clone(), expected).await.map(|_| 1);
    arena.repeat(tasks, once).await;
    Ok(())
}

/// Starts by POST, for a queue without workers.
pub(super) fn starts(
    session: &BenchRun,
    name: &'static str,
    version: HttpVersion,
) -> anyhow::Result<Measured> {
    let arena = session.arena(name, 0);
    session.measure(name, &arena, async |part, arena| {
        let started = async {
            let lines = lines(session, part, version).await?;
            let request = start(session, &arena.place)?;
            let once = async |task: usize| {
                lines.ask(task, request.clone(), StatusCode::ACCEPTED).await.map(|_| 1)
            };
            arena.repeat(part.share(session.options.in_flight), once).await;
            Ok::<_, anyhow::Error>(())
        };
        arena.note(started.await);
    })
}

/// Watchers that nothing is sent to, each of an operation of its own: the memory that each takes.
pub(super) fn idle_watchers(
    session: &BenchRun,
    name: &'static str,
    version: HttpVersion,
) -> anyhow::Result<Measured> {
    let (place, options) = (session.place(name), &session.options);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(&options.server).await?;
        let mut names = Vec::new();
        while names.len() < options.watchers {
            let some = (options.watchers - names.len()).min(STARTS_AT_ONCE);
            names.extend(try_join_all((0..some).map(|_| client.start(&place))).await?);
        }
        session.clock.sleep(SETTLE).await;
        let before = session.cpu.resident();
        let count = match version {
            HttpVersion::Http1 => names.len(),
            HttpVersion::Http2 => options.connections.max(names.len().div_ceil(STREAMS)),
        };
        let lines = HttpConnections::open(&options.server, version, count).await?;
        let mut watches = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let watch = get(session, &format!("{name}:watch"), "text/event-stream")?;
            let mut body = lines.send(number, watch).await?.into_body();
            // The first state is there.
            body.frame().await.transpose()?;
            body.frame().await.transpose()?;
            watches.push(body);
        }
        session.clock.sleep(SETTLE).await;
        let memory = MemoryUse::per(names.len(), &before, &session.cpu.resident());
        drop(watches);
        let count = names.len() as u64;
        Ok(Measured { name, per_second: None, count, quantiles: vec![], cpu: vec![], memory })
    })
}

async fn lines(
    session: &BenchRun,
    part: &Part,
    version: HttpVersion,
) -> anyhow::Result<HttpConnections> {
    let options = &session.options;
    let count = match version {
        HttpVersion::Http1 => part.share(options.in_flight),
        HttpVersion::Http2 => part.share(options.connections),
    };
    HttpConnections::open(&options.server, version, count.max(1)).await
}

fn get(session: &BenchRun, path: &str, accept: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    Ok(request(session, Method::GET, path).header(ACCEPT, accept).body(Full::default())?)
}

/// The same start as over gRPC.
fn start(session: &BenchRun, place: &Destination) -> anyhow::Result<Request<Full<Bytes>>> {
    let value = BASE64_STANDARD.encode(&payload().value[..]);
    let body = json!({
        "queue": place.queue,
        "method": "bench",
        "request": { "@type": BYTES, "value": value },
        "options": { "ttl": "3600s" },
    });
    let path = format!("{}/operations:start", place.parent);
    Ok(request(session, Method::POST, &path)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::from(body.to_string()))?)
}

/// With the token, if there is one.
fn request(session: &BenchRun, method: Method, path: &str) -> Builder {
    let target = &session.options.server;
    let uri = format!("http://{}/v1/{path}", target.server());
    let request = Request::builder().method(method).uri(uri).header(HOST, target.server());
    match target.token() {
        Some(token) => request.header(AUTHORIZATION, token.header()),
        None => request,
    }
}

fn failed(error: hyper::Error) -> Status {
    Status::from_error(Box::new(error))
}

const BYTES: &str = "type.googleapis.com/google.protobuf.BytesValue";
/// Watches on one connection, fewer than the server allows.
const STREAMS: usize = 1_000;
const STARTS_AT_ONCE: usize = 100;
/// Until the memory of a server is what it stays at.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(2);
