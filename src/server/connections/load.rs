//! How many calls that write run at the same time, so that a server beyond its capacity answers those that it accepts soon.
//!
//! The limit follows the time that calls take: it shrinks while they take too long, and grows while it is reached and they
//! do not. Calls that make new work are refused first. Those of workers have twice the room, since they end work.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request};

use super::refusal::overloaded;
use crate::clock::Clock;
use crate::engine::Error;
use crate::limits::{MAX_WRITES, MIN_WRITES, WRITE_TIME};
use crate::server::faces::Spoken;
use crate::throttle::Throttle;

/// The calls of one server.
#[derive(Debug)]
pub(super) struct Load {
    clock: Arc<dyn Clock>,
    running: AtomicUsize,
    limit: AtomicUsize,
    window: Mutex<LoadWindow>,
    /// When the present window ends, so that few calls take the lock.
    window_end: AtomicU64,
    throttle: Throttle,
}

/// What was measured since the limit was last set.
#[derive(Debug, Default)]
struct LoadWindow {
    calls: u32,
    took: Duration,
    most: usize,
}

/// What a call does to the server's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadKind {
    /// It makes new work.
    NewWork,
    /// It changes work that exists.
    Work,
    /// It reads, or waits for something: bounded elsewhere.
    Other,
}

/// A call that runs. Counts until it is dropped.
#[derive(Debug)]
pub(super) struct LoadShare {
    load: Arc<Load>,
    began: Duration,
}

impl Load {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            running: AtomicUsize::new(0),
            limit: AtomicUsize::new(MAX_WRITES),
            window: Mutex::default(),
            window_end: AtomicU64::new(0),
            throttle: Throttle::new(Arc::clone(&clock)),
            clock,
        })
    }

    /// Lets a call in; one beyond the limit is refused.
    pub(super) fn admit(self: &Arc<Self>, kind: LoadKind) -> Result<Option<LoadShare>, Box<Error>> {
        let limit = self.limit.load(Ordering::Relaxed);
        let most = match kind {
            LoadKind::Other => return Ok(None),
            LoadKind::NewWork => limit,
            LoadKind::Work => limit * 2,
        };
        if self.running.fetch_add(1, Ordering::Relaxed) >= most {
            self.running.fetch_sub(1, Ordering::Relaxed);
            if let Some(left_out) = self.throttle.admit("overload") {
                tracing::warn!(
                    limit,
                    left_out,
                    "more calls than this server can answer in time; some are refused"
                );
            }
            return Err(overloaded(
                "this server has more calls than it can answer in time; try again",
            ));
        }
        Ok(Some(LoadShare { began: self.clock.elapsed(), load: Arc::clone(self) }))
    }

    /// Notes how long a call took.
    fn note(&self, began: Duration, running: usize) {
        let now = self.clock.elapsed();
        // A measurement is not worth waiting for.
        let Ok(mut window) = self.window.try_lock() else { return };
        window.calls += 1;
        window.took += now.saturating_sub(began);
        window.most = window.most.max(running);
        if (now.as_micros() as u64) < self.window_end.load(Ordering::Relaxed) {
            return;
        }
        let measured = std::mem::take(&mut *window);
        self.window_end.store((now + WINDOW).as_micros() as u64, Ordering::Relaxed);
        let limit = self.limit.load(Ordering::Relaxed);
        self.limit.store(next_limit(limit, &measured), Ordering::Relaxed);
    }
}

/// The limit after a window.
fn next_limit(limit: usize, measured: &LoadWindow) -> usize {
    let mean = measured.took / measured.calls.max(1);
    let next = if mean > WRITE_TIME {
        limit / 4 * 3
    } else if measured.most >= limit {
        limit + limit / 8 + 1
    } else {
        limit
    };
    next.clamp(MIN_WRITES, MAX_WRITES)
}

impl Drop for LoadShare {
    fn drop(&mut self) {
        let running = self.load.running.fetch_sub(1, Ordering::Relaxed);
        self.load.note(self.began, running);
    }
}

impl LoadKind {
    /// What a request does.
    pub(super) fn of<B>(spoken: Spoken, request: &Request<B>) -> Self {
        let path = request.uri().path();
        match spoken {
            Spoken::Grpc | Spoken::GrpcWeb => {
                Self::of_method(path.rsplit('/').next().unwrap_or_default())
            }
            Spoken::Http if request.method() == Method::GET => Self::Other,
            Spoken::Http => Self::of_verb(path.rsplit_once(':').map(|(_, verb)| verb)),
        }
    }

    fn of_method(method: &str) -> Self {
        let begins = |words: &[&str]| words.iter().any(|word| method.starts_with(word));
        if begins(&["Get", "List", "Watch", "Wait", "Lease", "Serve", "Export", "Check", "Test"]) {
            Self::Other
        } else if begins(&["Start", "BatchStart", "Create", "Run"]) {
            Self::NewWork
        } else {
            Self::Work
        }
    }

    /// Those of the custom verbs over HTTP that wait answer within their own bounds.
    fn of_verb(verb: Option<&str>) -> Self {
        match verb {
            Some("wait" | "watch" | "lease" | "serve" | "export" | "test") => Self::Other,
            Some(verb) if verb.starts_with("start") || verb.starts_with("batchStart") => {
                Self::NewWork
            }
            _ => Self::Work,
        }
    }
}

/// How long calls are measured before the limit is set again.
const WINDOW: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::engine::Reason;

    fn fill(load: &Arc<Load>, kind: LoadKind) -> Vec<LoadShare> {
        let mut shares = Vec::new();
        while let Ok(Some(share)) = load.admit(kind) {
            shares.push(share);
        }
        shares
    }

    #[test]
    fn a_server_beyond_its_capacity_refuses_new_work_first_and_recovers() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let load = Load::new(clock.clone());
        let shares = fill(&load, LoadKind::NewWork);
        assert_eq!(shares.len(), MAX_WRITES);
        let refusal = load.admit(LoadKind::NewWork).expect_err("a refusal");
        assert_eq!(refusal.reason, Reason::Overloaded);
        assert!(refusal.retry_delay.is_some());
        assert!(load.admit(LoadKind::Work).is_ok(), "a worker may end work");
        assert!(load.admit(LoadKind::Other).is_ok(), "reads are slowed, not refused");
        clock.advance(WRITE_TIME * 2);
        drop(shares);
        let mut limits = vec![MAX_WRITES];
        for _ in 0..40 {
            let shares = fill(&load, LoadKind::NewWork);
            limits.push(shares.len());
            clock.advance(WRITE_TIME * 2);
            drop(shares);
        }
        assert!(limits.is_sorted_by(|one, next| one >= next), "{limits:?}");
        assert_eq!(limits.last(), Some(&MIN_WRITES), "{limits:?}");
        let mut limits = Vec::new();
        for _ in 0..60 {
            let shares = fill(&load, LoadKind::NewWork);
            limits.push(shares.len());
            clock.advance(WINDOW);
            drop(shares);
        }
        assert_eq!(limits.last(), Some(&MAX_WRITES), "{limits:?}");
    }

    #[test]
    fn a_limit_that_is_not_reached_stays() {
        let measured = LoadWindow { calls: 10, took: Duration::from_millis(10), most: 10 };
        assert_eq!(next_limit(100, &measured), 100);
        assert_eq!(next_limit(10, &LoadWindow { most: 10, ..measured }), MIN_WRITES);
    }

    #[test]
    fn each_call_has_the_load_of_what_it_does() {
        let post = |path: &str| Request::post(path).body(()).expect("a request");
        for (path, kind) in [
            ("/longhaul.v1.Producers/StartOperation", LoadKind::NewWork),
            ("/longhaul.v1.Producers/BatchStartOperations", LoadKind::NewWork),
            ("/longhaul.v1.Workers/StartLeasedOperation", LoadKind::NewWork),
            ("/longhaul.v1.Workers/CompleteOperation", LoadKind::Work),
            ("/google.longrunning.Operations/CancelOperation", LoadKind::Work),
            ("/google.longrunning.Operations/GetOperation", LoadKind::Other),
            ("/google.longrunning.Operations/WaitOperation", LoadKind::Other),
            ("/longhaul.v1.Webhooks/TestWebhookEndpoint", LoadKind::Other),
            ("/longhaul.v1.Workers/LeaseOperations", LoadKind::Other),
            ("/longhaul.v1.Workers/ServeQueue", LoadKind::Other),
        ] {
            assert_eq!(LoadKind::of(Spoken::Grpc, &post(path)), kind, "{path}");
        }
        for (path, kind) in [
            ("/v1/operations:start", LoadKind::NewWork),
            ("/v1/a/b/operations:batchStart", LoadKind::NewWork),
            ("/v1/operations/x:cancel", LoadKind::Work),
            ("/v1/operations/x:wait", LoadKind::Other),
            ("/v1/webhookEndpoints/x:test", LoadKind::Other),
        ] {
            assert_eq!(LoadKind::of(Spoken::Http, &post(path)), kind, "{path}");
        }
    }
}
