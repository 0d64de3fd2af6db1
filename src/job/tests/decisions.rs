//! What jobs decide: ticks that are due, runs that overlap, outages, backfills.

use std::time::Duration;

use uuid::Uuid;

use super::{START, at, job, perform, starts, ticks};
use crate::job::schedule::Timing;
use crate::job::{Backfill, Job, JobConfig, JobStep, Overlap};
use crate::limits::{MAX_JOB_RUNS, MAX_TICKS_AT_ONCE};
use crate::operation::Trigger;

#[test]
fn a_tick_runs_once_whenever_the_clock_is_looked_at() {
    let mut job = job("*/10 * * * *", Overlap::Allow);
    job.advance(at("2026-03-01T00:09:59.999999Z"));
    assert_eq!(ticks(&job), [""; 0]);
    assert_eq!(job.due, Some(at("2026-03-01T00:10:00Z")));
    for _ in 0..3 {
        job.advance(at("2026-03-01T00:10:00Z"));
    }
    assert_eq!(ticks(&job), ["2026-03-01T00:10:00Z"]);
    let now = at("2026-03-01T00:10:00Z");
    assert_eq!(starts(&perform(&mut job, now)), 1);
    assert_eq!(job.due, Some(at("2026-03-01T00:20:00Z")));
    // The clock goes back, and comes again.
    for time in ["2026-03-01T00:05:00Z", "2026-03-01T00:10:00Z", "2026-03-01T00:19:00Z"] {
        job.advance(at(time));
    }
    assert_eq!(ticks(&job), ["2026-03-01T00:10:00Z"]);
    // It jumps ahead: the tick in the window runs, those before it do not.
    job.advance(at("2026-03-01T05:00:30Z"));
    assert_eq!(ticks(&job), ["2026-03-01T00:10:00Z", "2026-03-01T05:00:00Z"]);
    assert_eq!((job.missed, job.last_tick), (1, Some(at("2026-03-01T05:00:00Z"))));
}

#[test]
fn the_id_of_a_run_follows_from_the_job_and_the_tick() {
    let run = |uid, time: &str| {
        let mut job = Job { uid: Uuid::from_u128(uid), ..job("*/10 * * * *", Overlap::Skip) };
        job.next_tick = job.tick_after(at(time) - Duration::from_micros(1));
        job.advance(at(time));
        job.runs[0].id
    };
    let one = run(1, "2026-03-01T00:10:00Z");
    assert_eq!(one, run(1, "2026-03-01T00:10:00Z"));
    assert_ne!(one, run(2, "2026-03-01T00:10:00Z"));
    assert_ne!(one, run(1, "2026-03-01T00:20:00Z"));
}

#[test]
fn after_an_outage_of_six_hours_the_ticks_in_the_window_run() {
    let hours = Duration::from_hours;
    for (window, runs, missed) in [
        (Duration::from_secs(10), 1, 1),
        (Duration::from_mins(1), 1, 1),
        (hours(1), 3, 1),
        (hours(3), 7, 1),
        (hours(6), 13, 0),
        (hours(24), 13, 0),
    ] {
        let mut job = job("*/30 * * * *", Overlap::Allow);
        job.config.catch_up_window = window;
        let before = at("2026-03-01T00:00:01Z");
        job.advance(before);
        // Away from just before the tick of 00:30 until that of 06:30.
        let after = at("2026-03-01T06:30:00Z");
        job.advance(after);
        assert_eq!((job.runs.len(), job.missed), (runs, missed), "{window:?}");
        assert_eq!(ticks(&job).last().map(String::as_str), Some("2026-03-01T06:30:00Z"));
        assert_eq!(job.next_tick, Some(at("2026-03-01T07:00:00Z")));

        // One run at a time: the oldest of them, and the others are skipped or wait.
        let run_of = |overlap| {
            let mut job = super::job("*/30 * * * *", overlap);
            job.config.catch_up_window = window;
            job.advance(after);
            (job.runs.len(), job.skipped as usize)
        };
        assert_eq!(run_of(Overlap::Skip), (1, runs - 1), "{window:?}");
        assert_eq!(run_of(Overlap::Queue), (runs, 0), "{window:?}");
    }
}

#[test]
fn however_many_ticks_are_due_one_decision_takes_a_bounded_number() {
    let mut job = job("* * * * * *", Overlap::Skip);
    job.config.catch_up_window = Duration::from_hours(24);
    let now = at("2026-03-01T01:00:00Z");
    let mut decisions = 0;
    while job.next_tick.is_some_and(|tick| tick <= now) {
        let before = job.skipped;
        job.advance(now);
        assert!(job.skipped - before <= MAX_TICKS_AT_ONCE as u64);
        assert!(job.due.is_some_and(|due| due <= now) || job.next_tick > Some(now));
        decisions += 1;
    }
    assert_eq!((job.runs.len(), job.skipped, decisions), (1, 3_599, 36));
}

#[test]
fn runs_that_overlap_follow_the_policy_of_their_job() {
    let now = at("2026-03-01T00:10:00Z");
    let id = Uuid::from_u128;
    let with_one_run = |overlap| {
        let mut job = job("*/10 * * * *", overlap);
        job.run(id(1), now).expect("the first run");
        assert_eq!(perform(&mut job, now).len(), 1);
        job
    };

    let mut skip = with_one_run(Overlap::Skip);
    let why = skip.run(id(2), now).expect_err("refused").to_string();
    let named = format!("projects/p/jobs/j/executions/{}", id(1));
    assert!(why.contains(&named) && why.contains("SKIP"), "{why}");
    assert_eq!(skip.run(id(1), now), Ok(()), "the same run again");
    skip.advance(now);
    assert_eq!((skip.runs.len(), skip.skipped), (1, 1));

    let mut queue = with_one_run(Overlap::Queue);
    queue.run(id(2), now).expect("waits");
    queue.run(id(3), now).expect("waits");
    let held = |job: &Job| -> Vec<bool> { job.runs.iter().map(|run| run.held).collect() };
    assert_eq!(held(&queue), [false, true, true]);
    assert_eq!(starts(&perform(&mut queue, now)), 2);
    queue.over(&[id(1)]);
    queue.advance(now - Duration::from_secs(1));
    assert_eq!(queue.steps(), [JobStep::Admit(id(2))], "in their order, one at a time");
    // One that waits is cancelled by its callers: the others go on waiting.
    queue.over(&[id(3)]);
    queue.advance(now - Duration::from_secs(1));
    assert_eq!(held(&queue), [false]);

    let mut preempt = with_one_run(Overlap::Preempt);
    preempt.run(id(2), now).expect("waits");
    preempt.run(id(3), now).expect("waits");
    let steps = perform(&mut preempt, now);
    let cancels = steps.iter().filter(|step| matches!(step, JobStep::Cancel(_))).count();
    assert_eq!((starts(&steps), cancels), (2, 2), "each but the newest is cancelled, once");
    preempt.over(&[id(1), id(2)]);
    preempt.advance(now - Duration::from_secs(1));
    assert_eq!(preempt.steps(), [JobStep::Admit(id(3))]);

    let mut allow = with_one_run(Overlap::Allow);
    for number in 2..=MAX_JOB_RUNS as u128 {
        allow.run(id(number), now).expect("beside the others");
    }
    assert!(allow.runs.iter().all(|run| !run.held));
    let why = allow.run(id(1_000), now).expect_err("full").to_string();
    assert!(why.contains("100 of its runs"), "{why}");
    allow.advance(now);
    assert_eq!((allow.runs.len(), allow.skipped), (MAX_JOB_RUNS, 1));
}

#[test]
fn a_queued_run_that_is_released_before_it_was_started_is_released_all_the_same() {
    let now = at(START);
    let mut job = job("0 0 1 1 *", Overlap::Queue);
    for number in 1..=2 {
        job.run(Uuid::from_u128(number), now).expect("a run");
    }
    // Another server may have started it as one that waits.
    job.over(&[Uuid::from_u128(1)]);
    job.advance(now);
    let steps = perform(&mut job, now);
    let [JobStep::Start(run), JobStep::Admit(admitted)] = steps[..] else { panic!("{steps:?}") };
    assert_eq!((run.held, run.id), (false, admitted));
}

#[test]
fn a_pause_leaves_out_its_ticks_and_only_those() {
    let mut job = job("*/10 * * * *", Overlap::Allow);
    job.pause(true, at("2026-03-01T00:05:00Z"));
    assert_eq!((job.next_tick, job.due), (None, None));
    assert_eq!(job.upcoming(at(START)).count(), 0);
    job.advance(at("2026-03-01T00:10:00Z"));
    job.run(Uuid::from_u128(1), at("2026-03-01T00:11:00Z")).expect("callers can run it");
    job.pause(false, at("2026-03-01T00:25:00Z"));
    job.pause(false, at("2026-03-01T00:35:00Z"));
    job.advance(at("2026-03-01T00:30:30Z"));
    assert_eq!(ticks(&job), ["2026-03-01T00:30:00Z"]);
}

#[test]
fn a_changed_schedule_counts_from_the_change_on() {
    let mut job = job("*/10 * * * *", Overlap::Allow);
    let mut config = job.config.clone();
    "x".clone_into(&mut config.display_name);
    job.update(config.clone(), at("2026-03-01T00:10:30Z"));
    assert_eq!(ticks(&job), ["2026-03-01T00:10:00Z"], "another name leaves its ticks alone");
    if let Some(schedule) = &mut config.schedule {
        schedule.timing = Timing::Interval(Duration::from_mins(7));
    }
    job.update(config.clone(), at("2026-03-01T00:12:00Z"));
    assert_eq!(job.next_tick, Some(at("2026-03-01T00:19:00Z")));
    job.update(JobConfig { schedule: None, ..config }, at("2026-03-01T00:13:00Z"));
    job.settle(at("2026-03-01T00:13:00Z"));
    assert_eq!(job.next_tick, None);
}

#[test]
fn a_backfill_runs_each_past_tick_once_and_one_after_the_other() {
    let now = at("2026-03-02T00:00:30Z");
    let range = |number| Backfill {
        id: Uuid::from_u128(number),
        after: at("2026-03-01T03:00:00Z") - Duration::from_micros(1),
        end: at("2026-03-01T06:00:00Z") - Duration::from_micros(1),
        finished: false,
    };
    for (overlap, at_once) in [(Overlap::Skip, 1), (Overlap::Queue, 1), (Overlap::Allow, 3)] {
        let mut job = job("0 * * * *", overlap);
        job.next_tick = job.tick_after(now);
        job.backfill(range(1), now).expect("a backfill");
        job.backfill(range(1), now).expect("the same again");
        let mut ran = Vec::new();
        let mut most = 0;
        while !job.runs.is_empty() {
            perform(&mut job, now);
            most = most.max(job.runs.len());
            assert!(job.runs.iter().all(|run| run.trigger == Trigger::Backfill && !run.held));
            ran.extend(job.runs[0].tick.map(|tick| tick.to_string()));
            let first = job.runs[0].id;
            job.over(&[first]);
            job.advance(now);
        }
        let expected = ["2026-03-01T03:00:00Z", "2026-03-01T04:00:00Z", "2026-03-01T05:00:00Z"];
        assert_eq!(ran, expected, "{overlap:?}");
        assert_eq!(most, at_once, "{overlap:?}");
        job.backfill(range(1), now).expect("the same, once it is finished");
        assert_eq!(job.runs, [], "{overlap:?}");
    }
    let mut job = job("0 * * * *", Overlap::Skip);
    job.backfill(range(1), now).expect("a backfill");
    let why = job.backfill(range(2), now).expect_err("busy").to_string();
    assert!(why.contains("under way"), "{why}");
    job.config.schedule = None;
    job.backfill = None;
    assert!(job.backfill(range(2), now).expect_err("no ticks").to_string().contains("no schedule"));
}

#[test]
fn a_job_with_runs_is_deleted_only_by_force_and_then_cancels_them() {
    let now = at(START);
    let mut job = job("0 * * * *", Overlap::Queue);
    for number in 1..=2 {
        job.run(Uuid::from_u128(number), now).expect("a run");
    }
    let why = job.delete(false, now).expect_err("refused").to_string();
    assert!(why.contains("set force"), "{why}");
    job.delete(true, now).expect("deleted");
    let steps = perform(&mut job, now);
    let cancels = steps.iter().filter(|step| matches!(step, JobStep::Cancel(_))).count();
    assert_eq!((starts(&steps), cancels), (2, 2), "nothing that was decided is forgotten");
    job.over(&[Uuid::from_u128(1), Uuid::from_u128(2)]);
    job.advance(at("2026-03-01T09:00:00Z"));
    assert_eq!((job.runs.len(), job.next_tick), (0, None));
    assert_eq!(job.due, Some(at("2026-03-01T09:00:00Z")), "what is left of it is removed");
}
