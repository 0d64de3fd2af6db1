//! Times as they are stored: as microseconds after the operation's create time, which takes fewer bytes.

use crate::clock::Timestamp;

/// Counts from an operation's create time.
#[derive(Clone, Copy)]
pub(super) struct Base(pub(super) Timestamp);

impl Base {
    pub(super) fn after(self, time: Timestamp) -> i64 {
        (time.as_micros() as i64).wrapping_sub(self.0.as_micros() as i64)
    }

    /// A time before the epoch, which only damage brings, becomes the epoch.
    pub(super) fn time(self, after: i64) -> Timestamp {
        let micros = (self.0.as_micros() as i64).saturating_add(after);
        Timestamp::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    pub(super) fn after_published(self, time: Option<&prost_types::Timestamp>) -> Option<i64> {
        time.map(|time| self.after(time.into()))
    }

    pub(super) fn published(self, after: Option<i64>) -> Option<prost_types::Timestamp> {
        after.map(|after| self.time(after).into())
    }
}
