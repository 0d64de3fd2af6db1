//! Background tasks: named, counted, and ended together.
//!
//! Their futures are in boxes: on its way into a task a future is moved several times, and each wrapper would hold it twice.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// The tasks of one engine or server. Clones are the same tasks.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs `future` until it ends or [`Self::stop`] is called.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let (stop, future) = (self.stop.clone(), Box::pin(future));
        let until_stopped = async move { stop.run_until_cancelled(future).await };
        self.tracker.spawn(
            async move { until_stopped.await.unwrap_or_default() }
                .instrument(tracing::info_span!("task", name)),
        );
    }

    /// Runs `future` to its end, even after [`Self::stop`]: for work that must not be cut.
    pub fn finish(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(Box::pin(future).instrument(tracing::info_span!("task", name)));
    }

    /// Aborts all spawned tasks and waits for their end.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
