//! Measures queues for `/metrics`, while somebody reads that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::queues::QueueCalls;
use crate::engine::error::Result;
use crate::engine::metrics::QueueGauges;
use crate::limits::MAX_STATS_QUEUES;

/// Measures the queues for `/metrics`.
#[derive(Clone, Copy, Debug)]
pub struct Measure;

impl QueueCalls {
    /// Somebody reads `/metrics`. The numbers of queues are those of the last measure.
    pub(in crate::engine) fn metrics_read(&self) {
        let now = self.context.clock.elapsed().as_micros() as u64 + 1;
        self.readings.last.store(now, Ordering::Relaxed);
        self.readings.read.notify_one();
    }

    /// Measures now and then while somebody reads `/metrics`.
    pub(in crate::engine) async fn run_measure(self: Arc<Self>) {
        loop {
            let now = self.context.clock.elapsed().as_micros() as u64;
            let last = self.readings.last.load(Ordering::Relaxed);
            if last == 0 || now.saturating_sub(last) > READ_LATELY.as_micros() as u64 {
                self.readings.read.notified().await;
            }
            if let Err(error) = self.measure().await {
                self.context.log_failure("could not measure the queues", &error);
            }
            self.context.sleep(INTERVAL).await;
        }
    }

    /// Measures the queues: all that are listed, if there are not too many.
    pub(in crate::engine) async fn measure(&self) -> Result<()> {
        let now = self.context.store.now(crate::record::queue::PARTITION);
        let queues = self.names().await?.into_iter().take(MAX_STATS_QUEUES).collect();
        let shown = self.show(queues).await?;
        let gauges = shown.into_iter().map(|shown| QueueGauges {
            queue: shown.queue.as_str().to_owned(),
            pending: shown.count.pending,
            running: shown.count.running,
            workers: shown.served.workers.into(),
            oldest: shown.oldest.map(|oldest| now.since(oldest)),
        });
        self.context.metrics.queues.measured(&gauges.collect::<Vec<_>>());
        Ok(())
    }
}

/// Between two measures.
const INTERVAL: Duration = Duration::from_secs(5);
/// Nobody is waited for who has not read for longer.
const READ_LATELY: Duration = Duration::from_mins(2);
