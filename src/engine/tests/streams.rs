//! The cost for the server of a stream whose worker does not keep up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::Bench;
use crate::engine::workers::stream::{CallKind, Hello, Input, StreamCall, StreamRequest};
use crate::engine::{Error, LeaseScope};
use crate::operation::name::Queue;
use crate::operation::worker::WorkerProcess;

#[tokio::test]
async fn a_worker_that_does_not_read_is_not_listened_to_for_ever() {
    let bench = Bench::new();
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = heard.clone();
    let said = stream::iter(1..=MESSAGES).map(move |sequence| {
        counter.fetch_add(1, Ordering::Relaxed);
        Input::Request(Ok(refused(sequence)))
    });
    let mut answers = bench.engine.serve_queue(Box::pin(said.chain(stream::pending())));
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let unread = heard.load(Ordering::Relaxed);
    assert!(unread * CALLS < 3_000, "{unread} messages were taken in and none was answered");
    let (mut outcomes, mut acknowledged) = (0, 0);
    while acknowledged < MESSAGES {
        let answer = answers.recv().await.expect("a stream").expect("no error");
        outcomes += answer.outcomes.len();
        acknowledged = answer.acknowledged_sequence;
    }
    assert_eq!(outcomes, MESSAGES as usize * CALLS);
}

/// Nothing in it can be handled.
fn refused(sequence: i64) -> StreamRequest {
    let call = |_| StreamCall {
        kind: CallKind::Completion,
        name: "nobody".to_owned(),
        command: Err(Error::field("name", "there is no such name")),
    };
    StreamRequest {
        sequence,
        seen_sequence: 0,
        hello: (sequence == 1).then(hello),
        slots: None,
        calls: (0..CALLS).map(call).collect(),
    }
}

fn hello() -> Hello {
    Hello {
        scope: LeaseScope::default(),
        queue: Queue::parse("q").expect("queue"),
        worker: "w".to_owned(),
        process: WorkerProcess::default(),
        duration: Duration::from_secs(30),
        grace: Duration::from_secs(3),
        held: Vec::new(),
    }
}

const MESSAGES: i64 = 200;
const CALLS: usize = 100;
