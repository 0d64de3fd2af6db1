//! How often progress is committed: reports of one operation are gathered, the newest wins.
//!
//! The first report is committed at once; on a stream the commit that made the lease counts as the first. What is held back
//! goes out with the next commit of the same lease, or by itself once the interval is over; it is dropped where the lease has
//! ended by then. A unary worker's report is held back only by a server that knows of no other. Its worker was told that it arrived: where the store is away it waits, and nothing goes past it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::engine::Engine;
use crate::engine::error::Reason;
use crate::engine::operations::commands::{Job, Outcome};
use crate::operation::Operation;
use crate::operation::command::{Command, Report};
use crate::operation::lease::Token;
use crate::operation::payload::type_name;
use crate::store::Key;

/// What was committed lately, and what is held back, by operation.
#[derive(Default)]
pub(in crate::engine) struct Pace {
    tracks: Mutex<HashMap<Key, Track>>,
    wake: Notify,
}

struct Track {
    token: Token,
    /// What metadata may be held back: any other must be refused at once.
    metadata_type: String,
    /// The number of the newest report: what has a smaller one was overtaken on the way.
    number: i64,
    /// When the last report was committed, as the engine's clock counts elapsed time.
    last: Duration,
    held: Option<Box<Report>>,
}

impl Pace {
    /// Progress was committed for the lease of that operation, or the lease itself.
    pub(in crate::engine) fn mark(&self, key: Key, operation: &Operation, now: Duration) {
        let Some(lease) = operation.state.lease() else { return };
        let (token, committed) = (lease.token, lease.report_number);
        let metadata_type = operation.spec.metadata_type.clone();
        let mut tracks = self.tracks();
        let known = tracks.remove(&key).filter(|track| track.token == token);
        let number = known.as_ref().map_or(0, |track| track.number).max(committed);
        let held = known.and_then(|track| track.held);
        tracks.insert(key, Track { token, metadata_type, number, last: now, held });
        self.wake_for_first(&tracks);
    }

    fn wake_for_first(&self, tracks: &HashMap<Key, Track>) {
        if tracks.len() == 1 {
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
        if report.number > 0 && report.number <= track.number {
            return None;
        }
        track.number = track.number.max(report.number);
        match &mut track.held {
            Some(held) => held.gather(*report),
            nothing @ None => *nothing = Some(report),
        }
        None
    }

    /// What is held back of that lease, for the commit that is about to be made.
    pub(in crate::engine) fn take(&self, key: Key, token: Token) -> Option<Box<Report>> {
        let mut tracks = self.tracks();
        tracks.get_mut(&key).filter(|track| track.token == token)?.held.take()
    }

    /// What could not be committed is held back again: it is older than what has come meanwhile.
    pub(in crate::engine) fn put_back(&self, key: Key, mut report: Box<Report>, now: Duration) {
        let mut tracks = self.tracks();
        let track = tracks.entry(key).or_insert_with(|| Track {
            token: report.renew.token,
            metadata_type: report
                .metadata
                .as_ref()
                .map_or_else(String::new, |any| type_name(&any.type_url).to_owned()),
            number: report.number,
            last: now,
            held: None,
        });
        if track.token == report.renew.token {
            if let Some(later) = track.held.take() {
                report.gather(*later);
            }
            track.held = Some(report);
        }
        self.wake_for_first(&tracks);
    }

    /// The lease has ended.
    pub(in crate::engine) fn forget(&self, key: Key) {
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
    pub(in crate::engine) fn hold_back(
        &self,
        key: Key,
        report: Box<Report>,
    ) -> Option<Box<Report>> {
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
    async fn flush_progress(&self) {
        for (key, report) in self.flush_once(self.next_is_due()).await {
            self.inner.pace.put_back(key, report, self.inner.clock.elapsed());
        }
    }

    /// Commits all that is held back: this server goes away.
    pub(in crate::engine) async fn flush_all_progress(&self) {
        let lost = self.flush_once(|_| true).await.len();
        if lost > 0 {
            tracing::warn!(lost, "progress that was held back is lost, as the store is away");
        }
    }

    /// Returns what the store did not take.
    async fn flush_once(&self, due: impl Fn(Duration) -> bool) -> Vec<(Key, Box<Report>)> {
        let ripe = self.inner.pace.ripe(due);
        if ripe.is_empty() {
            return Vec::new();
        }
        let job = |(key, report): &(Key, Box<Report>)| Job {
            key: *key,
            command: Command::Report(report.clone()),
        };
        let outcomes = self.apply_jobs(ripe.iter().map(job).collect()).await;
        // Where the lease has ended meanwhile there is nobody to tell.
        let away = |outcome: &Outcome| {
            outcome.as_ref().is_err_and(|error| error.reason == Reason::StoreUnavailable)
        };
        ripe.into_iter()
            .zip(outcomes)
            .filter(|(_, outcome)| away(outcome))
            .map(|(ripe, _)| ripe)
            .collect()
    }

    /// Runs the pace: looks while anything is held back.
    pub(in crate::engine) fn run_pace(&self) {
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
