//! Invariants over random histories.

use std::time::Duration;

use proptest::prelude::*;

use super::samples::{
    START, complete, delete, due, fail, pause, release, renew, report, report_of, resume,
    resume_with, started, suspend, take,
};
use crate::clock::Timestamp;
use crate::code::Code;
use crate::operation::command::{Cancel, Command};
use crate::operation::entries::{DueClass, entries};
use crate::operation::gate::Admittance;
use crate::operation::lease::Token;
use crate::operation::options::{Options, RetryPolicy};
use crate::operation::{Applied, Operation, Record, State, apply};
use crate::proto::longhaul::v1 as pb;

fn command() -> impl Strategy<Value = Command> {
    let token = (1_u8..4).prop_map(|number| Token([number; 16]));
    prop_oneof![
        4 => token.clone().prop_map(take),
        2 => token.clone().prop_map(|token| Command::Renew(renew(token))),
        2 => (token.clone(), 0_i64..5).prop_map(|(token, number)| report(token, number)),
        1 => token.clone().prop_map(complete),
        3 => (token.clone(), 1_i32..17, any::<Option<bool>>()).prop_map(|(token, code, retry)| fail(token, code, retry)),
        2 => (token.clone(), any::<bool>()).prop_map(|(token, seen)| release(token, seen)),
        2 => (token, proptest::option::of(0_u64..100)).prop_map(|(token, pause)| suspend(token, pause.map(|pause| START + Duration::from_secs(pause)))),
        1 => Just(Command::Cancel(Cancel::default())),
        1 => any::<u8>().prop_map(delete),
        1 => Just(pause()),
        1 => (0_u64..3).prop_map(|since| Command::Admit(Timestamp::from_micros(since + 1))),
        1 => any::<u8>().prop_map(resume),
        2 => (any::<u8>(), "[ab]").prop_map(|(nonce, input)| resume_with(nonce, &input)),
        6 => proptest::sample::select(DueClass::ALL.to_vec()).prop_map(due),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let seconds = || proptest::option::of((1_u64..200).prop_map(Duration::from_secs));
    (seconds(), seconds(), seconds(), 0_u32..4, -100_i32..=100).prop_map(
        |(attempt_timeout, queue_timeout, cancel_grace, max_attempts, priority)| Options {
            attempt_timeout,
            queue_timeout,
            cancel_grace,
            priority,
            retry_policy: Some(RetryPolicy {
                max_attempts: Some(max_attempts).filter(|attempts| *attempts > 0),
                retryable_codes: vec![Code::DeadlineExceeded],
                ..RetryPolicy::default()
            }),
            ..Options::default()
        },
    )
}

proptest! {
    #[test]
    fn no_history_breaks_an_invariant(options in options(), steps in prop::collection::vec((command(), 0_u64..60), 1..60)) {
        let mut record = started(options);
        let mut now = START;
        for (command, pause) in steps {
            now = now + Duration::from_secs(pause);
            let Ok(Applied::Changed(change)) = apply(&record, &command, now) else { continue };
            let Some(next) = change.record.clone() else { break };
            check_step(&record, &next, &command)?;
            check_record(&next, now)?;
            // A repeat of the same command gets an answer and changes nothing more.
            if repeats_are_known(&command) {
                let again = apply(&next, &command, now);
                prop_assert!(matches!(again, Ok(Applied::Unchanged(_))), "{command:?} again: {again:?}");
            }
            record = next;
        }
    }
}

fn progress() -> impl Strategy<Value = pb::Progress> {
    let fraction = prop_oneof![
        proptest::num::f64::ANY,
        0.0..=1.0,
        proptest::sample::select(vec![0.0, 1e-300, f64::MIN_POSITIVE, 1.0, f64::NAN]),
    ];
    let units = || {
        prop_oneof![
            any::<i64>(),
            0_i64..9,
            proptest::sample::select(vec![0, 1, i64::MAX - 1, i64::MAX])
        ]
    };
    (proptest::option::of(fraction), units(), units()).prop_map(
        |(fraction, completed_units, total_units)| pb::Progress {
            fraction,
            completed_units,
            total_units,
            ..pb::Progress::default()
        },
    )
}

proptest! {
    #[test]
    fn no_number_of_a_report_breaks_the_estimate_or_what_callers_see(
        reports in prop::collection::vec((progress(), 0_u64..u64::MAX / 2), 1..6),
    ) {
        let token = Token([1; 16]);
        let mut record = started(Options::default());
        let mut now = START;
        let said = reports.into_iter().map(|(progress, pause)| (report_of(token, progress), pause));
        for (command, pause) in std::iter::once((take(token), 0)).chain(said) {
            now = now + Duration::from_micros(pause);
            if let Ok(Applied::Changed(change)) = apply(&record, &command, now)
                && let Some(next) = change.record
            {
                record = next;
            }
            let Some(operation) = record.operation() else { break };
            let server = operation.record().server_metadata.unwrap_or_default();
            if let Some(end) = &server.estimated_end_time {
                prop_assert!(Timestamp::from(end) >= START, "{server:?}");
                prop_assert!((0..1_000_000_000).contains(&end.nanos), "{server:?}");
            }
        }
    }
}

/// All except renewals of time and commands without a number.
fn repeats_are_known(command: &Command) -> bool {
    match command {
        Command::Report(report) => report.number > 0,
        Command::Due(_) => false,
        _ => true,
    }
}

fn check_step(before: &Record, after: &Record, command: &Command) -> Result<(), TestCaseError> {
    let (Some(old), Some(new)) = (before.operation(), after.operation()) else {
        prop_assert!(before.operation().is_some(), "a tombstone came back to life by {command:?}");
        return Ok(());
    };
    if old.state.is_done() {
        prop_assert!(
            matches!(command, Command::Delete(_)),
            "{} changed by {command:?}",
            old.state.name()
        );
    }
    prop_assert!(new.attempts_used >= old.attempts_used);
    prop_assert_eq!(old.uid, new.uid);
    prop_assert_eq!(&old.spec, &new.spec);
    prop_assert!(new.update_time >= old.update_time);
    let answered = new.state.is_done() || matches!(command, Command::Suspend(_));
    if old.resume_input.is_some() && !answered {
        prop_assert_eq!(&new.resume_input, &old.resume_input, "an input was lost by {:?}", command);
    }
    if old.cancel_requested() {
        prop_assert!(
            new.state.is_done() || matches!(new.state, State::Cancelling(..)),
            "cancelling went to {}",
            new.state.name()
        );
    }
    Ok(())
}

fn check_record(record: &Record, now: Timestamp) -> Result<(), TestCaseError> {
    let key = [5; 16];
    let entries = entries(record, &key);
    prop_assert!(entries.iter().all(|(_, member)| member.ends_with(&key)));
    let Some(operation) = record.operation() else { return Ok(()) };
    prop_assert_eq!(operation.state.is_done(), operation.end_time.is_some());
    prop_assert_eq!(operation.state.is_done(), operation.published().done);
    prop_assert_eq!(operation.state.is_done(), operation.published().result.is_some());
    prop_assert!(
        operation.attempts_used <= operation.max_attempts(),
        "{} attempts",
        operation.attempts_used
    );
    check_places(operation, now)
}

/// Every later change by itself has an index entry, early or on time.
fn check_places(operation: &Operation, now: Timestamp) -> Result<(), TestCaseError> {
    let places = &operation.places;
    for (class, time) in crate::operation::entries::times(operation, places.has_come()) {
        let entry = places.due.iter().find(|(other, _)| *other == class);
        prop_assert!(
            entry.is_some_and(|(_, lies)| *lies <= time),
            "{class:?} at {time:?} lies at {entry:?}"
        );
    }
    if let State::Pending(pending) = &operation.state {
        let waits = operation.admission == Some(Admittance::Waiting);
        prop_assert_eq!(places.has_come(), pending.ready_time <= now);
        let other = if waits { places.ready } else { places.waiting };
        prop_assert!(other.is_none(), "{other:?}");
    } else {
        prop_assert!(!places.has_come());
    }
    Ok(())
}
