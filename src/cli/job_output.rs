//! Jobs on a terminal, or as JSON.

use prost::Message;

use super::{output, plain, table};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::schedule::Timing;
use crate::types::Registry;

/// How results are shown.
pub(super) struct JobOutput {
    pub(super) registry: Registry,
    pub(super) json: bool,
}

impl JobOutput {
    pub(super) fn message(&self, name: &str, message: &impl Message) {
        let type_url = format!("type.googleapis.com/longhaul.v1.{name}");
        let any = Any { type_url, value: message.encode_to_vec().into() };
        let mut json = self.registry.bare(&any);
        if let Some(object) = json.as_object_mut() {
            object.remove("@type");
        }
        output::json(&json);
    }

    pub(super) fn name(&self, name: &str, kind: &str, message: &impl Message) {
        if self.json { self.message(kind, message) } else { output::line(name) }
    }

    pub(super) fn said(&self, name: &str, what: &str, kind: &str, message: &impl Message) {
        if self.json {
            self.message(kind, message);
        } else {
            output::line(&format!("{name} {what}"));
        }
    }

    pub(super) fn job(&self, job: &pb::Job) {
        if self.json {
            return self.message("Job", job);
        }
        for (title, text) in
            details(&self.registry, job).iter().filter(|(_, text)| !text.is_empty())
        {
            output::line(&format!("{title:<15} {}", plain::line(text)));
        }
    }

    pub(super) fn jobs(&self, all: &pb::ListJobsResponse) {
        if self.json {
            return self.message("ListJobsResponse", all);
        }
        if all.jobs.is_empty() {
            return output::note("no jobs");
        }
        let now = SystemClock::new().now();
        let row = |job: &pb::Job| {
            let next = job
                .next_run_time
                .as_ref()
                .map_or_else(|| "-".to_owned(), |time| table::when(Timestamp::from(time), now));
            [job.name.clone(), timing(job), next, job.active_executions.len().to_string()]
        };
        let title = ["NAME", "SCHEDULE", "NEXT RUN", "RUNNING"].map(str::to_owned);
        print(std::iter::once(title).chain(all.jobs.iter().map(row)));
    }

    pub(super) fn executions(&self, page: &pb::ListExecutionsResponse) {
        if self.json {
            return self.message("ListExecutionsResponse", page);
        }
        if page.executions.is_empty() {
            return output::note("no executions");
        }
        let now = SystemClock::new().now();
        let row = |execution: &pb::Execution| {
            let error = match &execution.result {
                Some(pb::execution::Result::Error(error)) => table::error(error),
                _ => String::new(),
            };
            [
                execution.state().as_str_name().to_owned(),
                execution.trigger().as_str_name().to_owned(),
                table::ago(execution.create_time.as_ref(), now),
                execution.operation.clone(),
                error,
            ]
        };
        let title = ["STATE", "TRIGGER", "STARTED", "OPERATION", ""].map(str::to_owned);
        print(std::iter::once(title).chain(page.executions.iter().map(row)));
        if !page.next_page_token.is_empty() {
            output::note("there are older ones: --page-size takes up to 1000");
        }
    }

    pub(super) fn upcoming(&self, runs: &pb::ListUpcomingRunsResponse) {
        if self.json {
            return self.message("ListUpcomingRunsResponse", runs);
        }
        if runs.upcoming_runs.is_empty() {
            output::note("no runs to come: the job has no schedule, or it is paused or at its end");
        }
        for run in &runs.upcoming_runs {
            output::line(&time_text(run.run_time.as_ref()));
        }
    }
}

fn print<const N: usize>(rows: impl Iterator<Item = [String; N]>) {
    let rows: Vec<[String; N]> = rows.map(|row| row.map(|text| plain::line(&text))).collect();
    for line in table::columns(&rows) {
        output::text(&line);
    }
}

/// The settings and the state of a job; an empty text for what it does not have.
fn details(registry: &Registry, job: &pb::Job) -> [(&'static str, String); 21] {
    let template = job.template.clone().unwrap_or_default();
    let options = template.options.unwrap_or_default();
    let schedule = job.schedule.clone().unwrap_or_default();
    let attempts = options.retry_policy.unwrap_or_default().max_attempts;
    let number = |number: i64| if number > 0 { number.to_string() } else { String::new() };
    let labels = options.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let request = template.request.map(|request| table::response(registry, &request));
    [
        ("name", job.name.clone()),
        ("display name", job.display_name.clone()),
        ("schedule", timing(job)),
        ("jitter", length_text(schedule.jitter.as_ref())),
        ("from", time_text(schedule.start_time.as_ref())),
        ("until", time_text(schedule.end_time.as_ref())),
        ("next run", time_text(job.next_run_time.as_ref())),
        ("last tick", time_text(job.last_tick_time.as_ref())),
        ("skipped ticks", number(job.skipped_tick_count)),
        ("missed gaps", number(job.missed_count)),
        ("overlap", job.overlap_policy().as_str_name().to_owned()),
        ("catch-up window", length_text(job.catch_up_window.as_ref())),
        ("history limit", number(job.history_limit.into())),
        ("queue", template.queue),
        ("method", template.method),
        ("max attempts", number(attempts.into())),
        ("attempt timeout", length_text(options.attempt_timeout.as_ref())),
        ("labels", labels.collect::<Vec<_>>().join(" ")),
        ("request", request.unwrap_or_default()),
        ("running", job.active_executions.join(" ")),
        ("etag", job.etag.clone()),
    ]
}

/// When a job runs, in a few words.
fn timing(job: &pb::Job) -> String {
    let Some(schedule) = &job.schedule else { return "by hand".to_owned() };
    let zone = format!(" {}", schedule.time_zone);
    let (times, zone) = match &schedule.timing {
        Some(Timing::Cron(cron)) => (cron.clone(), zone),
        Some(Timing::Interval(every)) => {
            (format!("every {}", length_text(Some(every))), String::new())
        }
        Some(Timing::Calendar(_)) => ("by calendar".to_owned(), zone),
        None => (String::new(), String::new()),
    };
    let paused = if job.paused { ", paused" } else { "" };
    let backfilling = if job.backfilling { ", backfilling" } else { "" };
    format!("{times}{zone}{paused}{backfilling}")
}

fn length_text(length: Option<&prost_types::Duration>) -> String {
    let length = length.and_then(crate::clock::length);
    length.map_or_else(String::new, |length| humantime::format_duration(length).to_string())
}

fn time_text(time: Option<&prost_types::Timestamp>) -> String {
    time.map_or_else(String::new, |time| Timestamp::from(time).to_string())
}
