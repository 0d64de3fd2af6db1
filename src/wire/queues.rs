//! Conversions for `longhaul.v1.Queues`.

use super::fields::{duration, text};
use super::operations::page_size;
use crate::engine::{
    Error, Guard, QueueListQuery, QueuePage, QueueUpdate, Resource, Result, ShownQueue,
    ShownWorker, WorkerListQuery, WorkerPage,
};
use crate::limits::{
    AGING_INTERVAL, MAX_LABEL_NAME_BYTES, MAX_LEASE_RATE, MAX_RUNNING_LIMIT, MIN_LEASE_RATE,
};
use crate::operation::name::Queue;
use crate::operation::worker::WorkerProcess;
use crate::proto::longhaul::v1 as pb;
use crate::record::server::HeldOperation;

/// The name of a queue.
pub fn name(field: &str, text: &str) -> Result<Queue> {
    if text.is_empty() {
        let message = format!("{field} must be set; it looks like queues/ID");
        return Err(Error::field(field, message));
    }
    Queue::parse(text).map_err(|error| Box::<Error>::from(error).with("field", field))
}

/// Reads a list.
pub fn list(request: pb::ListQueuesRequest) -> Result<QueueListQuery> {
    Ok(QueueListQuery { page_size: page_size(request.page_size)?, page_token: request.page_token })
}

/// Reads a pause.
pub fn pause(request: pb::PauseQueueRequest) -> Result<QueueUpdate> {
    let pb::PauseQueueRequest { name, etag } = request;
    paused(&name, etag, true)
}

/// Reads the end of a pause.
pub fn resume(request: pb::ResumeQueueRequest) -> Result<QueueUpdate> {
    let pb::ResumeQueueRequest { name, etag } = request;
    paused(&name, etag, false)
}

fn paused(text: &str, etag: String, paused: bool) -> Result<QueueUpdate> {
    let queue = name("name", text)?;
    Ok(QueueUpdate { queue, etag, paused: Some(paused), ..QueueUpdate::default() })
}

/// Reads a change of settings.
pub fn update(request: pb::UpdateQueueRequest) -> Result<QueueUpdate> {
    let pb::UpdateQueueRequest { queue, update_mask } = request;
    let queue = queue.ok_or_else(|| Error::field("queue", "queue must be set"))?;
    let mut update = QueueUpdate {
        queue: name("queue.name", &queue.name)?,
        etag: queue.etag.clone(),
        ..QueueUpdate::default()
    };
    let is_set = |field: &str| match field {
        MAX_RUNNING => queue.max_running != 0,
        MAX_LEASES_PER_SECOND => queue.max_leases_per_second != 0.0,
        _ => queue.aging_interval.is_some(),
    };
    let paths = update_mask.map(|mask| mask.paths).unwrap_or_default();
    let paths: Vec<&str> = match paths.as_slice() {
        [] => SETTINGS.into_iter().filter(|field| is_set(field)).collect(),
        [all] if all == "*" => SETTINGS.to_vec(),
        paths => paths.iter().map(String::as_str).collect(),
    };
    if paths.is_empty() {
        let message = format!("nothing is set; set one of {}", SETTINGS.join(", "));
        return Err(Error::field("update_mask", message));
    }
    for path in paths {
        match path {
            MAX_RUNNING => update.max_running = Some(max_running(queue.max_running)?),
            MAX_LEASES_PER_SECOND => {
                update.max_leases_per_second = Some(lease_rate(queue.max_leases_per_second)?);
            }
            AGING => {
                let interval = duration("queue.aging_interval", queue.aging_interval)?;
                update.aging_interval = Some(interval.unwrap_or_default());
            }
            other => return Err(unknown(other)),
        }
    }
    Ok(update)
}

fn max_running(value: i32) -> Result<u32> {
    const FIELD: &str = "queue.max_running";
    let known = u32::try_from(value).ok().filter(|value| *value <= MAX_RUNNING_LIMIT);
    known.ok_or_else(|| {
        let message = format!(
            "{FIELD} is {value}; it must be between 1 and {MAX_RUNNING_LIMIT}, or 0 for no limit"
        );
        Error::field(FIELD, message)
    })
}

fn lease_rate(value: f64) -> Result<f64> {
    const FIELD: &str = "queue.max_leases_per_second";
    if value == 0.0 || (MIN_LEASE_RATE..=MAX_LEASE_RATE).contains(&value) {
        return Ok(value.abs());
    }
    let message = format!(
        "{FIELD} is {value}; it must be between {MIN_LEASE_RATE} and {MAX_LEASE_RATE}, or 0 for no limit"
    );
    Err(Error::field(FIELD, message))
}

fn unknown(path: &str) -> Box<Error> {
    let how = match path {
        "state" => "use PauseQueue or ResumeQueue instead".to_owned(),
        _ => format!("it may name {}, or be *", SETTINGS.join(", ")),
    };
    Error::field("update_mask", format!("update_mask names {path:?}; {how}"))
}

/// A queue.
pub fn shown(shown: ShownQueue) -> pb::Queue {
    let etag = shown.etag();
    let ShownQueue { queue, settings, count, oldest, served, .. } = shown;
    let state = if settings.paused { pb::queue::State::Paused } else { pb::queue::State::Active };
    let aging_interval = settings.aging_interval.unwrap_or(AGING_INTERVAL);
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    pb::Queue {
        name: queue.full(),
        state: state.into(),
        max_running: i32::try_from(settings.max_running).unwrap_or(i32::MAX),
        max_leases_per_second: settings.max_leases_per_second,
        aging_interval: aging_interval.try_into().ok(),
        etag,
        pending_operations: number(count.pending),
        running_operations: number(count.running),
        oldest_pending_time: oldest.map(Into::into),
        leases_per_second: served.leases_per_second,
        workers: i32::try_from(served.workers).unwrap_or(i32::MAX),
        last_lease_request_time: served.asked.map(Into::into),
        unserved: count.pending > 0 && served.workers == 0,
    }
}

/// Reads a list of workers.
pub fn list_workers(request: pb::ListWorkersRequest) -> Result<WorkerListQuery> {
    let queue = match request.queue.as_str() {
        queue if names_all(queue) => None,
        queue => Some(name("queue", queue)?),
    };
    let page_size = page_size(request.page_size)?;
    Ok(WorkerListQuery { queue, page_size, page_token: request.page_token })
}

/// Whether that stands for all queues.
pub(super) fn names_all(queue: &str) -> bool {
    matches!(queue, "" | "-" | "queues/-")
}

/// The workers of a drain, or of its end: their queue, and their name.
pub fn workers(queue: &str, worker: String) -> Result<(Queue, String)> {
    let queue = name("queue", queue)?;
    if worker.is_empty() {
        return Err(Error::field(
            "worker",
            "worker must be set; its name is in the list of workers",
        ));
    }
    Ok((queue, text("worker", worker, MAX_LABEL_NAME_BYTES)?))
}

/// A worker, with those of its operations that the caller could get itself.
pub fn shown_worker(guard: &Guard<'_>, shown: ShownWorker) -> pb::Worker {
    let ShownWorker { worker, server } = shown;
    let scope = guard.lease_scope(&worker.queue);
    let may_see = |held: &HeldOperation| {
        let parent = Resource::Operation(&held.name).parent();
        guard.allows_all() || parent.is_some_and(|parent| scope.covers(parent))
    };
    let held = |held: HeldOperation| pb::worker::HeldOperation {
        operation: held.name,
        attempt: held.attempt as i32,
        start_time: Some(held.start_time.into()),
    };
    let process = (worker.process != WorkerProcess::default()).then(|| process(worker.process));
    pb::Worker {
        queue: format!("queues/{}", worker.queue),
        worker: worker.name,
        process,
        server,
        stream: worker.holder.is_some(),
        slots: worker.slots as i32,
        held_count: worker.held as i32,
        held_operations: worker.operations.into_iter().filter(may_see).map(held).collect(),
        heard_time: Some(worker.heard.into()),
        drained: worker.is_drained,
    }
}

fn process(process: WorkerProcess) -> pb::WorkerProcess {
    pb::WorkerProcess {
        host: process.host,
        process_id: i64::try_from(process.id).unwrap_or(i64::MAX),
        start_time: process.start_time.map(Into::into),
        sdk_language: process.language,
        sdk_version: process.version,
    }
}

/// A page of a list of workers.
pub fn worker_list_reply(guard: &Guard<'_>, page: WorkerPage) -> pb::ListWorkersResponse {
    let workers = page.workers.into_iter().map(|worker| shown_worker(guard, worker)).collect();
    pb::ListWorkersResponse { workers, next_page_token: page.next_page_token }
}

/// A page of a list.
pub fn list_reply(page: QueuePage) -> pb::ListQueuesResponse {
    let queues = page.queues.into_iter().map(shown).collect();
    pb::ListQueuesResponse { queues, next_page_token: page.next_page_token }
}

const MAX_RUNNING: &str = "max_running";
const MAX_LEASES_PER_SECOND: &str = "max_leases_per_second";
const AGING: &str = "aging_interval";
/// The settings that a mask can name.
const SETTINGS: [&str; 3] = [MAX_RUNNING, MAX_LEASES_PER_SECOND, AGING];
