//! One operation as text: a summary, or the whole record.

use super::plain;
use super::table::{
    Ahead, ago, doing, error, joined, percent, queue, remaining, response, span, units, when,
};
use crate::clock::{Timestamp, length};
use crate::limits::DEFAULT_MAX_ATTEMPTS;
use crate::operation::payload::type_name;
use crate::proto::google::longrunning::operation;
use crate::proto::longhaul::v1::operation_options::Expiration;
use crate::proto::longhaul::v1::{Attempt, OperationMetadata, OperationOptions, OperationRecord};
use crate::types::Registry;

/// One operation in a few lines.
pub(super) fn short(record: &OperationRecord, registry: &Registry, now: Timestamp) -> String {
    Lines::of(record, registry, now).text()
}

/// The whole record.
pub(super) fn full(record: &OperationRecord, registry: &Registry, now: Timestamp) -> String {
    let mut lines = Lines::of(record, registry, now);
    let server = record.server_metadata.clone().unwrap_or_default();
    let options = record.options.clone().unwrap_or_default();
    lines.add_times(&server, &options, now);
    lines.add_cancel(&server, now);
    lines.add_options(record, &options);
    lines.add("metadata", metadata(record, registry));
    lines.add(
        "request",
        record.request.as_ref().map(|any| registry.bare(any).to_string()).unwrap_or_default(),
    );
    lines.add("attempts", attempts(&server, &options));
    for attempt in &record.attempts {
        lines.add_attempt(attempt, now);
    }
    for partial in &server.partial_errors {
        lines.add("partial", error(partial));
    }
    for resource in &record.related_resources {
        let parts = [&resource.relation, &resource.r#type, &resource.name, &resource.uri];
        lines.add("related", joined(parts.map(|part| plain::part(part))));
    }
    lines.add("uid", record.uid.clone());
    lines.add("etag", record.etag.clone());
    lines.add("trace", record.trace_parent.clone());
    lines.text()
}

/// Lines of a title and a text.
struct Lines(Vec<String>);

impl Lines {
    fn of(record: &OperationRecord, registry: &Registry, now: Timestamp) -> Self {
        let server = record.server_metadata.clone().unwrap_or_default();
        let mut lines = Self(vec![plain::line(&record.name)]);
        lines.add("state", joined([doing(&server), Ahead::of(record).schedule(&server, now)]));
        lines.add(
            "progress",
            joined([percent(&server).trim().to_owned(), units(&server), remaining(&server, now)]),
        );
        lines.add("queue", queue(record));
        lines.add("method", record.method.clone());
        lines.add("created", ago(server.create_time.as_ref(), now));
        lines.add("ended", ago(server.end_time.as_ref(), now));
        match record.operation.as_ref().and_then(|operation| operation.result.as_ref()) {
            Some(operation::Result::Response(any)) => {
                lines.add("response", response(registry, any));
            }
            Some(operation::Result::Error(failure)) => lines.add("error", error(failure)),
            None => {}
        }
        lines
    }

    fn add(&mut self, title: &str, text: String) {
        if !text.is_empty() {
            self.0.push(plain::line(&format!("  {title:<TITLE$} {text}")));
        }
    }

    fn add_times(
        &mut self,
        server: &OperationMetadata,
        options: &OperationOptions,
        now: Timestamp,
    ) {
        let expire_time = match &options.expiration {
            _ if server.expire_time.is_some() => server.expire_time,
            Some(Expiration::ExpireTime(time)) => Some(*time),
            _ => None,
        };
        for (title, time) in [
            ("schedule", options.schedule_time),
            ("deadline", options.deadline_time),
            ("started", server.start_time),
            ("updated", server.update_time),
            ("estimated", server.estimated_end_time),
            ("expires", expire_time),
        ] {
            let time = time.as_ref().map(Timestamp::from);
            self.add(title, time.map(|time| when(time, now)).unwrap_or_default());
        }
    }

    /// The steps of a requested cancellation.
    fn add_cancel(&mut self, server: &OperationMetadata, now: Timestamp) {
        let Some(trail) = &server.cancel_trail else { return };
        let step = |word: &str, time: Option<&prost_types::Timestamp>| {
            time.map(|time| format!("{word} {}", ago(Some(time), now))).unwrap_or_default()
        };
        let forced = if trail.forced { "forced, since the grace ran out" } else { "" };
        self.add(
            "cancel",
            joined([
                step("requested", trail.request_time.as_ref()),
                step("delivered", trail.deliver_time.as_ref()),
                step("acknowledged", trail.acknowledge_time.as_ref()),
                forced.to_owned(),
            ]),
        );
    }

    fn add_options(&mut self, record: &OperationRecord, options: &OperationOptions) {
        self.add("priority", options.priority.to_string());
        self.add("target", options.target.clone());
        let labels = options.labels.iter().map(|(key, value)| format!("{key}={value}"));
        self.add("labels", labels.collect::<Vec<_>>().join(" "));
        for (title, bound) in [
            ("per attempt", options.attempt_timeout),
            ("in queue", options.queue_timeout),
            ("to stop", options.cancel_grace),
        ] {
            let bound = bound.as_ref().and_then(length);
            self.add(
                title,
                bound.map(|bound| format!("at most {}", span(bound))).unwrap_or_default(),
            );
        }
        self.add("types", types(record));
    }

    fn add_attempt(&mut self, attempt: &Attempt, now: Timestamp) {
        let end = match (&attempt.error, &attempt.end_time) {
            (Some(failure), _) => error(failure),
            (None, Some(_)) => "done".to_owned(),
            (None, None) => "running".to_owned(),
        };
        let worker = plain::part(&attempt.worker);
        let begun = format!("{worker} {}", ago(attempt.start_time.as_ref(), now));
        self.add(
            &format!("attempt {}", attempt.number),
            format!("{}: {end}  fencing number {}", begun.trim(), attempt.fencing_number),
        );
    }

    fn text(self) -> String {
        self.0.join("\n")
    }
}

/// The number of attempts and the limit.
fn attempts(server: &OperationMetadata, options: &OperationOptions) -> String {
    let policy = options.retry_policy.as_ref().map_or(0, |policy| policy.max_attempts);
    let limit = if policy > 0 { i64::from(policy) } else { i64::from(DEFAULT_MAX_ATTEMPTS) };
    format!("{} of {limit}", server.attempt_count)
}

/// The declared types.
fn types(record: &OperationRecord) -> String {
    let named = |word: &str, name: &str| {
        if name.is_empty() { String::new() } else { format!("{word} {}", plain::part(name)) }
    };
    joined([named("metadata", &record.metadata_type), named("response", &record.response_type)])
}

/// The metadata, unless it is the server's own, which the other lines show.
fn metadata(record: &OperationRecord, registry: &Registry) -> String {
    let any = record.operation.as_ref().and_then(|operation| operation.metadata.as_ref());
    any.filter(|any| type_name(&any.type_url) != "longhaul.v1.OperationMetadata")
        .map(|any| registry.bare(any).to_string())
        .unwrap_or_default()
}

/// The width of a title.
const TITLE: usize = 11;
