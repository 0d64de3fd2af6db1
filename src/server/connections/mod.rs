//! Connections: how many there are, what each may hold and for how long, and how they end.
//!
//! A client without a key can open connections and calls as it likes, send half of them and read nothing. So each connection
//! has an account (`account.rs`), requests and answers count by the byte (`request.rs`, `answer.rs`), and whatever waits for
//! the other side waits for so long and not longer.

mod account;
mod answer;
mod refusal;
mod request;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tower::{Service, ServiceExt};

pub(crate) use self::account::Admission;

use self::account::{Account, Accounts};
use self::answer::{Leaving, Protocol, leaving};
use self::refusal::refusal;
use self::request::Arriving;
use super::faces::Spoken;
use crate::clock::{Clock, SystemClock};
use crate::grpc::deadline;
use crate::grpc::is_read;
use crate::limits::{MAX_CONNECTIONS, MAX_STREAMS, SILENCE, UNREAD_TIME};
use crate::throttle::Throttle;

/// The connections of one server. Clones are the same connections.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    /// The machine's clock whatever the engine's is: these are times on the wire.
    clock: Arc<dyn Clock>,
    accounts: Arc<Accounts>,
    builder: Builder<TokioExecutor>,
    refused: Arc<Throttle>,
    draining: CancellationToken,
    end: CancellationToken,
}

/// A connection that has its place.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) place: Admission,
}

impl Connections {
    pub(crate) fn new() -> Self {
        let clock: Arc<dyn Clock> = SystemClock::new();
        Self {
            accounts: Accounts::new(Arc::clone(&clock), most_connections()),
            builder: builder(),
            refused: Arc::new(Throttle::new(Arc::clone(&clock))),
            draining: CancellationToken::new(),
            end: CancellationToken::new(),
            clock,
        }
    }

    /// No more connections; those that are open end once their calls have.
    pub(crate) fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends what is left.
    pub(crate) fn end(&self) {
        self.drain();
        self.end.cancel();
    }

    /// The next connection for which there is a place; `None` once there are to be no more.
    pub(crate) async fn accept(&self, listener: &TcpListener) -> Option<Accepted> {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.draining.cancelled() => return None,
                accepted = listener.accept() => accepted,
            };
            match accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
                // Closed at once where there is no place.
                Ok(stream) => {
                    if let Some(place) = self.accounts.admit() {
                        return Some(Accepted { stream, place });
                    }
                }
                // Such as too many open files, or a caller that is gone again: the next one may fare better.
                Err(error) => {
                    if let Some(left_out) = self.refused.admit("accept") {
                        tracing::warn!(%error, left_out, "cannot accept a connection");
                    }
                    self.clock.sleep(PAUSE).await;
                }
            }
        }
    }

    /// Serves what a listener accepts until [`Self::drain`], and then until all connections have ended.
    pub(crate) async fn serve_all<S>(&self, listener: TcpListener, faces: S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
    {
        let tasks = TaskTracker::new();
        while let Some(accepted) = self.accept(&listener).await {
            let (connections, faces) = (self.clone(), faces.clone());
            tasks.spawn(async move { connections.serve(accepted, faces).await });
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve<S>(&self, accepted: Accepted, faces: S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
    {
        let Accepted { stream, place } = accepted;
        let account = Arc::clone(&place.0);
        let (caller, clock) = (Arc::clone(&account), Arc::clone(&self.clock));
        let service = service_fn(move |request| {
            answer(Arc::clone(&caller), Arc::clone(&clock), faces.clone(), request)
        });
        let io = TokioIo::new(Counting { stream, account: Arc::clone(&account) });
        let mut connection = std::pin::pin!(self.builder.serve_connection(io, service));
        let mut drains = false;
        let mut unread = Unread::default();
        let mut look = self.clock.sleep(LOOK);
        loop {
            tokio::select! {
                // What ended it is the client's affair.
                _ = &mut connection => return,
                () = self.draining.cancelled(), if !drains => {
                    drains = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.end.cancelled() => return,
                () = account.close.cancelled() => return,
                () = &mut look => {
                    if account.is_silent() || unread.is_too_long(&account) {
                        return;
                    }
                    look = self.clock.sleep(LOOK);
                }
            }
        }
    }
}

/// Answers a call, if there is room for it.
async fn answer<S>(
    account: Arc<Account>,
    clock: Arc<dyn Clock>,
    faces: S,
    request: Request<Incoming>,
) -> Result<Response<Leaving>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let spoken = Spoken::by(&request);
    let face = if spoken == Spoken::Grpc { Protocol::Grpc } else { Protocol::Http };
    let call = match account.call(head_bytes(&request)) {
        Ok(call) => call,
        Err(error) => return Ok(Leaving::refused(refusal(error), face)),
    };
    let path = request.uri().path();
    let (is_read, many, time) = match spoken {
        Spoken::Grpc | Spoken::GrpcWeb => (
            is_read(path),
            face == Protocol::Grpc && MANY_REQUESTS.iter().any(|method| path.ends_with(method)),
            deadline::of(request.headers()),
        ),
        Spoken::Http => (crate::http::is_read(&request), false, None),
    };
    let turn = if is_read { account.turn().await } else { None };
    let request = request
        .map(|body| Body::new(Arriving::new(body, Arc::clone(&call), Arc::clone(&clock), many)));
    let answer = faces.oneshot(request);
    let answer = match time {
        None => answer.await,
        Some(time) => tokio::select! {
            biased;
            answer = answer => answer,
            () = clock.sleep(time) => {
                Ok(Status::deadline_exceeded("the call's own deadline has passed").into_http())
            }
        },
    };
    let Ok(answer) = answer;
    let mut answer = Some(answer);
    let answer = poll_fn(|context| {
        let answer = answer.take().unwrap_or_default();
        Poll::Ready(leaving(answer, Arc::clone(&call), face, context))
    })
    .await;
    drop(turn);
    Ok(answer)
}

fn head_bytes(request: &Request<Incoming>) -> usize {
    let headers = request.headers().iter();
    let headers: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
    headers + request.uri().path().len()
}

/// Notices when what was answered is not read.
#[derive(Default)]
struct Unread {
    written: Option<u64>,
    time: Duration,
}

impl Unread {
    /// Looked at every [`LOOK`].
    fn is_too_long(&mut self, account: &Account) -> bool {
        let written = account.reading();
        if written.is_none() || written != self.written {
            *self = Self { written, time: Duration::ZERO };
            return false;
        }
        self.time += LOOK;
        self.time >= UNREAD_TIME
    }
}

/// Counts what it reads.
struct Counting {
    stream: TcpStream,
    account: Arc<Account>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.account.received(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(LOOK)
        .max_buf_size(HTTP1_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .max_concurrent_streams(MAX_STREAMS);
    builder
}

/// Raises the soft limit of open files to the hard one: most systems give a process 1,024 where it asks for no more.
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// As many as the open files allow, with some left for the store.
fn most_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let reserve = RESERVED_FILES.min(files / 2);
    MAX_CONNECTIONS.min(files - reserve)
}

/// Files that are left to the store and everything else.
const RESERVED_FILES: usize = 256;
/// How often a connection is looked at: one that has said nothing by the first time is closed.
const LOOK: Duration = SILENCE;
const KEEPALIVE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
/// A head of HTTP/1.1 and more.
const HTTP1_BUFFER_BYTES: usize = 64 << 10;
/// Methods that take a stream of requests.
const MANY_REQUESTS: [&str; 2] = ["/ServeQueue", "/ServerReflectionInfo"];
