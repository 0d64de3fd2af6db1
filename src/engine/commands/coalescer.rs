//! How often progress is committed: reports of one operation are merged, the newest wins.
//!
//! The first report is committed at once; on a stream the commit of the lease counts as the first. A held-back report is
//! included in the next commit of the same lease, or committed when the interval ends; it is dropped if the lease has
//! ended. A unary report is held back only by a server that knows no other. It was acknowledged, so it waits during an outage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::operation::Operation;
use crate::operation::command::Report;
use crate::operation::lease::Token;
use crate::operation::payload::type_name;
use crate::store::Key;

/// Recent commits and held-back reports, by operation.
pub(in crate::engine) struct Coalescer {
    clock: Arc<dyn Clock>,
    /// Reports of one operation are committed once in this time; zero: each at once.
    interval: Duration,
    tracks: Mutex<HashMap<Key, Track>>,
    wake: Notify,
}

struct Track {
    token: Token,
    /// Whether its metadata may be held back: metadata that would be refused must be refused at once.
    metadata_type: String,
    /// The number of the newest report: a smaller one was overtaken on the way.
    number: i64,
    /// When the last report was committed, as the engine's clock counts elapsed time.
    last: Duration,
    /// The held-back report is being committed since `last`: the interval begins then, however long the store takes.
    committing: bool,
    held: Option<Box<Report>>,
}

impl Coalescer {
    pub(in crate::engine) fn new(clock: Arc<dyn Clock>, interval: Duration) -> Self {
        Self { clock, interval, tracks: Mutex::default(), wake: Notify::new() }
    }

    /// Progress was committed for the lease of that operation, or the lease itself.
    pub(in crate::engine) fn mark(&self, key: Key, operation: &Operation) {
        let Some(lease) = operation.state.lease() else { return };
        let (token, committed) = (lease.token, lease.report_number);
        let metadata_type = operation.spec.metadata_type.clone();
        let now = self.clock.elapsed();
        let mut tracks = self.tracks();
        let known = tracks.remove(&key).filter(|track| track.token == token);
        let number = known.as_ref().map_or(0, |track| track.number).max(committed);
        let last = known.as_ref().filter(|track| track.committing).map_or(now, |track| track.last);
        let held = known.and_then(|track| track.held);
        let track = Track { token, metadata_type, number, last, committing: false, held };
        tracks.insert(key, track);
        self.wake_for_first(&tracks);
    }

    fn wake_for_first(&self, tracks: &HashMap<Key, Track>) {
        if tracks.len() == 1 {
            self.wake.notify_one();
        }
    }

    /// Holds back a bare report if another was committed recently; otherwise returns it for a commit.
    pub(in crate::engine) fn hold(&self, key: Key, report: Box<Report>) -> Option<Box<Report>> {
        if self.interval.is_zero() || !report.is_bare() || !report.shows() {
            return Some(report);
        }
        let due = self.next_is_due();
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

    /// The held-back report of that lease, for the next commit.
    pub(in crate::engine) fn take(&self, key: Key, token: Token) -> Option<Box<Report>> {
        let mut tracks = self.tracks();
        tracks.get_mut(&key).filter(|track| track.token == token)?.held.take()
    }

    /// Holds back a report again after a failed commit; it is older than reports that arrived meanwhile.
    pub(in crate::engine) fn put_back(&self, key: Key, mut report: Box<Report>) {
        let now = self.clock.elapsed();
        let mut tracks = self.tracks();
        let track = tracks.entry(key).or_insert_with(|| Track {
            token: report.renew.token,
            metadata_type: report
                .metadata
                .as_ref()
                .map_or_else(String::new, |any| type_name(&any.type_url).to_owned()),
            number: report.number,
            last: now,
            committing: false,
            held: None,
        });
        if track.token == report.renew.token {
            if let Some(later) = track.held.take() {
                report.gather(*later);
            }
            track.held = Some(report);
            track.committing = false;
        }
        self.wake_for_first(&tracks);
    }

    /// The lease has ended.
    pub(in crate::engine) fn forget(&self, key: Key) {
        self.tracks().remove(&key);
    }

    /// Takes all reports whose interval has ended; entries that were idle as long are removed.
    pub(in crate::engine) fn take_ripe(&self) -> Vec<(Key, Box<Report>)> {
        self.take_where(self.next_is_due())
    }

    /// Takes all that is held back.
    pub(in crate::engine) fn take_all(&self) -> Vec<(Key, Box<Report>)> {
        self.take_where(|_| true)
    }

    /// Resolves when a report may be ready to commit; pending while none is held back.
    pub(in crate::engine) async fn ripening(&self) {
        if self.tracks().is_empty() {
            self.wake.notified().await;
        }
        self.clock.sleep(self.interval / 4).await;
    }

    fn take_where(&self, due: impl Fn(Duration) -> bool) -> Vec<(Key, Box<Report>)> {
        let now = self.clock.elapsed();
        let mut ripe = Vec::new();
        self.tracks().retain(|key, track| {
            if !due(track.last) {
                return true;
            }
            let Some(report) = track.held.take() else { return false };
            ripe.push((*key, report));
            track.last = now;
            track.committing = true;
            true
        });
        ripe
    }

    /// Whether progress may be committed again after that time.
    fn next_is_due(&self) -> impl Fn(Duration) -> bool + use<> {
        let (now, interval) = (self.clock.elapsed(), self.interval);
        move |last| last + interval <= now
    }

    fn tracks(&self) -> MutexGuard<'_, HashMap<Key, Track>> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::operation::command::{Renew, Take};
    use crate::operation::name::Name;
    use crate::operation::{Birth, Start, start};
    use crate::proto::longhaul::v1::Progress;
    use crate::store::Keyspace;

    const TOKEN: Token = Token([7; 16]);
    const INTERVAL: Duration = Duration::from_millis(200);

    fn leased() -> Operation {
        let lease = Take {
            token: TOKEN,
            worker: "w".to_owned(),
            duration: INTERVAL * 100,
            holder: None,
            stall_timeout: INTERVAL * 100,
            slot: None,
        };
        let name = Name::parse("operations/a").expect("a name");
        let birth =
            Birth { name, uid: Uuid::nil(), lease: Some(lease), admission: None, not_after: None };
        let change = start(Start::default(), birth, Timestamp::from_micros(1)).expect("a start");
        change.record.and_then(|record| record.operation().cloned()).expect("an operation")
    }

    fn report(fraction: f64) -> Box<Report> {
        let progress = Progress { fraction: Some(fraction), ..Progress::default() };
        let renew = Renew { token: TOKEN, duration: None, cancel_acknowledged: false };
        Box::new(Report {
            renew,
            number: 0,
            progress: Some(progress),
            metadata: None,
            checkpoint: None,
            partial_errors: Vec::new(),
            related_resources: Vec::new(),
            status_detail: String::new(),
        })
    }

    #[test]
    fn an_interval_begins_when_a_report_is_handed_to_the_store_however_long_the_commit_takes() {
        let clock = ManualClock::new(Timestamp::from_micros(1));
        let coalescer = Coalescer::new(clock.clone(), INTERVAL);
        let (key, operation) = (Keyspace::generate(1).key("operations/a"), leased());
        coalescer.mark(key, &operation);
        assert!(coalescer.hold(key, report(0.1)).is_none());
        clock.advance(INTERVAL);
        assert_eq!(coalescer.take_ripe().len(), 1);
        assert!(coalescer.hold(key, report(0.2)).is_none(), "the commit is under way");
        clock.advance(INTERVAL);
        coalescer.mark(key, &operation);
        assert!(coalescer.hold(key, report(0.3)).is_some(), "an interval has passed since");
        coalescer.mark(key, &operation);
        assert!(coalescer.hold(key, report(0.4)).is_none(), "the next one has begun");
    }
}
