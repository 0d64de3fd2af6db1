//! How many executions a job may have.

use uuid::Uuid;

use super::{START, at, job, perform};
use crate::job::{JobStep, Overlap, Trimmed};

#[test]
fn each_run_that_begins_counts_once() {
    let now = at(START);
    let mut job = job("0 0 1 1 *", Overlap::Allow);
    for number in 1..=3 {
        job.run(Uuid::from_u128(number), now).expect("a run");
    }
    assert_eq!(job.kept, Some(0));
    let [JobStep::Start(first), ..] = job.steps()[..] else { panic!("no start") };
    // Two servers note the same start.
    for _ in 0..2 {
        job.done(&[JobStep::Start(first)], now);
    }
    assert_eq!(job.kept, Some(1));
    // One ends before its start was noted.
    job.over(&[Uuid::from_u128(2)]);
    assert_eq!(job.kept, Some(2));
    perform(&mut job, now);
    job.over(&[Uuid::from_u128(1), Uuid::from_u128(3)]);
    assert_eq!(job.kept, Some(3));
    job.config.history_limit = 3;
    assert!(!job.keeps_too_many());
    job.config.history_limit = 2;
    assert!(job.keeps_too_many());
}

#[test]
fn the_number_is_never_less_than_there_are() {
    let now = at(START);
    let mut job = job("0 0 1 1 *", Overlap::Allow);
    job.kept = Some(9);
    job.trimmed(Trimmed { seen: Some(9), left: Some(5) });
    assert_eq!(job.kept, Some(5));
    // Counted before a run began, or before another server removed some.
    job.trimmed(Trimmed { seen: Some(4), left: Some(3) });
    assert_eq!(job.kept, Some(5));
    // As an older longhaul wrote it.
    job.kept = None;
    assert!(job.keeps_too_many());
    job.run(Uuid::from_u128(1), now).expect("a run");
    perform(&mut job, now);
    job.trimmed(Trimmed { seen: None, left: None });
    assert_eq!(job.kept, None);
    job.trimmed(Trimmed { seen: None, left: Some(2) });
    assert_eq!(job.kept, Some(3), "the run that is under way may not have been counted");
}
