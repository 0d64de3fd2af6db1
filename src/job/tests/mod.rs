//! Tests of schedules and of the decisions of jobs.

mod cron;
mod decisions;
mod schedules;

use crate::clock::Timestamp;

/// The instant of an RFC 3339 text.
fn at(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().expect("an instant");
    Timestamp::from_micros(instant.as_microsecond() as u64)
}
