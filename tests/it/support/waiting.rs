//! Waits that end: every wait of a test has a bound in real time, and names what it waited for.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::{Status, Streaming};

use super::{EventType, pb};

/// Waits for `future`, generously; panics with `what` if it takes too long.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {BOUND:?} for {what}"),
    }
}

/// A call that runs beside the test.
pub(crate) struct Call<T> {
    what: String,
    tasks: JoinSet<T>,
}

impl<T: Send + 'static> Call<T> {
    /// Begins it.
    pub(crate) fn begin(
        what: impl Into<String>,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(call);
        Self { what: what.into(), tasks }
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> T {
        let ended = within(&self.what, self.tasks.join_next()).await;
        ended.expect("one task").expect("a call that does not panic")
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.tasks.try_join_next().is_none()
    }

    /// Its client goes away in the middle of it.
    pub(crate) async fn give_up(mut self) {
        within("a call to be given up", self.tasks.shutdown()).await;
    }
}

/// A watcher of an operation.
#[derive(Debug)]
pub(crate) struct Watcher {
    stream: Streaming<pb::WatchOperationResponse>,
}

impl Watcher {
    pub(crate) fn new(stream: Streaming<pb::WatchOperationResponse>) -> Self {
        Self { stream }
    }

    /// The next event, or how the stream ended.
    pub(crate) async fn message(&mut self) -> Result<Option<pb::WatchOperationResponse>, Status> {
        within("an event of a watch", self.stream.message()).await
    }

    /// The next event, which is of that kind.
    pub(crate) async fn expect(&mut self, kind: EventType) -> pb::WatchOperationResponse {
        let event = self.message().await.expect("no error").expect("an event, not the end");
        assert_eq!(event.r#type(), kind, "{event:?}");
        event
    }

    /// Events up to the first of that kind; all others before it are of one kind.
    pub(crate) async fn until(
        &mut self,
        kind: EventType,
        before: EventType,
    ) -> pb::WatchOperationResponse {
        loop {
            let event = self.message().await.expect("no error").expect("an event, not the end");
            if event.r#type() == kind {
                return event;
            }
            assert_eq!(event.r#type(), before, "{event:?}");
        }
    }

    /// The stream ends OK.
    pub(crate) async fn expect_end(&mut self) {
        let end = self.message().await.expect("the end with OK");
        assert!(end.is_none(), "{end:?} instead of the end");
    }
}

/// Only ever reached by a test that fails.
const BOUND: Duration = Duration::from_secs(30);
