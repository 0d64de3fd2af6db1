//! Metrics by queue. At most [`MAX_METRIC_QUEUES`] queues have a name here; all others are counted as `other`.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::limits::MAX_METRIC_QUEUES;

/// The numbers of all queues.
pub(in crate::engine) struct QueueMetrics {
    leases: Counters,
    failures: Counters,
    pending: Gauges,
    running: Gauges,
    workers: Gauges,
    oldest: Family<Label, Gauge<f64, AtomicU64>>,
    /// The queues that have a name here.
    named: Mutex<HashSet<String>>,
}

/// What this server counts of one queue.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct QueueCounters {
    pub(in crate::engine) leases: Counter,
    pub(in crate::engine) failures: Counter,
}

/// What was measured of one queue.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct QueueGauges {
    pub(in crate::engine) queue: String,
    pub(in crate::engine) pending: u64,
    pub(in crate::engine) running: u64,
    pub(in crate::engine) workers: u64,
    pub(in crate::engine) oldest: Option<Duration>,
}

type Label = [(&'static str, String); 1];
type Counters = Family<Label, Counter>;
type Gauges = Family<Label, Gauge>;

impl QueueMetrics {
    pub(super) fn of(registry: &mut Registry) -> Self {
        let metrics = Self {
            leases: Counters::default(),
            failures: Counters::default(),
            pending: Gauges::default(),
            running: Gauges::default(),
            workers: Gauges::default(),
            oldest: Family::default(),
            named: Mutex::default(),
        };
        let its = registry;
        let leases = "Leases given by this server, by queue";
        its.register("queue_leases", leases, metrics.leases.clone());
        let failures = "Operations that failed on this server, by queue";
        its.register("queue_failures", failures, metrics.failures.clone());
        let pending = "Operations that wait, by queue, in the whole store";
        its.register("queue_pending_operations", pending, metrics.pending.clone());
        let running = "Operations that workers hold, by queue, in the whole store";
        its.register("queue_running_operations", running, metrics.running.clone());
        let workers = "Workers that serve the queue, on all servers";
        its.register("queue_workers", workers, metrics.workers.clone());
        let oldest = "How long the operation at the head of the queue has been ready, by queue";
        its.register_with_unit("queue_oldest_age", oldest, Unit::Seconds, metrics.oldest.clone());
        metrics
    }

    /// The counters of a queue.
    pub(in crate::engine) fn of_queue(&self, queue: &str) -> QueueCounters {
        let label = self.label(queue);
        QueueCounters {
            leases: self.leases.get_or_create_owned(&label),
            failures: self.failures.get_or_create_owned(&label),
        }
    }

    /// The counters of all queues without a name here.
    pub(in crate::engine) fn others(&self) -> QueueCounters {
        let label = label(OTHER);
        QueueCounters {
            leases: self.leases.get_or_create_owned(&label),
            failures: self.failures.get_or_create_owned(&label),
        }
    }

    /// Takes in what was measured of all queues.
    pub(in crate::engine) fn measured(&self, queues: &[QueueGauges]) {
        for gauges in [&self.pending, &self.running, &self.workers] {
            gauges.clear();
        }
        self.oldest.clear();
        for queue in queues {
            let label = self.label(&queue.queue);
            self.pending.get_or_create(&label).inc_by(queue.pending as i64);
            self.running.get_or_create(&label).inc_by(queue.running as i64);
            self.workers.get_or_create(&label).inc_by(queue.workers as i64);
            let oldest = self.oldest.get_or_create(&label);
            let age = queue.oldest.unwrap_or_default().as_secs_f64();
            oldest.set(oldest.get().max(age));
        }
    }

    fn label(&self, queue: &str) -> Label {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let has_name = named.contains(queue)
            || named.len() < MAX_METRIC_QUEUES && named.insert(queue.to_owned());
        label(if has_name { queue } else { OTHER })
    }
}

fn label(queue: &str) -> Label {
    [("queue", queue.to_owned())]
}

/// The label of all queues without a name here. A queue of this name shares it.
const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn many_queues_are_counted_as_other() {
        let mut registry = Registry::default();
        let metrics = QueueMetrics::of(&mut registry);
        for number in 0..MAX_METRIC_QUEUES + 20 {
            metrics.of_queue(&format!("q{number}")).leases.inc();
        }
        metrics.others().leases.inc();
        let gauges = |queue: &str, pending, seconds| QueueGauges {
            queue: queue.to_owned(),
            pending,
            oldest: Some(Duration::from_secs(seconds)),
            ..QueueGauges::default()
        };
        metrics.measured(&[gauges("q1", 3, 1), gauges("new", 4, 2), gauges("newer", 5, 9)]);
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        for line in [
            "queue_leases_total{queue=\"q7\"} 1",
            "queue_leases_total{queue=\"other\"} 21",
            "queue_pending_operations{queue=\"q1\"} 3",
            "queue_pending_operations{queue=\"other\"} 9",
            "queue_oldest_age_seconds{queue=\"other\"} 9.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("new"), "{text}");
        // What is gone is not shown any more.
        metrics.measured(&[]);
        text.clear();
        encode(&mut text, &registry).expect("text");
        assert!(!text.contains("queue_pending_operations{"), "{text}");
    }
}
