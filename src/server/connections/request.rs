//! The body of a request on its way in: counted, and given so long to arrive.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::account::{OpenCall, RETRY, Share};
use super::refusal::refusal;
use crate::clock::Clock;
use crate::engine::{Error, Reason};
use crate::limits::REQUEST_TIME;

/// What arrives of a call.
pub(super) struct Arriving<B> {
    body: B,
    call: Arc<OpenCall>,
    clock: Arc<dyn Clock>,
    /// What has arrived: of the whole request, or of the message of many that is not yet complete.
    shares: Vec<Share>,
    patience: Option<BoxFuture<'static, ()>>,
    /// Follows the messages where there may be many.
    messages: Option<MessageEnds>,
    passed: Option<Passed>,
}

/// A large message that was passed on: it is worked on for a while.
struct Passed {
    _shares: Vec<Share>,
    end: BoxFuture<'static, ()>,
}

impl<B> Arriving<B> {
    /// The body of a call with one request, or with many.
    pub(super) fn new(body: B, call: Arc<OpenCall>, clock: Arc<dyn Clock>, many: bool) -> Self {
        let messages = many.then(MessageEnds::default);
        Self { body, call, clock, shares: Vec::new(), patience: None, messages, passed: None }
    }

    fn arrived(&mut self, data: &Bytes) -> Result<(), Status> {
        let follows = self.messages.as_mut().is_some_and(|messages| messages.follow(data));
        self.shares.push(self.call.account.take(data.len()).map_err(refusal)?);
        if follows {
            self.patience = None;
            let shares = std::mem::take(&mut self.shares);
            let bytes: usize = shares.iter().map(Share::bytes).sum();
            self.passed = (bytes > SMALL_BYTES)
                .then(|| Passed { _shares: shares, end: self.clock.sleep(WORK_TIME) });
        }
        Ok(())
    }

    /// Fails once what is on its way is late.
    fn wait(&mut self, context: &mut Context<'_>) -> Result<(), Status> {
        if self.passed.as_mut().is_some_and(|passed| passed.end.poll_unpin(context).is_ready()) {
            self.passed = None;
        }
        if self.messages.as_ref().is_some_and(|messages| !messages.is_amid()) {
            return Ok(());
        }
        let patience = self.patience.get_or_insert_with(|| self.clock.sleep(REQUEST_TIME));
        if patience.poll_unpin(context).is_pending() {
            return Ok(());
        }
        let seconds = REQUEST_TIME.as_secs();
        let late = format!("the request did not arrive within {seconds} s; send it again");
        let error = Error::new(Reason::RequestLate, late);
        Err(refusal(error.retry_after(RETRY)))
    }
}

impl<B> Body for Arriving<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            return match this.wait(context) {
                Ok(()) => Poll::Pending,
                Err(late) => Poll::Ready(Some(Err(late))),
            };
        };
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(|error| Status::from_error(Box::new(error)));
        let counted = frame.and_then(|frame| {
            frame.data_ref().map_or(Ok(()), |data| this.arrived(data)).map(|()| frame)
        });
        Poll::Ready(Some(counted))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where messages of gRPC end.
#[derive(Debug, Default)]
struct MessageEnds {
    head: Vec<u8>,
    left: usize,
}

impl MessageEnds {
    /// Follows what arrives; whether a message has become complete by it.
    fn follow(&mut self, data: &[u8]) -> bool {
        let (mut data, mut ended) = (data, false);
        while !data.is_empty() {
            let wanted = if self.left > 0 { self.left } else { HEAD - self.head.len() };
            let (now, rest) = data.split_at(wanted.min(data.len()));
            data = rest;
            if self.left > 0 {
                self.left -= now.len();
                ended |= self.left == 0;
                continue;
            }
            self.head.extend_from_slice(now);
            if self.head.len() == HEAD {
                self.left = (&self.head[1..]).get_u32() as usize;
                self.head.clear();
                ended |= self.left == 0;
            }
        }
        ended
    }

    fn is_amid(&self) -> bool {
        self.left > 0 || !self.head.is_empty()
    }
}

/// What is not worth counting any more once it was passed on.
const SMALL_BYTES: usize = 64 << 10;
/// How long a message of a stream counts after it was passed on, if no other follows it.
const WORK_TIME: Duration = Duration::from_secs(1);
/// What stands before each message: whether it is compressed, and its length.
const HEAD: usize = 5;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::error::Error as _;
    use std::future::poll_fn;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::server::connections::account::Accounts;

    /// Never more than it has said.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_request_that_does_not_arrive_in_time_is_refused_and_a_quiet_stream_is_not() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let place = Accounts::new(clock.clone(), 1).admit().expect("a place");
        let call = place.0.call(0).expect("room");
        let arriving = |many| Arriving::new(Silent, call.clone(), clock.clone(), many);
        let (mut one, mut many) = (arriving(false), arriving(true));
        let mut both = std::pin::pin!(poll_fn(|context| {
            assert!(Pin::new(&mut many).poll_frame(context).is_pending());
            Pin::new(&mut one).poll_frame(context)
        }));
        assert!((&mut both).now_or_never().is_none());
        clock.advance(REQUEST_TIME);
        let late = both.await.expect("an answer").expect_err("a refusal");
        assert_eq!(late.code(), tonic::Code::Unavailable);
        let error = late.source().and_then(|source| source.downcast_ref::<Error>());
        assert_eq!(error.map(|error| error.reason), Some(Reason::RequestLate));
    }

    #[test]
    fn a_message_is_followed_to_its_end_however_it_is_cut() {
        let mut messages = MessageEnds::default();
        assert!(!messages.follow(&[0, 0, 0]));
        assert!(messages.is_amid());
        assert!(!messages.follow(&[0, 3, b'a']));
        assert!(!messages.follow(b"b"));
        assert!(messages.follow(b"c"));
        assert!(!messages.is_amid());
        assert!(messages.follow(&[0, 0, 0, 0, 0]), "an empty one");
        assert!(messages.follow(&[0, 0, 0, 0, 1, b'a', 0, 0]), "one and the beginning of the next");
        assert!(messages.is_amid());
    }
}
