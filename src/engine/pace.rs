//! How often progress is committed: reports of one operation are gathered, the newest wins.
//!
//! The first report is committed at once; on a stream the commit that made the lease counts as the first. What is held back
//! goes out with the next commit of the same lease, or by itself once the interval is over; it is dropped where the lease has
//! ended by then.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Engine;
use super::error::Reason;
use super::turns::Job;
use crate::operation::Operation;
use crate::operation::command::{Command, Report};
use crate::operation::lease::Token;
use crate::operation::payload::type_name;
use crate::store::Key;

/// What was committed lately, and what is held back, by operation.
#[derive(Default)]
pub(super) struct Pace {
    tracks: Mutex<HashMap<Key, Track>>,
    wake: Notify,
}

struct Track {
    token: Token,
    /// What metadata may be held back: any other must be refused at once.
    metadata_type: String,
    /// When the last report was committed, as the engine's clock counts elapsed time.
    last: Duration,
    held: Option<Box<Report>>,
}

impl Pace {
    /// Progress was committed for the lease of that operation, or the lease itself.
    pub(super) fn mark(&self, key: Key, operation: &Operation, now: Duration) {
        let Some(token) = operation.state.lease().map(|lease| lease.token) else { return };
        let metadata_type = operation.spec.metadata_type.clone();
        let mut tracks = self.tracks();
        let known = tracks.remove(&key).filter(|track| track.token == token);
        let held = known.and_then(|track| track.held);
        tracks.insert(key, Track { token, metadata_type, last: now, held });
        let first = tracks.len() == 1;
        drop(tracks);
        if first {
            self.wake.notify_one();
        }
    }

    /// Holds a report back unless the next one is due; then it comes back.
    fn hold(
        &self,
        key: Key,
        report: Box<Report>,
        due: impl Fn(Duration) -> bool,
    ) -> Option<Box<Report>> {
        let mut tracks = self.tracks();
        let fits = |track: &&mut Track| {
            let metadata = report.metadata.as_ref();
            track.token == report.renew.token
                && !due(track.last)
                && metadata.is_none_or(|any| type_name(&any.type_url) == track.metadata_type)
        };
        let Some(track) = tracks.get_mut(&key).filter(fits) else {
            return Some(report);
        };
        match &mut track.held {
            Some(held) => held.gather(*report),
            nothing @ None => *nothing = Some(report),
        }
        None
    }

    /// What is held back of that lease, for the commit that is about to be made.
    pub(super) fn take(&self, key: Key, token: Token) -> Option<Box<Report>> {
        let mut tracks = self.tracks();
        tracks.get_mut(&key).filter(|track| track.token == token)?.held.take()
    }

    /// The lease has ended.
    pub(super) fn forget(&self, key: Key) {
        self.tracks().remove(&key);
    }

    /// What has been held back for long enough; what was idle for as long is forgotten.
    fn ripe(&self, due: impl Fn(Duration) -> bool) -> Vec<(Key, Box<Report>)> {
        let mut ripe = Vec::new();
        self.tracks().retain(|key, track| {
            let over = due(track.last);
            if over {
                ripe.extend(track.held.take().map(|report| (*key, report)));
            }
            !over
        });
        ripe
    }

    fn is_empty(&self) -> bool {
        self.tracks().is_empty()
    }

    fn tracks(&self) -> MutexGuard<'_, HashMap<Key, Track>> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Holds a bare report back if another was committed a moment ago; else it comes back, to be committed.
    pub(super) fn hold_back(&self, key: Key, report: Box<Report>) -> Option<Box<Report>> {
        let interval = self.inner.settings.progress_interval;
        if interval.is_zero() || !report.is_bare() || !report.shows() {
            return Some(report);
        }
        self.inner.pace.hold(key, report, self.next_is_due())
    }

    /// Whether progress may be committed again after that time.
    fn next_is_due(&self) -> impl Fn(Duration) -> bool + use<> {
        let (now, interval) = (self.inner.clock.elapsed(), self.inner.settings.progress_interval);
        move |last| last + interval <= now
    }

    /// Commits what has been held back for long enough.
    pub(super) async fn flush_progress(&self) {
        let ripe = self.inner.pace.ripe(self.next_is_due());
        if ripe.is_empty() {
            return;
        }
        let job = |(key, report)| Job { key, command: Command::Report(report) };
        for outcome in self.apply_jobs(ripe.into_iter().map(job).collect()).await {
            // Where the lease has ended meanwhile there is nobody to tell.
            if let Err(error) = outcome.map(drop)
                && error.reason == Reason::StoreUnavailable
            {
                tracing::warn!(%error, "progress that was held back is lost");
            }
        }
    }

    /// Runs the pace: looks while anything is held back.
    pub(super) fn run_pace(&self) {
        let engine = self.clone();
        self.inner.tasks.spawn("progress", async move {
            loop {
                if engine.inner.pace.is_empty() {
                    engine.inner.pace.wake.notified().await;
                }
                engine.idle_for(engine.inner.settings.progress_interval / 4).await;
                engine.flush_progress().await;
            }
        });
    }
}
