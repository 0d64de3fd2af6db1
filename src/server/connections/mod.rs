//! Connections: how many there are, what each may hold and for how long, and how they end.
//!
//! A client without a key can open connections and calls as it likes, send half of them and read nothing. So each connection
//! has an account (`account.rs`), requests and answers count by the byte (`request.rs`, `answer.rs`), and whatever waits for
//! the other side waits for so long and not longer.

mod account;
mod answer;
mod lifetime;
mod load;
mod refusal;
mod request;
mod socket;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tower::{Service, ServiceExt};

pub(crate) use self::account::Admission;
pub(crate) use self::lifetime::AgeLimits;

use self::account::{Account, Accounts};
use self::answer::{Leaving, Protocol, leaving};
use self::lifetime::{ConnectionFate, LOOK, Lifetime};
use self::load::{Load, LoadKind};
use self::refusal::refusal;
use self::request::Arriving;
use self::socket::{Socket, SocketStream};
use super::faces::Spoken;
use super::tls::Tls;
use crate::clock::{Clock, SystemClock};
use crate::grpc::deadline;
use crate::grpc::is_read;
use crate::limits::{
    MAX_CONNECTIONS, MAX_HEAD_BYTES, MAX_HEADER_LIST_BYTES, MAX_RESET_STREAMS, MAX_STREAMS, SILENCE,
};
use crate::peer::Peer;
use crate::throttle::Throttle;
use crate::turn;

/// The connections of one server. Clones are the same connections.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    /// The machine's clock whatever the engine's is: these are times on the wire.
    clock: Arc<dyn Clock>,
    accounts: Arc<Accounts>,
    load: Arc<Load>,
    options: Options,
    builder: Builder<TokioExecutor>,
    refused: Arc<Throttle>,
    draining: CancellationToken,
    end: CancellationToken,
}

/// What holds for all connections of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Without it they are plain text.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) ages: AgeLimits,
}

/// A connection that has its place.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) place: Admission,
}

impl Connections {
    pub(crate) fn new(options: Options) -> Self {
        Self::by(SystemClock::new(), options)
    }

    fn by(clock: Arc<dyn Clock>, options: Options) -> Self {
        Self {
            accounts: Accounts::new(Arc::clone(&clock), most_connections()),
            load: Load::new(Arc::clone(&clock)),
            options,
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

    /// Serves what a listener accepts until [`Self::drain`], and then until all connections have ended; each by faces of its own.
    pub(crate) async fn serve_all<S>(&self, listener: TcpListener, faces: impl Fn() -> S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
    {
        let tasks = TaskTracker::new();
        while let Some(accepted) = self.accept(&listener).await {
            let (connections, faces) = (self.clone(), faces());
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
        let Some((stream, peer)) = self.open(stream, &account).await else { return };
        let call = ConnectionCalls {
            account: Arc::clone(&account),
            clock: Arc::clone(&self.clock),
            load: Arc::clone(&self.load),
            peer,
        };
        let service = service_fn(move |request| call.clone().answer(faces.clone(), request));
        let io = TokioIo::new(Socket { stream, account: Arc::clone(&account) });
        let mut connection = std::pin::pin!(self.builder.serve_connection(io, service));
        let mut lifetime = Lifetime::new(&self.clock, self.options.ages);
        let mut drains = false;
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
                fate = lifetime.fate(&account) => match fate {
                    ConnectionFate::Close => return,
                    ConnectionFate::Retire => {
                        connection.as_mut().graceful_shutdown();
                        account.retired.cancel();
                    }
                },
            }
        }
    }

    /// Speaks TLS if this server does, and says who is at the other end. `None` if the client does not do its part in time.
    async fn open(
        &self,
        stream: TcpStream,
        account: &Account,
    ) -> Option<(SocketStream, Option<Arc<Peer>>)> {
        let Some(tls) = &self.options.tls else { return Some((SocketStream::Plain(stream), None)) };
        let opened = tokio::select! {
            opened = tls.accept(stream) => opened,
            () = self.clock.sleep(SILENCE) => return None,
            () = self.end.cancelled() => return None,
            () = account.close.cancelled() => return None,
        };
        match opened {
            Ok((stream, peer)) => Some((SocketStream::Encrypted(Box::new(stream)), Some(peer))),
            Err(error) => {
                tracing::debug!(%error, "a connection without TLS, or with a certificate that is refused");
                None
            }
        }
    }
}

/// What all calls of one connection need.
#[derive(Clone)]
struct ConnectionCalls {
    account: Arc<Account>,
    clock: Arc<dyn Clock>,
    load: Arc<Load>,
    peer: Option<Arc<Peer>>,
}

/// Notes a call that its client gives up before it is answered.
struct AbandonedCall<'a>(Option<&'a Account>);

impl Drop for AbandonedCall<'_> {
    fn drop(&mut self) {
        if let Some(account) = self.0 {
            account.abandoned();
        }
    }
}

impl ConnectionCalls {
    /// Answers a call, if there is room for it.
    async fn answer<S>(
        self,
        faces: S,
        mut request: Request<Incoming>,
    ) -> Result<Response<Leaving>, Infallible>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let Self { account, clock, load, peer } = self;
        let spoken = Spoken::by(&request);
        let face = if spoken == Spoken::Grpc { Protocol::Grpc } else { Protocol::Http };
        let kind = LoadKind::of(spoken, &request);
        let call = account.call(head_bytes(&request)).and_then(|call| {
            if request.is_end_stream() {
                call.arrived(&load, kind)?;
            }
            Ok(call)
        });
        let call = match call {
            Ok(call) => call,
            Err(error) => return Ok(Leaving::refused(refusal(error), face)),
        };
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let mut unanswered = AbandonedCall(Some(&account));
        let path = request.uri().path();
        let watches = face == Protocol::Grpc && WATCHES.iter().any(|method| path.ends_with(method));
        let (is_read, many, time) = match spoken {
            Spoken::Grpc | Spoken::GrpcWeb => (
                is_read(path),
                face == Protocol::Grpc && MANY_REQUESTS.iter().any(|method| path.ends_with(method)),
                deadline::of(request.headers()),
            ),
            Spoken::Http => (crate::http::is_read(&request), false, None),
        };
        let turn = if is_read { account.turn().await } else { None };
        let request = request.map(|body| {
            let body = Arriving::new(body, Arc::clone(&call), Arc::clone(&clock), many);
            Body::new(if kind == LoadKind::Other { body } else { body.counting(load, kind) })
        });
        let answer = turn::run(turn, faces.oneshot(request));
        let (answer, turn) = match time {
            None => answer.await,
            Some(time) => tokio::select! {
                biased;
                answer = answer => answer,
                () = clock.sleep(time) => (Ok(late()), None),
            },
        };
        let Ok(answer) = answer;
        call.answered();
        let ends_early = watches || is_event_stream(&answer);
        let mut answer = Some(answer);
        let answer = poll_fn(|context| {
            let answer = answer.take().unwrap_or_default();
            Poll::Ready(leaving(answer, Arc::clone(&call), face, context))
        })
        .await;
        drop(turn);
        unanswered.0 = None;
        Ok(if ends_early { answer.map(Leaving::until_retired) } else { answer })
    }
}

fn late() -> Response<Body> {
    Status::deadline_exceeded("the call's own deadline has passed").into_http()
}

/// Whether a client that loses the stream takes it up again.
fn is_event_stream(answer: &Response<Body>) -> bool {
    answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream")
}

fn head_bytes(request: &Request<Incoming>) -> usize {
    let headers = request.headers().iter();
    let headers: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
    headers + request.uri().path().len()
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(LOOK).max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS);
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
const KEEPALIVE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
/// Methods that take a stream of requests.
const MANY_REQUESTS: [&str; 2] = ["/ServeQueue", "/ServerReflectionInfo"];
/// Methods whose clients take the stream up again when it ends.
const WATCHES: [&str; 2] = ["/WatchOperation", "/WatchOperations"];
