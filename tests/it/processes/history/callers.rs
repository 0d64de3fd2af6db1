//! Producers and callers: they start, read, wait, watch, cancel, pause, resume and delete.

use std::time::Duration;

use longhaul::proto::google::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
    WaitOperationRequest,
};
use longhaul::proto::longhaul::v1::batch_start_operations_response::result::Outcome as Started;
use longhaul::proto::longhaul::v1::callback::Event as Subscribed;
use longhaul::proto::longhaul::v1::producers_client::ProducersClient;
use longhaul::proto::longhaul::v1::{
    BatchStartOperationsRequest, Callback, GetOperationRecordRequest, OperationOptions,
    OperationView, PauseOperationRequest, ResumeOperationRequest, RetryPolicy,
    StartOperationRequest, WatchOperationRequest,
};

use super::event::{Act, News, Outcome, Seen};
use super::journal::outcome;
use super::look::{at_message, at_operation, payload};
use super::stage::{Actor, Looked, bounded, shown};

/// Starts operations until the history ends.
pub(super) async fn produce(mut actor: Actor, who: usize) {
    let mut number = 0;
    while !actor.stage.over.is_cancelled() {
        let size = if actor.dice.percent(25) { 4 } else { 1 };
        let first = number;
        number += size;
        let requests =
            (first..number).map(|number| request(&mut actor, &format!("h-{who}-{number}")));
        let requests: Vec<_> = requests.collect();
        match <[_; 1]>::try_from(requests) {
            Ok([request]) => start(&mut actor, request).await,
            Err(requests) => start_batch(&mut actor, requests).await,
        }
        // Acknowledged operations exist at once, for every reader.
        let started = format!("operations/h-{who}-{first}");
        if actor.dice.percent(50) {
            get(&mut actor, &started).await;
        }
        actor.pause(START_PAUSE * size).await;
    }
}

fn request(actor: &mut Actor, id: &str) -> StartOperationRequest {
    let duration = |millis| prost_types::Duration::try_from(Duration::from_millis(millis)).ok();
    let retry_policy = RetryPolicy {
        max_attempts: actor.dice.between(2, 6) as i32,
        initial_backoff: duration(actor.dice.between(20, 300)),
        max_backoff: duration(400),
        ..RetryPolicy::default()
    };
    let callback = actor.dice.percent(60).then(|| Callback {
        uri: actor.stage.receiver.url.clone(),
        events: vec![Subscribed::StateChanged.into()],
        ..Callback::default()
    });
    let options = OperationOptions {
        retry_policy: Some(retry_policy),
        callbacks: callback.into_iter().collect(),
        cancel_grace: duration(actor.dice.between(300, 2_000)),
        ..OperationOptions::default()
    };
    StartOperationRequest {
        operation_id: id.to_owned(),
        request_id: id.to_owned(),
        queue: (*actor.dice.pick(&QUEUES)).to_owned(),
        request: actor.dice.percent(30).then(|| payload(&"x".repeat(2_000))),
        options: Some(options),
        ..StartOperationRequest::default()
    }
}

/// Half of the starts with unknown result are retried until one is acknowledged.
async fn start(actor: &mut Actor, request: StartOperationRequest) {
    let name = format!("operations/{}", request.operation_id);
    actor.stage.add(&name, is_told(&request));
    loop {
        let mut producers = ProducersClient::new(actor.channel());
        let act = start_of(&request);
        let reply = actor.act(&name, act, producers.start_operation(request.clone())).await;
        if outcome(&reply) != Outcome::Unknown || actor.dice.percent(50) {
            return;
        }
        actor.pause(100).await;
    }
}

async fn start_batch(actor: &mut Actor, requests: Vec<StartOperationRequest>) {
    let begin = |request: &StartOperationRequest| {
        let name = format!("operations/{}", request.operation_id);
        actor.stage.add(&name, is_told(request));
        actor.journal.begin(&name, start_of(request))
    };
    let events: Vec<_> = requests.iter().map(begin).collect();
    let mut producers = ProducersClient::new(actor.channel());
    let batch = BatchStartOperationsRequest { parent: String::new(), requests };
    let reply = bounded(producers.batch_start_operations(batch)).await;
    let results = reply.map(|reply| reply.results).unwrap_or_default();
    let mut results = results.into_iter();
    for event in events {
        let started = results.next().and_then(|result| result.outcome);
        let ok = matches!(started, Some(Started::Operation(_)));
        actor.journal.end(event, if ok { Outcome::Ok } else { Outcome::Unknown });
    }
}

fn start_of(request: &StartOperationRequest) -> Act {
    let policy = request.options.as_ref().and_then(|options| options.retry_policy.as_ref());
    let max_attempts = policy.map_or(0, |policy| policy.max_attempts);
    Act::Start { max_attempts, told: is_told(request) }
}

fn is_told(request: &StartOperationRequest) -> bool {
    request.options.as_ref().is_some_and(|options| !options.callbacks.is_empty())
}

/// Reads and changes operations until the history ends.
pub(super) async fn call(mut actor: Actor) {
    while !actor.stage.over.is_cancelled() {
        actor.pause(CALL_PAUSE).await;
        let Some(name) = actor.some() else { continue };
        match actor.dice.below(100) {
            0..22 => get(&mut actor, &name).await,
            22..50 => drop(record(&mut actor, &name).await),
            50..55 => list(&mut actor).await,
            55..63 => wait(&mut actor, &name).await,
            63..71 => cancel(&mut actor, &name).await,
            71..80 => pause(&mut actor, &name).await,
            80..98 => resume(&mut actor, &name).await,
            _ => delete(&mut actor, &name).await,
        }
    }
}

pub(super) async fn get(actor: &mut Actor, name: &str) {
    let request = GetOperationRequest { name: name.to_owned() };
    let mut operations = actor.operations();
    actor.look(name, operations.get_operation(request), at_operation).await;
}

pub(super) async fn record(actor: &mut Actor, name: &str) -> Looked {
    let request = GetOperationRecordRequest { name: name.to_owned(), view: 0 };
    let mut callers = actor.callers();
    actor.look(name, callers.get_operation_record(request), shown).await
}

async fn list(actor: &mut Actor) {
    let begin = actor.journal.now();
    let request = ListOperationsRequest { page_size: 30, ..ListOperationsRequest::default() };
    let mut operations = actor.operations();
    if let Ok(page) = bounded(operations.list_operations(request)).await {
        actor.note_operations(begin, &page.operations);
    }
}

async fn wait(actor: &mut Actor, name: &str) {
    let timeout = Duration::from_millis(actor.dice.between(200, 9_000));
    let timeout = prost_types::Duration::try_from(timeout).ok();
    let request = WaitOperationRequest { name: name.to_owned(), timeout };
    let mut operations = actor.operations();
    let waited = |operation: &_| Seen { waited: true, ..at_operation(operation) };
    actor.look(name, operations.wait_operation(request), waited).await;
}

async fn cancel(actor: &mut Actor, name: &str) {
    let request = CancelOperationRequest { name: name.to_owned() };
    let mut operations = actor.operations();
    let _ = actor.act(name, Act::Cancel, operations.cancel_operation(request)).await;
}

async fn pause(actor: &mut Actor, name: &str) {
    let request = PauseOperationRequest { name: name.to_owned(), ..Default::default() };
    let mut callers = actor.callers();
    let _ = actor.act(name, Act::Pause, callers.pause_operation(request)).await;
}

pub(super) async fn resume(actor: &mut Actor, name: &str) {
    let request = ResumeOperationRequest { name: name.to_owned(), ..Default::default() };
    let mut callers = actor.callers();
    let _ = actor.act(name, Act::Resume, callers.resume_operation(request)).await;
}

async fn delete(actor: &mut Actor, name: &str) {
    let request = DeleteOperationRequest { name: name.to_owned() };
    let mut operations = actor.operations();
    let _ = actor.act(name, Act::Delete, operations.delete_operation(request)).await;
}

/// Watches one operation after the other, each to its end, until the history ends.
pub(super) async fn watch(mut actor: Actor) {
    let mut watches = 0;
    while !actor.stage.over.is_cancelled() {
        actor.pause(20).await;
        let Some(name) = actor.some() else { continue };
        let mut token = String::new();
        // A broken watch is attached again, and some unbroken ones too: changes meanwhile must not be missed.
        for _ in 0..30 {
            watches += 1;
            match watch_once(&mut actor, &name, watches, &token).await {
                Some(next) => token = next,
                None => break,
            }
            actor.pause(10).await;
        }
    }
}

/// Watches until it ends or breaks; where to go on after that.
async fn watch_once(actor: &mut Actor, name: &str, watch: u64, from: &str) -> Option<String> {
    let request = WatchOperationRequest {
        name: name.to_owned(),
        resume_token: from.to_owned(),
        heartbeat_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        view: OperationView::Full.into(),
        ..WatchOperationRequest::default()
    };
    let begin = actor.journal.now();
    let mut callers = actor.callers();
    let Ok(mut messages) = bounded(callers.watch_operation(request)).await else { return None };
    let note = |news| actor.journal.note(name, begin, Act::Watched(watch, news));
    let mut token = from.to_owned();
    loop {
        match tokio::time::timeout(SILENCE, messages.message()).await {
            Ok(Ok(Some(message))) => {
                let news = at_message(&message);
                let moves = matches!(news, News::Snapshot(_) | News::Update(_));
                let stays = moves || news == News::Heartbeat;
                note(news);
                token = message.resume_token;
                if moves && actor.dice.percent(50) {
                    return Some(token);
                }
                // Operations that are suspended for good are left alone after a while, while faults go on.
                if stays
                    && actor.journal.now() > begin + LONGEST
                    && !actor.stage.over.is_cancelled()
                {
                    return None;
                }
            }
            Ok(Ok(None)) => {
                note(News::End);
                return None;
            }
            Ok(Err(_)) | Err(_) => return Some(token),
        }
    }
}

pub(super) const QUEUES: [&str; 2] = ["red", "green"];
const START_PAUSE: u64 = 70;
const CALL_PAUSE: u64 = 40;
/// Beats must come each second: this connection is broken.
const SILENCE: Duration = Duration::from_secs(8);
/// In microseconds.
const LONGEST: u64 = 8_000_000;
