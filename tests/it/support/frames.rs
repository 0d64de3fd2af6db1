//! `ServeQueue`, frame by frame.

use h2::{Reason, RecvStream, SendStream};
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};

use super::http::{Http2, uri};
use super::stream::{Reply, Request};
use super::within;

impl Http2 {
    /// Opens `ServeQueue`.
    pub(crate) async fn serve_queue(&self) -> RawStream {
        let request = http::Request::post(uri("/longhaul.v1.Workers/ServeQueue"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let opened = async {
            let mut requests = self.requests.clone().ready().await.expect("a connection");
            let (answer, requests) = requests.send_request(request, false).expect("a request");
            (requests, answer.await.expect("an answer").into_body())
        };
        let (requests, replies) = within("a stream", opened).await;
        RawStream { requests, replies, read: BytesMut::new(), sequence: 0, seen: 0 }
    }
}

/// One stream.
pub(crate) struct RawStream {
    requests: SendStream<Bytes>,
    replies: RecvStream,
    read: BytesMut,
    sequence: i64,
    seen: i64,
}

impl RawStream {
    /// Sends a message; fills in the numbers.
    pub(crate) fn say(&mut self, request: Request) {
        self.sequence += 1;
        let (sequence, seen_sequence) = (self.sequence, self.seen);
        let message = Request { sequence, seen_sequence, ..request }.encode_to_vec();
        let mut frame = BytesMut::with_capacity(message.len() + PREFIX);
        frame.put_u8(0);
        frame.put_u32(message.len() as u32);
        frame.put_slice(&message);
        self.requests.send_data(frame.freeze(), false).expect("an open stream");
    }

    /// The next reply.
    pub(crate) async fn hear(&mut self) -> Reply {
        let reply = within("a reply of a stream", async {
            loop {
                if self.read.len() >= PREFIX {
                    let length = (&self.read[1..PREFIX]).get_u32() as usize;
                    if self.read.len() >= PREFIX + length {
                        let frame = self.read.split_to(PREFIX + length);
                        return Reply::decode(&frame[PREFIX..]).expect("a reply");
                    }
                }
                let data = self.replies.data().await.expect("no end").expect("no error");
                self.replies.flow_control().release_capacity(data.len()).expect("flow");
                self.read.extend_from_slice(&data);
            }
        });
        let reply = reply.await;
        self.seen = reply.sequence;
        reply
    }

    /// Ends this side with END_STREAM, and reads to the end.
    pub(crate) async fn end(mut self) {
        self.requests.send_data(Bytes::new(), true).expect("an open stream");
        within("the end of a stream", async {
            while let Some(data) = self.replies.data().await {
                let length = data.expect("no error").len();
                self.replies.flow_control().release_capacity(length).expect("flow");
            }
        })
        .await;
    }

    /// Ends this side with END_STREAM, and then the whole stream.
    pub(crate) async fn end_and_reset(mut self, reason: Reason) {
        self.requests.send_data(Bytes::new(), true).expect("an open stream");
        // Arrived by the time the server sends something more.
        drop(within("a reply of a stream", self.replies.data()).await);
        self.requests.send_reset(reason);
    }

    /// Ends the whole stream with RST_STREAM.
    pub(crate) fn reset(mut self, reason: Reason) {
        self.requests.send_reset(reason);
    }
}

/// The prefix of each gRPC message.
const PREFIX: usize = 5;
