//! The body of an answer on its way out: each piece counts until the connection has written it.

use std::error::Error as _;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tonic::body::Body;

use super::account::{OpenCall, Share};
use super::refusal::refusal;
use crate::engine::Error;

/// What is answered to a call.
pub(super) struct Leaving {
    body: Body,
    call: Option<Arc<OpenCall>>,
    /// What was made before the head was sent, so that an answer for which there is no room is refused instead.
    first: Poll<Option<Result<Frame<Piece>, Status>>>,
    ended: bool,
    face: Protocol,
    /// Ends a stream whose client takes it up again, so that an old connection can end.
    retired: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// Whose answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

/// A piece of an answer.
pub(super) struct Piece {
    bytes: Bytes,
    counted: Option<PieceShare>,
}

struct PieceShare(Share);

/// The answer of a call, or a refusal where there is no room for its first piece.
pub(super) fn leaving(
    answer: Response<Body>,
    call: Arc<OpenCall>,
    face: Protocol,
    context: &mut Context<'_>,
) -> Response<Leaving> {
    let (head, body) = answer.into_parts();
    let mut leaving =
        Leaving { body, call: Some(call), first: Poll::Pending, ended: false, face, retired: None };
    match leaving.poll_body(context) {
        Poll::Ready(Some(Err(refusal))) if leaving.ended => Leaving::refused(refusal, face),
        first => {
            leaving.first = first;
            Response::from_parts(head, leaving)
        }
    }
}

impl Leaving {
    /// An answer that only says why there is none.
    pub(super) fn refused(status: Status, face: Protocol) -> Response<Self> {
        let error = status.source().and_then(|source| source.downcast_ref::<Error>());
        let answer = match (face, error) {
            (Protocol::Http, Some(error)) => crate::http::refusal(error.clone()).map(Body::new),
            _ => status.into_http(),
        };
        let first = Poll::Pending;
        answer.map(|body| Self { body, call: None, first, ended: false, face, retired: None })
    }

    /// The same, which ends once its connection takes no more calls.
    pub(super) fn until_retired(self) -> Self {
        let retired =
            self.call.as_ref().map(|call| Box::pin(call.account.retired.clone().cancelled_owned()));
        Self { retired, ..self }
    }

    /// The end of a stream that goes on elsewhere: no error.
    fn retire(&mut self) -> Option<Result<Frame<Piece>, Status>> {
        self.ended = true;
        (self.face == Protocol::Grpc).then(|| {
            let mut trailers = HeaderMap::new();
            trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
            Ok(Frame::trailers(trailers))
        })
    }

    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        let data = match frame.map(|frame| frame.map(Frame::into_data)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(Err(trailers))) => {
                let trailers = trailers.into_trailers().unwrap_or_default();
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            Some(Ok(Ok(data))) => data,
        };
        let Some(call) = &self.call else { return Poll::Ready(None) };
        match call.account.take(data.len()) {
            Ok(share) => Poll::Ready(Some(Ok(Frame::data(Piece::new(data, share))))),
            Err(error) => {
                self.ended = true;
                Poll::Ready(Some(Err(refusal(error))))
            }
        }
    }
}

impl http_body::Body for Leaving {
    type Data = Piece;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Status>>> {
        if self.first.is_ready() {
            return std::mem::replace(&mut self.first, Poll::Pending);
        }
        let had_ended = self.ended;
        let Poll::Ready(frame) = self.poll_body(context) else {
            let retired = self.retired.as_mut().map(|retired| retired.as_mut().poll(context));
            let is_retired = retired.is_some_and(|retired| retired.is_ready());
            return if is_retired { Poll::Ready(self.retire()) } else { Poll::Pending };
        };
        Poll::Ready(match frame {
            // The end of a stream of messages says why.
            Some(Err(refusal)) if self.ended && !had_ended && self.face == Protocol::Grpc => {
                let mut trailers = HeaderMap::new();
                match refusal.add_header(&mut trailers) {
                    Ok(()) => Some(Ok(Frame::trailers(trailers))),
                    Err(error) => Some(Err(error)),
                }
            }
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.first {
            Poll::Ready(first) => first.is_none(),
            Poll::Pending => self.ended || self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        if let Poll::Ready(Some(Ok(first))) = &self.first {
            let bytes = first.data_ref().map_or(0, Buf::remaining) as u64;
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + bytes);
            }
            hint.set_lower(hint.lower() + bytes);
        }
        hint
    }
}

impl Piece {
    fn new(bytes: Bytes, share: Share) -> Self {
        share.account().unwritten(bytes.len());
        Self { counted: Some(PieceShare(share)), bytes }
    }
}

impl Drop for PieceShare {
    fn drop(&mut self) {
        self.0.account().wrote(self.0.bytes());
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if !self.bytes.has_remaining() {
            self.bytes = Bytes::new();
            self.counted = None;
        }
    }
}
