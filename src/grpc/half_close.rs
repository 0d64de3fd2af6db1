//! Tells a stream that its client closed from one that broke.
//!
//! tonic shows both as the end of the messages. The body tells them apart: it is at its end only after a frame with
//! END_STREAM, not after a reset, whatever the code.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// Whether the client has closed its side; an extension of each request.
#[derive(Clone, Debug, Default)]
pub(super) struct HalfClosed(Arc<AtomicBool>);

impl HalfClosed {
    /// Known once the messages have ended.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A service whose requests carry [`HalfClosed`].
#[derive(Clone, Debug)]
pub(super) struct Noting<S>(pub(super) S);

impl<S: NamedService> NamedService for Noting<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for Noting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> S::Future {
        if !request.uri().path().ends_with(STREAMING) {
            return self.0.call(request);
        }
        let half_closed = HalfClosed::default();
        request.extensions_mut().insert(half_closed.clone());
        self.0.call(request.map(|body| Body::new(HalfCloseBody { body, half_closed })))
    }
}

struct HalfCloseBody {
    body: Body,
    half_closed: HalfClosed,
}

impl http_body::Body for HalfCloseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() && self.body.is_end_stream() {
            self.half_closed.0.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // So that readers poll for the end, where it is noted.
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The end of the path of the only method that uses it.
const STREAMING: &str = "/ServeQueue";
