//! Clients that open much, send little and read nothing: their cost is bounded, and other clients are served.

use std::net::SocketAddr;
use std::time::Duration;

use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use longhaul::proto::google::longrunning::GetOperationRequest;
use longhaul::proto::google::protobuf::Any;
use longhaul::proto::longhaul::v1::watch_operation_response::Type;
use longhaul::proto::longhaul::v1::{
    OperationView, ServeQueueRequest, WatchOperationRequest, serve_queue_request,
};
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::binary::{BINARY, Longhaul};
use super::bounds::{eventually, soon};
use super::clients::{Client, name};

const MIB: usize = 1 << 20;
/// The most memory that all clients together may make the server hold, with its own and a margin for the allocator.
/// Without the bounds it would hold 630 MiB and more in each of these tests; with them it is at about 430, but while other
/// programs keep it from its core, it has been seen at 536.
pub(super) const MOST: usize = 600 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_never_end_take_no_more_memory_than_they_may() {
    let attacked = Attacked::begin().await;
    let mut attackers = Vec::new();
    for _ in 0..UNFINISHED_CONNECTIONS {
        let mut attacker = Attacker::to(attacked.address(), WIDE).await;
        for _ in 0..UNFINISHED_REQUESTS {
            attacker.half_a_request().await;
        }
        attackers.push(attacker);
        attacked.serves().await;
    }
    attacked.took_at_most(MOST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_beyond_what_a_connection_may_hold_is_refused_and_may_come_again() {
    let attacked = Attacked::begin().await;
    let mut attacker = Attacker::to(attacked.address(), WIDE).await;
    let mut refused = None;
    for _ in 0..UNFINISHED_REQUESTS * 2 {
        refused = attacker.half_a_request().await.or(refused);
    }
    let status = refused.expect("a refusal");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let info = status.get_details_error_info().expect("error info");
    assert_eq!(info.reason, "LIMIT_EXCEEDED");
    assert!(status.get_details_retry_info().and_then(|info| info.retry_delay).is_some());
    attacked.serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_read_take_no_more_memory_than_they_may() {
    let attacked = Attacked::begin().await;
    let long = Duration::from_mins(1);
    attacked.client.start_with("large", "large", PAYLOAD).await.expect("a start");
    let lease = attacked.client.lease("large", 1, long, long).await.expect("a lease").remove(0);
    attacked.client.complete_with(&lease, payload(MIB - 1_024)).await.expect("an end");
    let mut attackers = Vec::new();
    for _ in 0..UNREAD_CONNECTIONS {
        let mut attacker = Attacker::to(attacked.address(), CLOSED).await;
        for _ in 0..UNREAD_ANSWERS {
            attacker.get("large").await;
        }
        attackers.push(attacker);
        attacked.serves().await;
    }
    attacked.took_at_most(MOST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_read_nothing_take_no_more_memory_than_they_may() {
    let attacked = Attacked::begin().await;
    let long = Duration::from_mins(5);
    attacked.client.start_with("watched", "watched", PAYLOAD).await.expect("a start");
    let lease = attacked.client.lease("watched", 1, long, long).await.expect("a lease").remove(0);
    let mut attacker = Attacker::to(attacked.address(), WIDE).await;
    let watch = WatchOperationRequest {
        name: name("watched"),
        view: OperationView::Full.into(),
        ..Default::default()
    };
    for _ in 0..DEAF_WATCHERS {
        attacker.call("/longhaul.v1.Callers/WatchOperation", &watch.encode_to_vec()).await;
    }
    attacker.go_deaf().await;
    let mut polite = attacked.client.watch("watched").await.expect("a watch");
    polite.until(Type::Snapshot).await;
    for number in 1..=DEAF_UPDATES {
        let report = attacked.client.report_with(&lease, number, payload(60_000));
        report.await.expect("a report");
        polite.until(Type::Update).await;
    }
    attacked.took_at_most(MOST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_may_carry_a_thousand_watchers_and_calls_beside_them() {
    let attacked = Attacked::begin().await;
    let mut watchers = Vec::new();
    for _ in 0..1_000 {
        watchers.push(attacked.client.watch("polite").await.expect("a watch"));
    }
    attacked.serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_open_files_that_say_nothing_keep_nothing_from_being_served() {
    // The soft limit is raised to the hard one, and connections stay below that.
    let attacked = Attacked::behind("ulimit -Hn 300; ulimit -Sn 100; ").await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(attacked.address()).await.expect("a connection"));
    }
    for number in 0..20 {
        let id = format!("n{number}");
        soon("a start", attacked.client.start(&id, "queue")).await.expect("a start");
    }
    attacked.newcomer().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_of_use_is_closed_and_one_that_is_idle_is_not() {
    let attacked = Attacked::begin().await;
    let idle = Attacker::to(attacked.address(), WIDE).await;
    let mut silent = JoinSet::new();
    for said in ["", "PRI * HT", "GET /healthz HTTP/1.1\r\nhost: longhaul.test\r\nx: "] {
        let address = attacked.address();
        silent.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.write_all(said.as_bytes()).await.expect("a connection");
            // An end, or a reset: the last one may receive a reason.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
    }
    soon("the end of silent connections", silent.join_all()).await;
    idle.requests.ready().await.expect("a connection that goes on");
}

/// A server, and a client of it that is no attacker.
pub(super) struct Attacked {
    server: Longhaul,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Attacked {
    pub(super) async fn begin() -> Self {
        Self::behind("").await
    }

    async fn behind(limits: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().display();
        let line =
            format!("{limits}exec {BINARY} serve --listen 127.0.0.1:0 --store embedded:{store}");
        let server = Longhaul::launch_beside(&["bash", "-c", &line], &[]);
        server.says(" serving ").await;
        let client = server.client();
        client.start("polite", "polite").await.expect("a start");
        Self { server, client, _folder: folder }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// A polite client is served, if perhaps at the second try.
    pub(super) async fn serves(&self) {
        eventually("an answer beside all that", || async { self.client.get("polite").await.ok() })
            .await;
    }

    /// A client that connects now is served.
    pub(super) async fn newcomer(&self) {
        let newcomer = Client::new(self.address());
        soon("an answer", newcomer.get("polite")).await.expect("an answer");
    }

    pub(super) async fn took_at_most(&self, bytes: usize) {
        self.serves().await;
        let peak = self.server.peak_memory();
        assert!(peak < bytes, "{} MiB at its peak", peak / MIB);
    }
}

/// An HTTP/2 connection with windows set by the test.
pub(super) struct Attacker {
    requests: SendRequest<Bytes>,
    deaf: watch::Sender<bool>,
    open: Vec<(ResponseFuture, SendStream<Bytes>)>,
    _connection: JoinSet<()>,
}

impl Attacker {
    pub(super) async fn to(address: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).max_concurrent_streams(100_000);
        if window > 0 {
            builder.initial_connection_window_size(window);
        }
        let (requests, driver) = builder.handshake(stream).await.expect("a handshake");
        let mut connection = JoinSet::new();
        let (deaf, mut told) = watch::channel(false);
        let mut driver = Box::pin(driver);
        connection.spawn(async move {
            tokio::select! {
                _ = &mut driver => return,
                _ = told.wait_for(|deaf| *deaf) => {}
            }
            // Open, and not read.
            std::future::pending::<()>().await;
            drop(driver);
        });
        Self { requests, deaf, open: Vec::new(), _connection: connection }
    }

    async fn open(&mut self, path: &str) -> bool {
        let request = http::Request::post(format!("http://longhaul.test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        // It may have been closed, which is one way to bound it.
        let Ok(mut requests) = self.requests.clone().ready().await else { return false };
        match requests.send_request(request, false) {
            Ok(open) => self.open.push((open.0, open.1)),
            Err(_) => return false,
        }
        true
    }

    /// One call whose reply is not read.
    async fn call(&mut self, path: &str, message: &[u8]) {
        if self.open(path).await {
            let (_, stream) = self.open.last_mut().expect("the call");
            let _ = stream.send_data(framed(message.len(), message), true);
        }
    }

    pub(super) async fn get(&mut self, id: &str) {
        let get = GetOperationRequest { name: name(id) }.encode_to_vec();
        self.call("/google.longrunning.Operations/GetOperation", &get).await;
    }

    /// The stream of a worker.
    pub(super) async fn serve_queue(&mut self, queue: &str) {
        let hello = serve_queue_request::Hello {
            queue: queue.to_owned(),
            worker: "test".to_owned(),
            ..serve_queue_request::Hello::default()
        };
        let request = ServeQueueRequest { sequence: 1, hello: Some(hello), ..Default::default() };
        let message = request.encode_to_vec();
        if self.open("/longhaul.v1.Workers/ServeQueue").await {
            let (_, stream) = self.open.last_mut().expect("the call");
            let _ = stream.send_data(framed(message.len(), &message), false);
        }
    }

    /// A start that declares 9 MiB, sends most of it and stops; returns how it was refused, if it was.
    pub(super) async fn half_a_request(&mut self) -> Option<Status> {
        if !self.open("/longhaul.v1.Producers/StartOperation").await {
            return None;
        }
        let (answer, mut stream) = self.open.pop().expect("the call");
        let mut left = framed(9 * MIB, &vec![0; 17 * MIB / 2]);
        while !left.is_empty() {
            stream.reserve_capacity(left.len());
            let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
            let sent = room.and_then(Result::ok).is_some_and(|room| {
                let part = left.split_to(room.min(left.len()));
                stream.send_data(part, false).is_ok()
            });
            if !sent {
                return Status::from_header_map(answer.await.ok()?.headers());
            }
        }
        self.open.push((answer, stream));
        None
    }

    /// Reads and sends nothing more.
    pub(super) async fn go_deaf(&mut self) {
        for (answer, _) in &mut self.open {
            // Answered by the time that it is watched.
            let _ = soon("a watch", answer).await;
        }
        self.deaf.send_replace(true);
    }
}

fn framed(length: usize, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    frame.put_slice(message);
    frame.freeze()
}

pub(super) fn payload(bytes: usize) -> Any {
    Any { type_url: format!("type.googleapis.com/{PAYLOAD}"), value: vec![7; bytes].into() }
}

pub(super) const PAYLOAD: &str = "google.protobuf.BytesValue";
pub(super) const WIDE: u32 = (1 << 31) - 1;
pub(super) const CLOSED: u32 = 0;
const UNFINISHED_CONNECTIONS: usize = 10;
const UNFINISHED_REQUESTS: usize = 7;
const UNREAD_CONNECTIONS: usize = 10;
const UNREAD_ANSWERS: usize = 60;
const DEAF_WATCHERS: usize = 1_600;
const DEAF_UPDATES: i64 = 25;
