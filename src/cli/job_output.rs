//! Jobs on a terminal, or as JSON.

use prost::Message;

use super::{output, plain, table};
use crate::clock::Timestamp;
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
        output::json(&self.registry.bare(&any));
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
        let template = job.template.clone().unwrap_or_default();
        let overlap = job.overlap_policy().as_str_name();
        let lines = [
            ("name", job.name.clone()),
            ("display name", job.display_name.clone()),
            ("schedule", timing(job)),
            ("next run", time_text(job.next_run_time.as_ref())),
            ("last tick", time_text(job.last_tick_time.as_ref())),
            ("overlap", overlap.to_owned()),
            ("queue", template.queue),
            ("method", template.method),
            (
                "request",
                template
                    .request
                    .map_or_else(String::new, |it| table::response(&self.registry, &it)),
            ),
            ("running", job.active_executions.join(" ")),
            ("etag", job.etag.clone()),
        ];
        for (title, text) in lines.iter().filter(|(_, text)| !text.is_empty()) {
            output::line(&format!("{title:<13} {}", plain::line(text)));
        }
    }

    pub(super) fn upcoming(&self, runs: &pb::ListUpcomingRunsResponse) {
        if self.json {
            return self.message("ListUpcomingRunsResponse", runs);
        }
        for run in &runs.upcoming_runs {
            output::line(&time_text(run.run_time.as_ref()));
        }
    }
}

/// When a job runs, in a few words.
pub(super) fn timing(job: &pb::Job) -> String {
    let Some(schedule) = &job.schedule else { return "by hand".to_owned() };
    let times = match &schedule.timing {
        Some(Timing::Cron(cron)) => cron.clone(),
        Some(Timing::Interval(every)) => {
            let every = crate::clock::length(every).unwrap_or_default();
            format!("every {}", humantime::format_duration(every))
        }
        Some(Timing::Calendar(_)) => "by calendar".to_owned(),
        None => String::new(),
    };
    let paused = if job.paused { ", paused" } else { "" };
    format!("{times} {}{paused}", schedule.time_zone)
}

fn time_text(time: Option<&prost_types::Timestamp>) -> String {
    time.map_or_else(String::new, |time| Timestamp::from(time).to_string())
}
