//! `ServeQueue`: one stream between a worker and a queue, as `workers.proto` describes it.
//!
//! Each stream is one task (`session.rs`). It reads messages of the worker and events of the server, and sends everything
//! pending in one message. Its leases are in `holdings.rs`, the worker's calls are handled in `calls.rs`.

mod calls;
mod holdings;
mod messages;
mod outgoing;
mod patience;
pub(in crate::engine) mod rooms;
mod session;

use std::sync::Arc;

use tokio::sync::mpsc;

pub use self::messages::{
    CallKind, CallOutcome, Hello, Incoming, Input, Outgoing, Signal, StreamCall, StreamRequest,
    StreamResponse, Welcome,
};
use self::rooms::StreamRooms;
use self::session::StreamSession;
use crate::engine::metrics::Present;

/// Serves a queue to a worker until either side ends it.
pub(in crate::engine) fn serve(rooms: &Arc<StreamRooms>, incoming: Incoming) -> Outgoing {
    // One message waits while another is written; everything newer is gathered in the session.
    let (sender, receiver) = mpsc::channel(1);
    let open = Present::in_gauge(&rooms.context.metrics.streams_open);
    let serving = Arc::clone(rooms);
    rooms.context.tasks.spawn("stream", async move {
        let _open = open;
        if let Err(end) = StreamSession::run(serving, incoming, &sender).await {
            // If the worker is gone, there is no reader.
            let _ = sender.send(Err(end)).await;
        }
    });
    receiver
}
