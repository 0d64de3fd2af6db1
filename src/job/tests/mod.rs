//! Tests of schedules and of the decisions of jobs.

mod cron;
mod decisions;
mod jumps;
mod kept;
mod schedules;

use std::time::Duration;

use uuid::Uuid;

use super::name::JobName;
use super::schedule::{CronExpression, Schedule, Timing};
use super::zone::Zone;
use super::{Job, JobConfig, JobStep, Overlap};
use crate::clock::Timestamp;
use crate::operation::Spec;

/// The instant of an RFC 3339 text.
fn at(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().expect("an instant");
    Timestamp::from_micros(instant.as_microsecond() as u64)
}

const START: &str = "2026-03-01T00:00:00Z";

/// A job with that cron schedule, created at [`START`].
fn job(cron: &str, overlap: Overlap) -> Job {
    let timing = Timing::Cron(CronExpression::parse(cron).expect(cron));
    let (zone, jitter) = (Zone::default(), Duration::ZERO);
    let schedule = Schedule { timing, zone, jitter, start_time: None, end_time: None };
    let config = JobConfig {
        display_name: String::new(),
        spec: Spec::default().into(),
        schedule: Some(schedule),
        overlap,
        catch_up_window: Duration::from_mins(1),
        history_limit: 100,
    };
    let name = JobName::parse("projects/p/jobs/j").expect("a name");
    Job { uid: Uuid::from_u128(7), ..Job::created(name, config, at(START)) }
}

/// Does every step, as the engine does.
fn perform(job: &mut Job, now: Timestamp) -> Vec<JobStep> {
    let mut all = Vec::new();
    while !job.steps().is_empty() {
        let steps = job.steps();
        job.done(&steps, now);
        all.extend(steps);
    }
    all
}

/// The ticks of its runs.
fn ticks(job: &Job) -> Vec<String> {
    job.runs.iter().filter_map(|run| run.tick).map(|tick| tick.to_string()).collect()
}

fn starts(steps: &[JobStep]) -> usize {
    steps.iter().filter(|step| matches!(step, JobStep::Start(_))).count()
}
