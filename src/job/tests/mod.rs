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
use crate::operation::lease::Fingerprint;
use crate::operation::{Spec, Stamps};

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
    let mut job = Job {
        name: JobName::parse("projects/p/jobs/j").expect("a name"),
        uid: Uuid::from_u128(7),
        config,
        create_time: at(START),
        update_time: at(START),
        paused: false,
        anchor: at(START),
        next_tick: None,
        last_tick: None,
        skipped: 0,
        missed: 0,
        runs: Vec::new(),
        backfill: None,
        deleted: false,
        handled: Vec::new(),
        forget_time: None,
        emptied: false,
        kept: Some(0),
        request_id: String::new(),
        fingerprint: Fingerprint::default(),
        due: None,
        stamps: Stamps::default(),
    };
    job.next_tick = job.tick_after(at(START));
    job.settle(at(START));
    job
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
