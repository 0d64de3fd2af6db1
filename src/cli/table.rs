//! Operations as text for people.

use std::time::Duration;

use prost::Message;
use prost_types::Any;

use crate::clock::Timestamp;
use crate::operation::payload::{EMPTY, type_name};
use crate::proto::google::longrunning::{Operation, operation};
use crate::proto::longhaul::v1::operation_record::State;
use crate::proto::longhaul::v1::{OperationMetadata, OperationRecord, Progress};
use crate::wire::json::Registry;

/// One operation in a few lines.
pub(super) fn record(record: &OperationRecord, registry: &Registry, now: Timestamp) -> String {
    let server = record.server_metadata.clone().unwrap_or_default();
    let mut lines = vec![record.name.clone()];
    let mut line = |title: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("  {title:<10}{text}"));
        }
    };
    line("state", doing(&server));
    line(
        "progress",
        [
            percent(&server),
            units(&server.progress.clone().unwrap_or_default()),
            remaining(&server, now),
        ]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("  "),
    );
    line("queue", record.queue.trim_start_matches("queues/").to_owned());
    line("method", record.method.clone());
    line("created", ago(server.create_time.as_ref(), now));
    line("ended", ago(server.end_time.as_ref(), now));
    match record.operation.as_ref().and_then(|operation| operation.result.as_ref()) {
        Some(operation::Result::Response(any)) => line("response", response(registry, any)),
        Some(operation::Result::Error(error)) => {
            line("error", format!("{} ({:?})", error.message, tonic::Code::from_i32(error.code)));
        }
        None => {}
    }
    lines.join("\n")
}

/// The same with everything that the server knows besides.
pub(super) fn full_record(whole: &OperationRecord, registry: &Registry, now: Timestamp) -> String {
    let mut text = record(whole, registry, now);
    let mut line = |title: &str, value: String| {
        if !value.is_empty() {
            text.extend(["\n  ", &format!("{title:<10}"), &value]);
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
            (Some(error), _) => {
                format!("{} ({:?})", error.message, tonic::Code::from_i32(error.code))
            }
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
            [&resource.relation, &resource.r#type, &resource.name, &resource.uri]
                .into_iter()
                .filter(|part| !part.is_empty())
                .cloned()
                .collect::<Vec<_>>()
                .join(" "),
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
            (Some(server), _) => doing(server),
            (None, Some(operation::Result::Response(_))) => "SUCCEEDED".to_owned(),
            (None, Some(operation::Result::Error(error))) if error.code == 1 => {
                "CANCELLED".to_owned()
            }
            (None, Some(operation::Result::Error(error))) => format!("FAILED  {}", error.message),
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
pub(super) fn step(name: &str, server: &OperationMetadata) -> String {
    let progress = server.progress.clone().unwrap_or_default();
    let parts = [name.to_owned(), percent(server), doing(server), units(&progress)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

/// What it is doing: its message while it runs, else its state.
pub(super) fn doing(server: &OperationMetadata) -> String {
    let state = server.state();
    let message =
        server.progress.as_ref().map(|progress| progress.message.as_str()).unwrap_or_default();
    let message = if server.status_detail.is_empty() { message } else { &server.status_detail };
    let attempt = if server.attempt_count > 1 {
        format!("  attempt {}", server.attempt_count)
    } else {
        String::new()
    };
    let word = state.as_str_name();
    match state {
        State::Running | State::Cancelling if !message.is_empty() => {
            format!("{word}  {message}{attempt}")
        }
        State::Suspended if !server.suspend_reason.is_empty() => {
            format!("{word}  {}", server.suspend_reason)
        }
        _ => format!("{word}{attempt}"),
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
pub(super) fn units(progress: &Progress) -> String {
    match (progress.completed_units, progress.total_units) {
        (0, 0) => String::new(),
        (done, 0) => format!("{done} {}", progress.unit).trim_end().to_owned(),
        (done, total) => format!("{done}/{total} {}", progress.unit).trim_end().to_owned(),
    }
}

/// How long it will still take, by the server's estimate or by the rate so far.
pub(super) fn remaining(server: &OperationMetadata, now: Timestamp) -> String {
    if server.end_time.is_some() || server.state() != State::Running {
        return String::new();
    }
    let estimated = server.estimated_end_time.as_ref().map(|end| Timestamp::from(end).since(now));
    let by_rate = || {
        let start = server.start_time.as_ref().map(Timestamp::from)?;
        let reported = server.progress.as_ref()?.update_time.as_ref().map(Timestamp::from)?;
        let fraction = fraction(server).filter(|fraction| *fraction > 0.0)?;
        let whole = reported.since(start).as_secs_f64() / fraction;
        Some(Duration::from_secs_f64((whole - now.since(start).as_secs_f64()).max(0.0)))
    };
    let left = estimated.or_else(by_rate).filter(|left| left.as_secs() > 0);
    left.map(|left| {
        format!("about {} left", humantime::format_duration(Duration::from_secs(left.as_secs())))
    })
    .unwrap_or_default()
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
        0..60 => format!("{} s ago", past.as_secs()),
        60..3_600 => format!("{} min ago", past.as_secs() / 60),
        3_600..172_800 => format!("{} h ago", past.as_secs() / 3_600),
        _ => format!("{} days ago", past.as_secs() / 86_400),
    }
}

fn server_metadata(operation: &Operation) -> Option<OperationMetadata> {
    let any = operation
        .metadata
        .as_ref()
        .filter(|any| any.type_url.ends_with("/longhaul.v1.OperationMetadata"))?;
    OperationMetadata::decode(any.value.as_slice()).ok()
}
