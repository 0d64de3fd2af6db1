//! Golden records of jobs and executions.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::values::{STAMPS, any, detached, options, status, time};
use crate::job::name::JobName;
use crate::job::schedule::{Calendar, CalendarParts, CronExpression, Schedule, Timing};
use crate::job::zone::Zone;
use crate::job::{
    Backfill, Ending, Execution, ExecutionEnd, Job, JobConfig, JobRun, Overlap, RememberedCall,
};
use crate::operation::name::Queue;
use crate::operation::payload::Payload;
use crate::operation::{SharedSpec, Spec, Trigger};
use crate::record::kind::Kind;

/// Every golden record, by the name of its file.
pub(super) fn values() -> Vec<(&'static str, Bytes)> {
    let jobs = jobs().into_iter().map(|(file, job)| (file, job.encode()));
    let ends = ends().into_iter().map(|(file, end)| (file, end.encode()));
    jobs.chain(ends).chain([("execution", execution().encode())]).collect()
}

pub(super) fn jobs() -> Vec<(&'static str, Job)> {
    let cron = CronExpression::parse("30 2 * * MON-FRI").expect("cron");
    let parts = CalendarParts {
        months: vec![1, 7],
        days: vec![1, -1],
        weekdays: vec![0, 6],
        hours: vec![9],
        minutes: vec![30],
        seconds: vec![15],
    };
    let calendar = Calendar::new(parts).expect("a calendar");
    vec![
        ("job", job(Timing::Cron(cron))),
        ("job-interval", job(Timing::Interval(Duration::from_secs(90)))),
        ("job-calendar", job(Timing::Calendar(calendar))),
        ("job-counted", Job { kept: Some(19), ..job(Timing::Interval(Duration::from_mins(2))) }),
    ]
}

fn job(timing: Timing) -> Job {
    let run = |number| JobRun::new(Uuid::from_u128(number), Trigger::Schedule, Some(time(9)));
    Job {
        name: JobName::parse("projects/p/jobs/nightly").expect("a name"),
        uid: Uuid::from_u128(0x3132_3334_3536_4738_b93a_3b3c_3d3e_3f40),
        config: JobConfig {
            display_name: "Nightly".to_owned(),
            spec: spec(Some(Payload::Inline(any("t.Request", b"\x0a\x01r")))),
            schedule: Some(Schedule {
                timing,
                zone: Zone::parse("Europe/Berlin").expect("a zone"),
                jitter: Duration::from_secs(30),
                start_time: Some(time(1)),
                end_time: Some(time(2)),
            }),
            overlap: Overlap::Queue,
            catch_up_window: Duration::from_mins(1),
            history_limit: 7,
        },
        create_time: time(3),
        update_time: time(4),
        paused: true,
        anchor: time(5),
        next_tick: Some(time(6)),
        last_tick: Some(time(7)),
        skipped: 8,
        missed: 9,
        runs: vec![
            JobRun { started: true, admit: true, cancel: true, ..run(1) },
            JobRun { held: true, cancelled: true, ..run(2) },
            JobRun::new(Uuid::from_u128(3), Trigger::Manual, None),
        ],
        backfill: Some(Backfill {
            id: Uuid::from_u128(4),
            after: time(10),
            end: time(11),
            finished: true,
        }),
        deleted: true,
        request_id: "request-3".to_owned(),
        fingerprint: [4; 16],
        handled: vec![RememberedCall { id: Uuid::from_u128(6), fingerprint: [7; 16] }],
        forget_time: Some(time(18)),
        emptied: true,
        kept: None,
        due: Some(time(12)),
        stamps: STAMPS,
    }
}

pub(super) fn execution() -> Execution {
    Execution {
        job: JobName::parse("jobs/nightly").expect("a name"),
        id: Uuid::from_u128(5),
        create_time: time(13),
        trigger: Trigger::Backfill,
        tick: Some(time(14)),
        spec: spec(Some(detached("t.Request", 1_025, 1))),
    }
}

pub(super) fn ends() -> Vec<(&'static str, ExecutionEnd)> {
    let end = |ending| ExecutionEnd {
        job: JobName::parse("jobs/nightly").expect("a name"),
        id: Uuid::from_u128(5),
        ending,
        start_time: Some(time(15)),
        end_time: time(16),
        attempts: 17,
        settled: true,
    };
    let response = Payload::Inline(any("t.Response", b"done\0"));
    vec![
        ("execution-succeeded", end(Ending::Succeeded(response))),
        ("execution-failed", end(Ending::Failed(status(9, "does not work")))),
        ("execution-cancelled", end(Ending::Cancelled(status(1, "was cancelled")))),
    ]
}

fn spec(request: Option<Payload>) -> SharedSpec {
    SharedSpec::from(Spec {
        queue: Queue::parse("queues/Q.1").expect("a queue"),
        method: "render".to_owned(),
        response_type: "t.Response".to_owned(),
        request,
        options: options(),
        server_metadata: true,
        ..Spec::default()
    })
}
