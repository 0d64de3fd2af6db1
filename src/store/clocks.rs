//! Warnings about a clock that disagrees with the stored times.

use std::time::Duration;

use crate::clock::Timestamp;

/// That a clock is behind the last commit, if so.
pub(super) fn behind(clock: &str, says: Timestamp, last: Timestamp) -> Option<String> {
    let behind = last.since(says);
    (behind > TOLERATED).then(|| {
        format!("{clock} says {says}, which is {} before the last commit ({last})", rounded(behind))
    })
}

/// That a clock is so far ahead of the last commit that it is more likely wrong, if so.
pub(super) fn far_ahead(clock: &str, says: Timestamp, last: Timestamp) -> Option<String> {
    let ahead = says.since(last);
    (last > Timestamp::EPOCH && ahead > LONG_AWAY).then(|| {
        format!("{clock} says {says}, which is {} after the last commit ({last})", rounded(ahead))
    })
}

fn rounded(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

/// Revisions may run ahead of the clock by as many microseconds as there were commits in one of them.
const TOLERATED: Duration = Duration::from_secs(1);
/// If a store seems unused for longer than this, the machine's clock is more likely wrong.
const LONG_AWAY: Duration = Duration::from_hours(24 * 30);
