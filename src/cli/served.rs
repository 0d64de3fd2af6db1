//! Queues and workers in a line each.

use super::{plain, table};
use crate::clock::Timestamp;
use crate::proto::longhaul::v1::queue::State;
use crate::proto::longhaul::v1::{Queue, Worker};

/// The id of a queue without its collection.
pub(super) fn id(queue: &Queue) -> &str {
    queue.name.trim_start_matches("queues/")
}

/// What an operator should know of a queue at a glance.
pub(super) fn remarks(queue: &Queue) -> String {
    let mut remarks = Vec::new();
    if queue.state() == State::Paused {
        remarks.push("PAUSED".to_owned());
    }
    if queue.unserved {
        remarks.push("NO WORKER".to_owned());
    }
    if queue.max_running > 0 {
        remarks.push(format!("at most {} run", queue.max_running));
    }
    if queue.max_leases_per_second > 0.0 {
        remarks.push(format!("at most {} leases/s", queue.max_leases_per_second));
    }
    remarks.join(", ")
}

/// How long the operation at the head of a queue has been ready.
pub(super) fn age(queue: &Queue, now: Timestamp) -> String {
    let oldest = queue.oldest_pending_time.as_ref().map(Timestamp::from);
    oldest.map_or_else(|| "-".to_owned(), |oldest| table::span(now.since(oldest)))
}

/// The columns of a worker: name, queue, held, slots, heard, process, server, remark.
pub(super) fn columns_of(worker: &Worker, now: Timestamp) -> [String; 8] {
    let process = worker.process.clone().unwrap_or_default();
    let sdk = [process.sdk_language.as_str(), &process.sdk_version].join(" ");
    let place = match process.host.as_str() {
        "" => "-".to_owned(),
        host => format!("{host}:{} {sdk}", process.process_id),
    };
    let slots = if worker.stream { worker.slots.to_string() } else { "-".to_owned() };
    [
        plain::line(&worker.worker),
        plain::line(worker.queue.trim_start_matches("queues/")),
        worker.held_count.to_string(),
        slots,
        table::ago(worker.heard_time.as_ref(), now),
        plain::line(place.trim_end()),
        plain::line(&worker.server),
        if worker.drained { "DRAINED".to_owned() } else { String::new() },
    ]
}
