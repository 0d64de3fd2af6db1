//! Long answers, such as watches and the streams of workers, end soon after the credentials of their caller do.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::sent::SentCredential;
use crate::engine::{Caller, Engine};
use crate::grpc::status::to_status;
use crate::limits::CREDENTIAL_REREAD;

/// Whether the answer to a request may take long.
pub(super) fn lasts<B>(request: &Request<B>) -> bool {
    let last = request.uri().path().rsplit(['/', ':']).next().unwrap_or_default();
    LONG.iter().any(|long| last.starts_with(long)) || request.headers().contains_key(&PREFER)
}

/// An answer that ends when the credentials do.
struct Rechecked {
    inner: Body,
    /// How an answer over gRPC ends then; others are cut.
    trailers: Option<HeaderMap>,
    refused: BoxFuture<'static, ()>,
    is_over: bool,
}

/// The same answer, which ends when the credentials do.
pub(super) fn recheck(
    response: Response<Body>,
    engine: Engine,
    sent: SentCredential,
) -> Response<Body> {
    let is_grpc = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == GRPC);
    let trailers = is_grpc.then(|| {
        let status = to_status(Caller::refusal());
        let (mut head, _) = status.into_http::<Body>().into_parts();
        head.headers.remove(CONTENT_TYPE);
        head.headers
    });
    let refused = Box::pin(async move {
        loop {
            engine.clock().sleep(CREDENTIAL_REREAD).await;
            let Ok(credential) = sent.credential() else { return };
            // A store that does not answer takes nothing away.
            let found = engine.authenticate(&credential).await;
            if found.is_ok_and(|caller| caller.identity().is_none()) {
                return;
            }
        }
    });
    response.map(|inner| Body::new(Rechecked { inner, trailers, refused, is_over: false }))
}

impl http_body::Body for Rechecked {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if self.refused.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        // What was behind the answer ends now.
        self.is_over = true;
        self.inner = Body::empty();
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// How the last parts of the paths of such methods begin, over gRPC and over HTTP.
const LONG: [&str; 7] =
    ["Watch", "ServeQueue", "WaitOperation", "ExportRecords", "watch", "wait", "LeaseOperations"];
static PREFER: HeaderName = HeaderName::from_static("prefer");
const GRPC: &str = "application/grpc";
