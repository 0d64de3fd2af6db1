//! Workers made with the SDK, beside a test.

use std::sync::Arc;

use longhaul::worker::{RunError, Worker};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Answer, Call, Fixture, Operation, State, pb, seconds, start, within};

/// A worker that runs beside the test.
pub(crate) struct Running {
    pub(crate) stop: CancellationToken,
    pub(crate) ends: Call<Result<(), RunError>>,
}

impl Running {
    pub(crate) fn begin(worker: Worker) -> Self {
        let stop = CancellationToken::new();
        let run = worker.run_until(stop.clone().cancelled_owned());
        Self { stop, ends: Call::begin("the worker's end", run) }
    }

    pub(crate) async fn finish(self) {
        self.stop.cancel();
        self.ends.end().await.expect("an orderly end");
    }
}

/// Messages between a handler and its test.
#[derive(Clone)]
pub(crate) struct Talk {
    pub(crate) said: mpsc::UnboundedSender<String>,
    pub(crate) go: Arc<Notify>,
}

impl Talk {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (said, heard) = mpsc::unbounded_channel();
        (Self { said, go: Arc::default() }, heard)
    }

    pub(crate) fn say(&self, text: impl Into<String>) {
        self.said.send(text.into()).expect("a test that listens");
    }
}

pub(crate) async fn hear(heard: &mut mpsc::UnboundedReceiver<String>, text: &str) {
    let said = within(&format!("a handler to say {text:?}"), heard.recv()).await;
    assert_eq!(said.as_deref(), Some(text));
}

pub(crate) fn worker(fixture: &Fixture, queue: &str) -> Worker {
    Worker::builder(fixture.channel.clone()).queue(queue).clock(fixture.clock.clone())
}

pub(crate) async fn started(fixture: &Fixture, queue: &str, method: &str) -> String {
    let start = pb::StartOperationRequest { method: method.to_owned(), ..start(queue) };
    fixture.start(start).await.granted().name
}

pub(crate) async fn ended(fixture: &Fixture, name: &str) -> Operation {
    fixture.wait(name, seconds(60)).end().await.granted()
}

/// The record once it is in that state.
pub(crate) async fn becomes(fixture: &Fixture, name: &str, state: State) -> pb::OperationRecord {
    within(&format!("{name} to become {state:?}"), async {
        loop {
            let record = fixture.record(name).await;
            if record.state() == state {
                return record;
            }
        }
    })
    .await
}

/// The record once it waits for another lease.
pub(crate) async fn tried_before(fixture: &Fixture, name: &str) -> pb::OperationRecord {
    within(&format!("{name} to be given back"), async {
        loop {
            let record = fixture.record(name).await;
            let data = record.server_metadata.clone().expect("metadata");
            if record.state() == State::Pending && data.start_time.is_some() {
                return record;
            }
        }
    })
    .await
}
