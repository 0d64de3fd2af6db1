//! `ServeQueue`: one stream between a worker and a queue, as "ServeQueue" in the design of the API has it to the letter.
//!
//! One task per stream (`session.rs`) takes in what the worker says and what the server has for it, and says whatever has
//! gathered in one message. What it holds lies in `holdings.rs`, what the worker says of it is handled in `calls.rs`.

mod calls;
mod holdings;
mod messages;
mod outgoing;
mod patience;
mod session;

use std::pin::Pin;

use futures_util::Stream;
use tokio::sync::mpsc;

pub use self::messages::{
    Call, CallKind, CallOutcome, Hello, Input, Request, Response, Signal, Welcome,
};
use self::session::Session;
use crate::engine::Engine;
use crate::engine::caller::Caller;
use crate::engine::error::Result;
use crate::engine::metrics::Present;

/// What arrives, in order.
pub type Incoming = Pin<Box<dyn Stream<Item = Input> + Send>>;
/// What is sent; an error is the last.
pub type Outgoing = mpsc::Receiver<Result<Response>>;

impl Engine {
    /// Serves a queue to a worker until either side ends it.
    pub fn serve_queue(&self, caller: Caller, incoming: Incoming) -> Outgoing {
        // One message waits while another is written; whatever comes meanwhile gathers in the session.
        let (sender, receiver) = mpsc::channel(1);
        let engine = self.clone();
        let open = Present::in_gauge(&self.inner.metrics.streams_open);
        self.inner.tasks.spawn("stream", async move {
            let _open = open;
            if let Err(end) = Session::run(engine, caller, incoming, &sender).await {
                // Nobody reads it where the worker is gone.
                let _ = sender.send(Err(end)).await;
            }
        });
        receiver
    }
}
