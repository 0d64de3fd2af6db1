//! `ServeQueue`: one stream between a worker and a queue, as "ServeQueue" in the design of the API has it to the letter.
//!
//! One task per stream (`session.rs`) takes in what the worker says and what the server has for it, and says whatever has
//! gathered in one message. What it holds lies in `holdings.rs`, what the worker says of it is handled in `calls.rs`.

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
    Call, CallKind, CallOutcome, Hello, Incoming, Input, Outgoing, Request, Response, Signal,
    Welcome,
};
use self::rooms::Rooms;
use self::session::Session;
use crate::engine::metrics::Present;

/// Serves a queue to a worker until either side ends it.
pub(in crate::engine) fn serve(rooms: &Arc<Rooms>, incoming: Incoming) -> Outgoing {
    // One message waits while another is written; whatever comes meanwhile gathers in the session.
    let (sender, receiver) = mpsc::channel(1);
    let open = Present::in_gauge(&rooms.context.metrics.streams_open);
    let serving = Arc::clone(rooms);
    rooms.context.tasks.spawn("stream", async move {
        let _open = open;
        if let Err(end) = Session::run(serving, incoming, &sender).await {
            // Nobody reads it where the worker is gone.
            let _ = sender.send(Err(end)).await;
        }
    });
    receiver
}
