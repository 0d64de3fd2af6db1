//! Operations as text for people.

use std::time::Duration;

use prost::Message;
use prost_types::Any;

use crate::clock::Timestamp;
use crate::operation::payload::{EMPTY, type_name};
use crate::proto::google::longrunning::{Operation, operation};
use crate::proto::google::rpc::{Code, Status};
use crate::proto::longhaul::v1::operation_record::State;
use crate::proto::longhaul::v1::{OperationMetadata, OperationRecord};
use crate::wire::json::Registry;

/// One operation in a few lines.
pub(super) fn record(record: &OperationRecord, registry: &Registry, now: Timestamp) -> String {
    let server = record.server_metadata.clone().unwrap_or_default();
    let mut lines = vec![record.name.clone()];
    let mut line = |title: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("  {title:<TITLE$}{text}"));
        }
    };
    line("state", doing(&server));
    line(
        "progress",
        joined([percent(&server).trim().to_owned(), units(&server), remaining(&server, now)]),
    );
    line("queue", record.queue.trim_start_matches("queues/").to_owned());
    line("method", record.method.clone());
    line("created", ago(server.create_time.as_ref(), now));
    line("ended", ago(server.end_time.as_ref(), now));
    match record.operation.as_ref().and_then(|operation| operation.result.as_ref()) {
        Some(operation::Result::Response(any)) => line("response", response(registry, any)),
        Some(operation::Result::Error(failure)) => line("error", error(failure)),
        None => {}
    }
    lines.join("\n")
}

/// The same with everything that the server knows besides.
pub(super) fn full_record(whole: &OperationRecord, registry: &Registry, now: Timestamp) -> String {
    let mut text = record(whole, registry, now);
    let mut line = |title: &str, value: String| {
        if !value.is_empty() {
            text.extend(["\n  ", &format!("{title:<TITLE$}"), &value]);
        }
    };
    line("uid", whole.uid.clone());
    line("etag", whole.etag.clone());
    line(
        "request",
        whole
            .request
            .as_ref()
            .map(|request| registry.bare(request).to_string())
            .unwrap_or_default(),
    );
    let labels = whole
        .options
        .iter()
        .flat_map(|options| &options.labels)
        .map(|(key, value)| format!("{key}={value}"));
    line("labels", labels.collect::<Vec<_>>().join(" "));
    for attempt in &whole.attempts {
        let end = match (&attempt.error, &attempt.end_time) {
            (Some(failure), _) => error(failure),
            (None, Some(_)) => "done".to_owned(),
            (None, None) => "running".to_owned(),
        };
        line(
            &format!("attempt {}", attempt.number),
            format!("{} {}: {end}", attempt.worker, ago(attempt.start_time.as_ref(), now))
                .trim()
                .to_owned(),
        );
    }
    for resource in &whole.related_resources {
        line(
            "related",
            joined(
                [&resource.relation, &resource.r#type, &resource.name, &resource.uri]
                    .map(String::clone),
            ),
        );
    }
    text
}

/// A line for each operation.
pub(super) fn list(operations: &[Operation], now: Timestamp) -> Vec<String> {
    let width = operations.iter().map(|operation| operation.name.len()).max().unwrap_or_default();
    let line = |operation: &Operation| {
        let server = server_metadata(operation);
        let state = match (&server, &operation.result) {
            (_, Some(operation::Result::Response(_))) => "SUCCEEDED".to_owned(),
            (_, Some(operation::Result::Error(failure))) if is_cancelled(failure) => {
                joined(["CANCELLED".to_owned(), first_line(&failure.message)])
            }
            (_, Some(operation::Result::Error(failure))) => {
                joined(["FAILED".to_owned(), first_line(&error(failure))])
            }
            (Some(server), None) => doing(server),
            (None, None) => "not done".to_owned(),
        };
        let server = server.unwrap_or_default();
        let created = ago(server.create_time.as_ref(), now);
        format!("{:<width$}  {:>14}  {:>4}  {state}", operation.name, created, percent(&server))
            .trim_end()
            .to_owned()
    };
    operations.iter().map(line).collect()
}

/// A step of a watch as one line.
pub(super) fn step(server: &OperationMetadata) -> String {
    let detail = joined([detail(server), units(server), attempt(server)]);
    let step = format!("{:<10}  {:>4}  {detail}", server.state().as_str_name(), percent(server));
    step.trim_end().to_owned()
}

/// What to say behind a bar; `trouble` is what the last attempt failed of.
pub(super) fn live(server: &OperationMetadata, trouble: &str, now: Timestamp) -> String {
    let so_far = || {
        let since = now.since(server.create_time.as_ref().map(Timestamp::from)?);
        Some(format!("{} so far", span(since.max(Duration::from_secs(1)))))
    };
    match server.state() {
        State::Unspecified => String::new(),
        State::Pending if server.attempt_count == 0 => {
            joined(["waiting for a worker".to_owned(), so_far().unwrap_or_default()])
        }
        State::Pending if trouble.is_empty() => {
            format!("waiting for attempt {}", server.attempt_count + 1)
        }
        State::Pending => format!("retrying: {trouble}"),
        State::Suspended => joined(["suspended".to_owned(), server.suspend_reason.clone()]),
        State::Cancelling => joined(["stopping".to_owned(), detail(server), units(server)]),
        _ => {
            let time = match fraction(server) {
                Some(_) => remaining(server, now),
                None => so_far().unwrap_or_default(),
            };
            joined([detail(server), units(server), attempt(server), time])
        }
    }
}

/// How an operation ended, in one sentence.
pub(super) fn end(operation: &Operation, server: &OperationMetadata) -> String {
    let time = |time: &Option<prost_types::Timestamp>| time.as_ref().map(Timestamp::from);
    let took = match (time(&server.create_time), time(&server.end_time)) {
        (Some(start), Some(end)) => format!(" after {}", span(end.since(start))),
        _ => String::new(),
    };
    let name = &operation.name;
    match &operation.result {
        Some(operation::Result::Error(failure)) if is_cancelled(failure) => {
            format!("{name} was cancelled{took}: {}", failure.message)
        }
        Some(operation::Result::Error(failure)) => {
            format!("{name} failed{took}: {}", error(failure))
        }
        _ => format!("{name} succeeded{took}"),
    }
}

/// An error and its code, by the name that everybody knows it by.
pub(super) fn error(failure: &Status) -> String {
    let code = Code::try_from(failure.code).unwrap_or(Code::Unknown);
    format!("{} ({})", failure.message, code.as_str_name()).trim_start().to_owned()
}

/// Whether that is the end of what somebody cancelled.
pub(super) fn is_cancelled(failure: &Status) -> bool {
    failure.code == Code::Cancelled as i32
}

/// What it is doing: its state, and what there is to say about that.
fn doing(server: &OperationMetadata) -> String {
    let word = server.state().as_str_name().to_owned();
    match server.state() {
        State::Running | State::Cancelling => joined([word, detail(server), attempt(server)]),
        State::Suspended => joined([word, server.suspend_reason.clone()]),
        _ => joined([word, attempt(server)]),
    }
}

/// The worker's last word.
fn detail(server: &OperationMetadata) -> String {
    if !matches!(server.state(), State::Running | State::Cancelling) {
        return String::new();
    }
    if !server.status_detail.is_empty() {
        return server.status_detail.clone();
    }
    server.progress.as_ref().map(|progress| progress.message.clone()).unwrap_or_default()
}

/// Which attempt it is, if not the first.
fn attempt(server: &OperationMetadata) -> String {
    if server.attempt_count > 1 {
        format!("attempt {}", server.attempt_count)
    } else {
        String::new()
    }
}

/// How far it is, from 0 to 1; the units tell where no fraction is reported.
pub(super) fn fraction(server: &OperationMetadata) -> Option<f64> {
    if server.state() == State::Succeeded {
        return Some(1.0);
    }
    let progress = server.progress.as_ref()?;
    let of_units = (progress.total_units > 0)
        .then(|| progress.completed_units as f64 / progress.total_units as f64);
    progress.fraction.or(of_units).map(|fraction| fraction.clamp(0.0, 1.0))
}

/// How many of how many.
fn units(server: &OperationMetadata) -> String {
    let Some(progress) = &server.progress else { return String::new() };
    match (progress.completed_units, progress.total_units) {
        (0, 0) => String::new(),
        (done, 0) => format!("{done} {}", progress.unit).trim_end().to_owned(),
        (done, total) => format!("{done}/{total} {}", progress.unit).trim_end().to_owned(),
    }
}

/// How long it will still take, by the server's estimate or by the rate so far.
fn remaining(server: &OperationMetadata, now: Timestamp) -> String {
    if server.state() != State::Running {
        return String::new();
    }
    let estimated = server.estimated_end_time.as_ref().map(|end| Timestamp::from(end).since(now));
    let by_rate = || {
        // Only the first attempt is known to have begun with the operation.
        let start = server.start_time.as_ref().filter(|_| server.attempt_count < 2)?;
        let start = Timestamp::from(start);
        let reported = server.progress.as_ref()?.update_time.as_ref().map(Timestamp::from)?;
        let fraction = fraction(server).filter(|fraction| *fraction > 0.0)?;
        let whole = reported.since(start).as_secs_f64() / fraction;
        Some(Duration::from_secs_f64((whole - now.since(start).as_secs_f64()).max(0.0)))
    };
    let left = estimated.or_else(by_rate).filter(|left| left.as_secs() > 0);
    left.map(|left| format!("about {} left", span(left))).unwrap_or_default()
}

/// A response; nothing for Empty.
pub(super) fn response(registry: &Registry, any: &Any) -> String {
    if type_name(&any.type_url) == EMPTY { String::new() } else { registry.bare(any).to_string() }
}

fn percent(server: &OperationMetadata) -> String {
    fraction(server).map(|fraction| format!("{:>3.0}%", fraction * 100.0)).unwrap_or_default()
}

fn ago(time: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    let Some(time) = time else { return String::new() };
    let past = now.since(Timestamp::from(time));
    match past.as_secs() {
        0 => "just now".to_owned(),
        seconds @ 1..60 => format!("{seconds} s ago"),
        seconds @ 60..3_600 => format!("{} min ago", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// A length of time, as exact as anybody wants to know it.
pub(super) fn span(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds @ 3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What there is to say of several things.
fn joined<const N: usize>(parts: [String; N]) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("  ")
}

fn server_metadata(operation: &Operation) -> Option<OperationMetadata> {
    let any = operation
        .metadata
        .as_ref()
        .filter(|any| any.type_url.ends_with("/longhaul.v1.OperationMetadata"))?;
    OperationMetadata::decode(any.value.as_slice()).ok()
}

/// The width of a title and the space behind it.
const TITLE: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::longhaul::v1::Progress;

    /// A time so many seconds after the operation was made.
    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros((1_000 + seconds) * 1_000_000)
    }

    fn running() -> OperationMetadata {
        OperationMetadata {
            state: State::Running.into(),
            create_time: Some(at(0).into()),
            start_time: Some(at(2).into()),
            attempt_count: 1,
            progress: Some(Progress {
                completed_units: 3,
                total_units: 12,
                unit: "rows".to_owned(),
                message: "reading".to_owned(),
                update_time: Some(at(32).into()),
                ..Progress::default()
            }),
            ..OperationMetadata::default()
        }
    }

    #[test]
    fn a_step_has_its_state_first_and_its_figures_below_each_other() {
        let pending = OperationMetadata { state: State::Pending.into(), ..Default::default() };
        assert_eq!(step(&pending), "PENDING");
        assert_eq!(step(&running()), "RUNNING      25%  reading  3/12 rows");
        let done = OperationMetadata { state: State::Succeeded.into(), ..running() };
        assert_eq!(step(&done), "SUCCEEDED   100%  3/12 rows");
    }

    #[test]
    fn a_bar_says_what_is_waited_for_and_for_how_long() {
        let live = |server: &OperationMetadata| live(server, "", at(42));
        assert_eq!(live(&running()), "reading  3/12 rows  about 1 min 20 s left");
        let again = OperationMetadata { attempt_count: 2, ..running() };
        assert_eq!(live(&again), "reading  3/12 rows  attempt 2");
        let silent = OperationMetadata { progress: None, ..running() };
        assert_eq!(live(&silent), "42 s so far");
        let pending = OperationMetadata { state: State::Pending.into(), ..running() };
        assert_eq!(live(&pending), "waiting for attempt 2");
        assert_eq!(
            super::live(&pending, "away (UNAVAILABLE)", at(42)),
            "retrying: away (UNAVAILABLE)"
        );
        let first = OperationMetadata { attempt_count: 0, ..pending };
        assert_eq!(live(&first), "waiting for a worker  42 s so far");
    }
}
