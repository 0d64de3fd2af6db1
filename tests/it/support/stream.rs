//! A worker on a stream, message by message.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use longhaul::proto::longhaul::v1::workers_client::WorkersClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

use super::identity::with;
use super::{Duration, Fixture, completion, pb, within};
pub(crate) use pb::serve_queue_request::{Held, Hello};
pub(crate) use pb::{ServeQueueRequest as Request, ServeQueueResponse as Reply};

/// One stream on its own connection, so that the connection can be broken.
pub(crate) struct WorkerStream {
    requests: Option<mpsc::Sender<Request>>,
    replies: Streaming<Reply>,
    socket: Option<TcpStream>,
    /// Sequence of the last request.
    pub(crate) sequence: i64,
    /// Sequence of the last reply that was read.
    pub(crate) read: i64,
}

/// A Hello of worker `worker-1`.
pub(crate) fn hello(queue: &str) -> Hello {
    Hello { queue: queue.to_owned(), worker: "worker-1".to_owned(), ..Default::default() }
}

/// A request with this number of slots.
pub(crate) fn slots(slots: i32) -> Request {
    Request { slots: Some(slots), ..Default::default() }
}

pub(crate) fn held(lease: &pb::Lease) -> Held {
    Held { name: lease.operation.clone(), lease_token: lease.lease_token.clone() }
}

pub(crate) fn complete(lease: &pb::Lease) -> Request {
    Request { completions: vec![completion(lease)], ..Default::default() }
}

/// A request with a call that is refused, so that it is acknowledged at once.
pub(crate) fn complete_nothing() -> Request {
    let nothing = pb::CompleteOperationRequest::default();
    Request { completions: vec![nothing], ..Default::default() }
}

/// Breaks the stream and waits until the server has noticed, so that the grace of its leases runs.
pub(crate) async fn cut(fixture: &Fixture, stream: WorkerStream) {
    let before = fixture.clock.count(GRACE);
    stream.cut().await;
    fixture.clock.asked_for(GRACE, before + 1).await;
}

/// How long the leases of a broken stream last.
pub(crate) const GRACE: Duration = Duration::from_secs(3);

impl WorkerStream {
    /// Opens a stream without sending a message.
    pub(crate) async fn open(fixture: &Fixture) -> Self {
        Self::open_as("", fixture).await
    }

    /// The same with a token.
    pub(crate) async fn open_as(token: &str, fixture: &Fixture) -> Self {
        let socket = Arc::new(Mutex::new(None));
        let (address, kept) = (fixture.address, socket.clone());
        let connector = tower::service_fn(move |_| {
            let kept = kept.clone();
            async move {
                let stream = TcpStream::connect(address)?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                *kept.lock().expect("the socket") = Some(stream.try_clone()?);
                Ok::<_, std::io::Error>(TokioIo::new(tokio::net::TcpStream::from_std(stream)?))
            }
        });
        let endpoint = Endpoint::from_static("http://longhaul.test");
        let channel = within("a connection", endpoint.connect_with_connector(connector)).await;
        let (requests, said) = mpsc::channel(16);
        let mut client = WorkersClient::new(channel.expect("a connection"));
        let replies =
            within("a stream", client.serve_queue(with(token, ReceiverStream::new(said)))).await;
        let replies = replies.expect("a stream").into_inner();
        let socket = socket.lock().expect("the socket").take();
        Self { requests: Some(requests), replies, socket, sequence: 0, read: 0 }
    }

    /// A worker with so many slots, welcomed.
    pub(crate) async fn serving(fixture: &Fixture, hello: Hello, count: i32) -> Self {
        let mut stream = Self::open(fixture).await;
        let welcome = stream.greet(hello, count).await;
        assert!(welcome.lost.is_empty(), "{welcome:?}");
        stream
    }

    /// Sends Hello, and returns the reply.
    pub(crate) async fn greet(
        &mut self,
        hello: Hello,
        count: i32,
    ) -> pb::serve_queue_response::Welcome {
        self.say(Request { hello: Some(hello), ..slots(count) }).await;
        self.hear().await.welcome.expect("a welcome")
    }

    /// Sends a message; fills in the numbers.
    pub(crate) async fn say(&mut self, request: Request) {
        self.sequence += 1;
        let (sequence, seen_sequence) = (self.sequence, self.read);
        self.say_as_it_is(Request { sequence, seen_sequence, ..request }).await;
    }

    pub(crate) async fn say_as_it_is(&mut self, request: Request) {
        let requests = self.requests.as_ref().expect("an open side");
        within("room for a request", requests.send(request)).await.expect("a stream");
    }

    /// The next reply.
    pub(crate) async fn hear(&mut self) -> Reply {
        let reply = self.message().await.expect("no error").expect("a reply, not the end");
        self.read += 1;
        assert_eq!(reply.sequence, self.read, "{reply:?}");
        reply
    }

    /// The next reply with leases, which it acknowledges.
    pub(crate) async fn leases(&mut self, count: usize) -> Vec<pb::Lease> {
        let mut leases = Vec::new();
        while leases.len() < count {
            leases.extend(self.hear().await.leases);
        }
        assert_eq!(leases.len(), count, "{leases:?}");
        self.say(Request::default()).await;
        leases
    }

    /// Sends a message and waits until it is acknowledged; returns the outcomes meanwhile.
    pub(crate) async fn settle(
        &mut self,
        request: Request,
    ) -> Vec<pb::serve_queue_response::Outcome> {
        self.say(request).await;
        let mut outcomes = Vec::new();
        loop {
            let reply = self.hear().await;
            outcomes.extend(reply.outcomes);
            if reply.acknowledged_sequence >= self.sequence {
                return outcomes;
            }
        }
    }

    /// The next reply with a signal about something.
    pub(crate) async fn signal(&mut self) -> pb::serve_queue_response::Signal {
        loop {
            if let Some(signal) = self.hear().await.signals.pop() {
                return signal;
            }
        }
    }

    /// The next message, or how the stream ended.
    pub(crate) async fn message(&mut self) -> Result<Option<Reply>, Status> {
        within("a reply of a stream", self.replies.message()).await
    }

    /// Closes this side; returns all further messages until the end.
    pub(crate) async fn half_close(mut self) -> Vec<Reply> {
        drop(self.requests.take());
        let mut replies = Vec::new();
        while let Some(reply) = self.message().await.expect("the end with OK") {
            replies.push(reply);
        }
        replies
    }

    /// How the server ends the stream.
    pub(crate) async fn ended(&mut self) -> Result<(), Status> {
        while self.message().await?.is_some() {}
        Ok(())
    }

    /// The connection breaks.
    pub(crate) async fn cut(mut self) {
        let socket = self.socket.take().expect("a socket");
        socket.shutdown(Shutdown::Both).expect("a connection");
        within("the client to notice", self.ended()).await.expect_err("a broken stream");
    }
}
