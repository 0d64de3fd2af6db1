//! Clocks that are set, ahead and back, and ranges of ticks in which a clock changes.

use std::time::Duration;

use uuid::Uuid;

use super::{at, job, perform, ticks};
use crate::clock::Timestamp;
use crate::job::zone::Zone;
use crate::job::{Backfill, Job, Overlap, Room};

/// Lets the job do what is due at these times, and everything that follows from it; how many runs began.
fn advance(job: &mut Job, times: &[&str]) -> usize {
    let mut begun = 0;
    for time in times {
        job.advance(at(time));
        begun += super::starts(&perform(job, at(time)));
    }
    begun
}

#[test]
fn a_clock_that_goes_back_runs_no_tick_again() {
    for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Preempt, Overlap::Allow] {
        let mut job = job("*/10 * * * *", overlap);
        assert_eq!(advance(&mut job, &["2026-03-01T00:10:00Z"]), 1, "{overlap:?}");
        let first: Vec<Uuid> = job.runs.iter().map(|run| run.id).collect();
        // Back by hours, with the run under way and with it over, and on to the same tick again.
        let back = ["2026-02-28T20:00:00Z", "2026-03-01T00:09:59Z", "2026-03-01T00:10:00Z"];
        assert_eq!(advance(&mut job, &back), 0, "{overlap:?}");
        job.over(&first);
        assert_eq!(advance(&mut job, &back), 0, "{overlap:?}");
        assert_eq!((job.skipped, job.missed), (0, 0), "{overlap:?}");
        assert_eq!(job.due, Some(at("2026-03-01T00:20:00Z")), "{overlap:?}");
        assert_eq!(advance(&mut job, &["2026-03-01T00:20:00Z"]), 1, "{overlap:?}");
    }
}

#[test]
fn a_clock_that_jumps_ahead_runs_the_ticks_in_the_window_as_the_policy_says() {
    for (overlap, begun, skipped, waiting) in [
        (Overlap::Skip, 1, 3, 0),
        (Overlap::Queue, 4, 0, 3),
        (Overlap::Preempt, 4, 0, 3),
        (Overlap::Allow, 4, 0, 0),
    ] {
        let mut job = job("*/10 * * * *", overlap);
        job.config.catch_up_window = Duration::from_mins(30);
        // A day at once: the ticks of the last half hour are left, and the gap before them counts once.
        let found = advance(&mut job, &["2026-03-02T00:30:00Z"]);
        let held = job.runs.iter().filter(|run| run.held).count();
        let cancelled = job.runs.iter().filter(|run| run.cancelled).count();
        assert_eq!((found, job.skipped, held), (begun, skipped, waiting), "{overlap:?}");
        assert_eq!(cancelled, if overlap == Overlap::Preempt { 3 } else { 0 });
        assert_eq!((job.missed, job.next_tick), (1, Some(at("2026-03-02T00:40:00Z"))));
        // The clock is put right: nothing is due until it comes there again.
        assert_eq!(advance(&mut job, &["2026-03-01T00:10:00Z", "2026-03-02T00:39:59Z"]), 0);
        assert_eq!(job.skipped, skipped, "{overlap:?}");
    }
}

#[test]
fn a_backfill_over_a_change_of_clocks_runs_what_the_schedule_would_have_run() {
    for (cron, start, end, expected) in [
        (
            "30 2 * * *",
            "2026-03-28T00:00:00Z",
            "2026-03-31T00:00:00Z",
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        ),
        (
            "30 2 * * *",
            "2026-10-24T00:00:00Z",
            "2026-10-27T00:00:00Z",
            ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        (
            "30 * * * *",
            "2026-10-25T00:00:00Z",
            "2026-10-25T03:00:00Z",
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"],
        ),
    ] {
        let mut job = job(cron, Overlap::Allow);
        let now = at("2026-12-01T00:00:00Z");
        job.config.schedule.as_mut().expect("a schedule").zone =
            Zone::parse("Europe/Berlin").expect("a zone");
        job.next_tick = job.tick_after(now);
        let micro = Duration::from_micros(1);
        let (after, end): (Timestamp, Timestamp) = (at(start) - micro, at(end) - micro);
        let id = Uuid::from_u128(1);
        job.backfill(Backfill { id, after, end, finished: false }, now).expect("a backfill");
        assert_eq!(ticks(&job), expected, "{cron} from {start}");
    }
}

#[test]
fn ticks_without_room_are_skipped_and_taken_once() {
    let mut job = job("*/10 * * * *", Overlap::Allow);
    for _ in 0..2 {
        job.advance_with(Room::None, at("2026-03-01T00:10:00Z"));
    }
    assert_eq!((job.runs.len(), job.skipped), (0, 1));
    job.advance(at("2026-03-01T00:20:00Z"));
    assert_eq!(ticks(&job), ["2026-03-01T00:20:00Z"]);
}
