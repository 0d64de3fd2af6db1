//! Operations as text for people.

use std::time::Duration;

use super::plain;
use crate::clock::Timestamp;
use crate::operation::payload::{EMPTY, type_name};
use crate::proto::google::longrunning::{Operation, operation};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::{Code, Status};
use crate::proto::longhaul::v1::operation_record::State;
use crate::proto::longhaul::v1::{OperationMetadata, OperationRecord};
use crate::types::Registry;

/// What an operation waits for before its next attempt.
#[derive(Clone, Debug, Default)]
pub(super) struct Ahead {
    /// Not to be leased before.
    schedule_time: Option<Timestamp>,
    /// The error of the last attempt.
    trouble: String,
}

impl Ahead {
    /// From the record; metadata does not contain it.
    pub(super) fn of(record: &OperationRecord) -> Self {
        let options = record.options.as_ref();
        let failed = record.attempts.last().and_then(|attempt| attempt.error.as_ref());
        Self {
            schedule_time: options
                .and_then(|options| options.schedule_time.as_ref())
                .map(Timestamp::from),
            trouble: failed.map(error).unwrap_or_default(),
        }
    }

    /// When it may be leased, if that is in the future.
    pub(super) fn schedule(&self, server: &OperationMetadata, now: Timestamp) -> String {
        let waits = server.state() == State::Pending && server.attempt_count == 0;
        let time = self.schedule_time.filter(|time| waits && *time > now);
        time.map(|time| format!("scheduled for {}", when(time, now))).unwrap_or_default()
    }
}

/// A line for each operation: name, age, progress, queue and state.
pub(super) fn list(records: &[OperationRecord], now: Timestamp) -> Vec<String> {
    let widest = |text: fn(&OperationRecord) -> String| {
        records.iter().map(|record| text(record).chars().count()).max().unwrap_or_default()
    };
    let (names, queues) = (widest(|record| record.name.clone()), widest(queue));
    let line = |record: &OperationRecord| {
        let server = record.server_metadata.clone().unwrap_or_default();
        plain::line(
            format!(
                "{:<names$}  {:>14}  {:>4}  {:<queues$}  {}",
                record.name,
                ago(server.create_time.as_ref(), now),
                percent(&server),
                queue(record),
                joined([doing(&server), why(record, now)]),
            )
            .trim_end(),
        )
    };
    records.iter().map(line).collect()
}

/// Why it is in its state: its error, or the time that it waits for.
pub(super) fn why(record: &OperationRecord, now: Timestamp) -> String {
    let result = record.operation.as_ref().and_then(|operation| operation.result.as_ref());
    match result {
        Some(operation::Result::Error(failure)) if is_cancelled(failure) => {
            plain::part(&failure.message)
        }
        Some(operation::Result::Error(failure)) => plain::part(&error(failure)),
        _ => {
            let server = record.server_metadata.clone().unwrap_or_default();
            Ahead::of(record).schedule(&server, now)
        }
    }
}

/// The queue without its collection.
pub(super) fn queue(record: &OperationRecord) -> String {
    record.queue.trim_start_matches("queues/").to_owned()
}

/// A step of a watch as one line.
pub(super) fn step(server: &OperationMetadata, ahead: &Ahead, now: Timestamp) -> String {
    let detail = joined([
        detail(server),
        units(server),
        attempt(server),
        ahead.schedule(server, now),
        stalled(server),
    ]);
    let step = format!("{:<10}  {:>4}  {detail}", server.state().as_str_name(), percent(server));
    plain::line(step.trim_end())
}

/// The text behind a bar.
pub(super) fn live(server: &OperationMetadata, ahead: &Ahead, now: Timestamp) -> String {
    let so_far = || {
        let since = now.since(server.create_time.as_ref().map(Timestamp::from)?);
        Some(format!("{} so far", span(since.max(Duration::from_secs(1)))))
    };
    let text = match server.state() {
        State::Unspecified => String::new(),
        State::Pending if server.attempt_count == 0 => match ahead.schedule(server, now) {
            schedule if schedule.is_empty() => {
                joined(["waiting for a worker".to_owned(), so_far().unwrap_or_default()])
            }
            schedule => schedule,
        },
        State::Pending if ahead.trouble.is_empty() => {
            format!("waiting for attempt {}", server.attempt_count.saturating_add(1))
        }
        State::Pending => format!("retrying: {}", plain::part(&ahead.trouble)),
        State::Suspended => joined(["suspended".to_owned(), plain::part(&server.suspend_reason)]),
        State::Cancelling => joined(["stopping".to_owned(), detail(server), units(server)]),
        _ => {
            let time = match fraction(server) {
                Some(_) => remaining(server, now),
                None => so_far().unwrap_or_default(),
            };
            joined([stalled(server), detail(server), units(server), attempt(server), time])
        }
    };
    plain::line(&text)
}

/// How an operation ended, in one sentence.
pub(super) fn end(operation: &Operation, server: &OperationMetadata) -> String {
    let time = |time: &Option<prost_types::Timestamp>| time.as_ref().map(Timestamp::from);
    let took = match (time(&server.create_time), time(&server.end_time)) {
        (Some(start), Some(end)) => format!(" after {}", span(end.since(start))),
        _ => String::new(),
    };
    let name = &operation.name;
    let text = match &operation.result {
        Some(operation::Result::Error(failure)) if is_cancelled(failure) => {
            format!("{name} was cancelled{took}: {}", failure.message)
        }
        Some(operation::Result::Error(failure)) => {
            format!("{name} failed{took}: {}", error(failure))
        }
        _ => format!("{name} succeeded{took}"),
    };
    plain::line(&text)
}

/// An error and the name of its code.
pub(super) fn error(failure: &Status) -> String {
    let code = Code::try_from(failure.code).unwrap_or(Code::Unknown);
    format!("{} ({})", failure.message, code.as_str_name()).trim_start().to_owned()
}

/// Whether the error is that of a cancelled operation.
pub(super) fn is_cancelled(failure: &Status) -> bool {
    failure.code == Code::Cancelled as i32
}

/// The state and its details.
pub(super) fn doing(server: &OperationMetadata) -> String {
    let word = server.state().as_str_name().to_owned();
    match server.state() {
        State::Running | State::Cancelling => {
            joined([word, stalled(server), detail(server), attempt(server)])
        }
        State::Suspended => joined([word, plain::part(&server.suspend_reason)]),
        _ => joined([word, attempt(server)]),
    }
}

/// `stalled`, if it is.
fn stalled(server: &OperationMetadata) -> String {
    if server.stalled { "stalled".to_owned() } else { String::new() }
}

/// What the worker is doing, as last reported.
fn detail(server: &OperationMetadata) -> String {
    if !matches!(server.state(), State::Running | State::Cancelling) {
        return String::new();
    }
    if !server.status_detail.is_empty() {
        return plain::part(&server.status_detail);
    }
    server.progress.as_ref().map(|progress| plain::part(&progress.message)).unwrap_or_default()
}

/// Which attempt it is, if not the first.
fn attempt(server: &OperationMetadata) -> String {
    if server.attempt_count > 1 {
        format!("attempt {}", server.attempt_count)
    } else {
        String::new()
    }
}

/// The fraction that is done, from 0 to 1; from the units if no fraction is reported.
pub(super) fn fraction(server: &OperationMetadata) -> Option<f64> {
    if server.state() == State::Succeeded {
        return Some(1.0);
    }
    let progress = server.progress.as_ref()?;
    let of_units = (progress.total_units > 0)
        .then(|| progress.completed_units as f64 / progress.total_units as f64);
    progress
        .fraction
        .or(of_units)
        .filter(|fraction| fraction.is_finite())
        .map(|fraction| fraction.clamp(0.0, 1.0))
}

/// Units done and in total.
pub(super) fn units(server: &OperationMetadata) -> String {
    let Some(progress) = &server.progress else { return String::new() };
    match (progress.completed_units, progress.total_units) {
        (0, 0) => String::new(),
        (done, 0) => format!("{done} {}", plain::part(&progress.unit)).trim_end().to_owned(),
        (done, total) => {
            format!("{done}/{total} {}", plain::part(&progress.unit)).trim_end().to_owned()
        }
    }
}

/// The remaining time, by the server's estimate or by the rate so far; empty if unknown.
pub(super) fn remaining(server: &OperationMetadata, now: Timestamp) -> String {
    if server.state() != State::Running {
        return String::new();
    }
    let estimated = server.estimated_end_time.as_ref().map(|end| Timestamp::from(end).since(now));
    let by_rate = || {
        // Only the first attempt is known to begin with the operation.
        let start = server.start_time.as_ref().filter(|_| server.attempt_count < 2)?;
        let start = Timestamp::from(start);
        let reported = server.progress.as_ref()?.update_time.as_ref().map(Timestamp::from)?;
        let fraction = fraction(server).filter(|fraction| *fraction > 0.0)?;
        let whole = reported.since(start).as_secs_f64() / fraction;
        // For a tiny fraction, the estimate may exceed a Duration.
        Duration::try_from_secs_f64((whole - now.since(start).as_secs_f64()).max(0.0)).ok()
    };
    let left = estimated.or_else(by_rate);
    let left = left.filter(|left| left.as_secs() > 0 && *left < LONGEST_ESTIMATE);
    left.map(|left| format!("about {} left", span(left))).unwrap_or_default()
}

/// A response; nothing for Empty.
pub(super) fn response(registry: &Registry, any: &Any) -> String {
    if type_name(&any.type_url) == EMPTY { String::new() } else { registry.bare(any).to_string() }
}

pub(super) fn percent(server: &OperationMetadata) -> String {
    fraction(server).map(|fraction| format!("{:>3.0}%", fraction * 100.0)).unwrap_or_default()
}

pub(super) fn ago(time: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    let Some(time) = time else { return String::new() };
    match now.since(Timestamp::from(time)) {
        past if past.as_secs() == 0 => "just now".to_owned(),
        past => format!("{} ago", about(past)),
    }
}

/// An instant and its distance from now.
pub(super) fn when(time: Timestamp, now: Timestamp) -> String {
    let distance = match (now.since(time), time.since(now)) {
        (past, _) if past.as_secs() > 0 => format!("{} ago", about(past)),
        (_, ahead) if ahead.as_secs() > 0 => format!("in {}", about(ahead)),
        _ => "now".to_owned(),
    };
    format!("{time} ({distance})")
}

/// A length of time in its largest unit.
fn about(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A length of time in its two largest units.
pub(super) fn span(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds @ 3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Rows of texts as lines, each column as wide as its widest text.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Joins the texts that are not empty.
pub(super) fn joined<const N: usize>(parts: [String; N]) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("  ")
}

/// Longer estimates are not shown.
const LONGEST_ESTIMATE: Duration = Duration::from_hours(366 * 24);

#[cfg(test)]
mod tests;
