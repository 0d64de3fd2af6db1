//! Prometheus metrics of one engine.
//!
//! Every counter is one atomic number that exists before the first call: counting needs no lookup and no allocation.
//! Each server counts its own work. `docs/metrics.md` explains each metric; a test compares the two.

mod queues;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub(super) use self::queues::{QueueCounters, QueueGauges, QueueMetrics};
use crate::clock::Timestamp;
use crate::operation::lease::{Call, EndedLease};
use crate::operation::{Operation, Record, State};
use crate::store::{CommitError, StoreError};

/// The numbers of one engine.
pub(super) struct Metrics {
    registry: Registry,
    cancel_delivery: Histogram,
    started: Counter,
    ended: EndCounters,
    pub(super) given: LeaseCounters,
    lost: Counter,
    released_unseen: Counter,
    pub(super) streams_open: Gauge,
    stream_leases: Gauge,
    pub(super) watchers: Gauge,
    pub(super) watch_resyncs: Counter,
    conflicts: Counter,
    unavailable: Counter,
    pub(super) unreadable: Gauge,
    pub(super) queues: QueueMetrics,
    pub(super) deliveries: DeliveryMetrics,
}

/// Deliveries to callbacks and endpoints.
pub(super) struct DeliveryMetrics {
    pub(super) delivered: Counter,
    pub(super) failed_attempts: Counter,
    pub(super) given_up: Counter,
    pub(super) running: Gauge,
    pub(super) latency: Histogram,
}

/// Operations that ended, by how.
struct EndCounters {
    succeeded: Counter,
    failed: Counter,
    cancelled: Counter,
    deleted: Counter,
}

/// Leases, by how they were given.
pub(super) struct LeaseCounters {
    start: Counter,
    dispatcher: Counter,
    starter: Counter,
}

/// Counts as one while it lives.
pub(super) struct Present(Gauge);

type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("longhaul");
        let its = &mut registry;
        let cancel_delivery = Histogram::new(CANCEL_DELIVERY_BUCKETS);
        its.register_with_unit(
            "cancel_delivery",
            "Time from a request to cancel until its worker received it",
            Unit::Seconds,
            cancel_delivery.clone(),
        );
        let lost =
            "Leases that ended without their worker: expired, timed out, or cancelled by force";
        Self {
            cancel_delivery,
            started: counter(its, "operations_started", "Operations started"),
            ended: EndCounters::of(its),
            given: LeaseCounters::of(its),
            lost: counter(its, "leases_lost", lost),
            released_unseen: counter(
                its,
                "leases_released_unseen",
                "Leases given back because their worker never saw them",
            ),
            streams_open: gauge(its, "streams_open", "Streams of workers that are open"),
            stream_leases: gauge(its, "stream_leases_held", "Leases held by open streams"),
            watchers: gauge(its, "watchers", "Callers that wait for operations or watch them"),
            watch_resyncs: counter(
                its,
                "watch_resyncs",
                "Snapshots that watches of sets received anew because changes may have been missing",
            ),
            conflicts: counter(
                its,
                "commit_conflicts",
                "Commits refused because the record had changed since it was read",
            ),
            unavailable: counter(
                its,
                "store_unavailable",
                "Calls that the store did not answer, or refused as a whole",
            ),
            unreadable: gauge(
                its,
                "unreadable_records",
                "Records that this server met and could not read",
            ),
            queues: QueueMetrics::of(its),
            deliveries: DeliveryMetrics::of(its),
            registry,
        }
    }

    /// All counters in the text format of OpenMetrics; `stream_leases` is the number of leases held by streams.
    pub(super) fn text(&self, stream_leases: usize) -> String {
        self.stream_leases.set(stream_leases as i64);
        let mut text = String::new();
        let written = encode(&mut text, &self.registry);
        debug_assert!(written.is_ok(), "a String takes whatever is written to it");
        text
    }

    /// Somebody started an operation.
    pub(super) fn started(&self) {
        self.started.inc();
    }

    /// A record changed from one state to another.
    pub(super) fn changed(&self, before: &Operation, after: Option<&Record>) {
        match after {
            Some(Record::Operation(after)) => {
                self.ended(before, &after.state);
                self.lease_ended(before, &after.ended_leases);
                if after.unseen_leases > before.unseen_leases {
                    self.released_unseen.inc();
                }
                if let Some(waited) = cancel_delivery(before, after) {
                    self.cancel_delivery.observe(waited.as_secs_f64());
                }
            }
            Some(Record::Tombstone(after)) => {
                if !before.state.is_done() {
                    self.ended.deleted.inc();
                }
                self.lease_ended(before, &after.ended_leases);
            }
            None => {}
        }
    }

    fn ended(&self, before: &Operation, after: &State) {
        if before.state.is_done() {
            return;
        }
        let counter = match after {
            State::Succeeded(_) => &self.ended.succeeded,
            State::Failed(_) => &self.ended.failed,
            State::Cancelled(_) => &self.ended.cancelled,
            State::Pending(_) | State::Running(_) | State::Cancelling(..) | State::Suspended(_) => {
                return;
            }
        };
        counter.inc();
    }

    fn lease_ended(&self, before: &Operation, after: &[EndedLease]) {
        let Some(lease) = before.state.lease() else { return };
        if after.iter().any(|ended| ended.token == lease.token && ended.call == Call::Lost) {
            self.lost.inc();
        }
    }

    /// A commit was refused.
    pub(super) fn refused(&self, error: &CommitError) {
        match error {
            CommitError::Conflict => {
                self.conflicts.inc();
            }
            CommitError::Early | CommitError::Late => {}
            CommitError::Unavailable(error) => self.unanswered(error),
        }
    }

    /// The store gave no answer.
    pub(super) fn unanswered(&self, error: &StoreError) {
        match error {
            StoreError::Away(_)
            | StoreError::Foreign(_)
            | StoreError::Unfit(_)
            | StoreError::Full(_)
            | StoreError::Closed => {
                self.unavailable.inc();
            }
            // One record cannot be read, although the store is available.
            StoreError::Damaged(_) | StoreError::Newer(_) => {}
        }
    }
}

impl DeliveryMetrics {
    fn of(its: &mut Registry) -> Self {
        let latency = Histogram::new(DELIVERY_BUCKETS);
        its.register_with_unit(
            "delivery_attempt",
            "Time from a request to a receiver until its reply, or until the attempt was given up",
            Unit::Seconds,
            latency.clone(),
        );
        Self {
            delivered: counter(its, "deliveries_accepted", "Deliveries that receivers accepted"),
            failed_attempts: counter(
                its,
                "delivery_attempts_failed",
                "Attempts of deliveries that receivers did not accept",
            ),
            given_up: counter(its, "deliveries_given_up", "Deliveries that are not tried again"),
            running: gauge(its, "delivery_attempts_running", "Attempts of deliveries that run"),
            latency,
        }
    }
}

/// How long a request to cancel took to its worker, where this change notes that it got there.
fn cancel_delivery(before: &Operation, after: &Operation) -> Option<std::time::Duration> {
    let trail = after.cancel_trail.as_ref()?;
    let known = before.cancel_trail.is_some_and(|trail| trail.deliver_time.is_some());
    let delivered = trail.deliver_time.as_ref().filter(|_| !known)?;
    Some(Timestamp::from(delivered).since(Timestamp::from(trail.request_time.as_ref()?)))
}

impl EndCounters {
    fn of(registry: &mut Registry) -> Self {
        let family = Labelled::default();
        let help = "Operations ended, by the state they ended in";
        registry.register("operations_ended", help, family.clone());
        let state = |name| family.get_or_create_owned(&[("state", name)]);
        Self {
            succeeded: state("succeeded"),
            failed: state("failed"),
            cancelled: state("cancelled"),
            deleted: state("deleted"),
        }
    }
}

impl LeaseCounters {
    fn of(registry: &mut Registry) -> Self {
        let family = Labelled::default();
        registry.register("leases_given", "Leases given, by how", family.clone());
        let by = |name| family.get_or_create_owned(&[("by", name)]);
        Self { start: by("start"), dispatcher: by("dispatcher"), starter: by("starter") }
    }

    /// With the commit that started the operation, to a worker that waited.
    pub(super) fn with_start(&self) {
        self.start.inc();
    }

    /// By the dispatcher of a queue.
    pub(super) fn by_dispatcher(&self) {
        self.dispatcher.inc();
    }

    /// Attributed to the caller that started the operation.
    pub(super) fn to_starter(&self) {
        self.starter.inc();
    }
}

impl Present {
    pub(super) fn in_gauge(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

/// From the latency of a pushed signal to that of a worker that only renews half-way through a long lease.
const CANCEL_DELIVERY_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];
/// From a receiver nearby to the longest attempt.
const DELIVERY_BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0, 20.0];

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, type, unit and meaning of each metric, as they are served.
    fn served() -> Vec<String> {
        let mut text = String::new();
        let metrics = Metrics::new();
        // A family without any member is not served.
        drop(metrics.queues.of_queue("q"));
        metrics.queues.measured(&[QueueGauges { queue: "q".to_owned(), ..QueueGauges::default() }]);
        encode(&mut text, &metrics.registry).expect("text");
        let mut rows: Vec<(String, String, String)> = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# ")) {
            let mut words = line.splitn(3, ' ');
            let mut word = || words.next().unwrap_or_default().to_owned();
            match (word().as_str(), word(), word()) {
                ("HELP", name, help) => rows.push((name, String::new(), help)),
                ("TYPE", _, kind) => rows.last_mut().expect("a metric").1 = kind,
                ("UNIT", name, unit) => assert!(name.ends_with(&unit), "{name} counts in {unit}"),
                ("EOF", ..) => {}
                other => panic!("{other:?}"),
            }
        }
        let row = |(name, kind, help): (String, String, String)| {
            let total = if kind == "counter" { "_total" } else { "" };
            format!("| `{name}{total}` | {kind} | {} |", help.trim_end_matches('.'))
        };
        rows.into_iter().map(row).collect()
    }

    #[test]
    fn the_page_explains_every_metric() {
        let page = include_str!("../../../docs/metrics.md");
        let rows: Vec<&str> =
            page.lines().filter(|line| line.starts_with("| `longhaul_")).collect();
        assert_eq!(rows, served(), "docs/metrics.md is out of date");
    }
}
