//! A worker's right to work on an operation, and the memory of ended leases.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::limits::MAX_ENDED_LEASES;

/// A worker's proof that it holds an operation: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(pub [u8; 16]);

/// Tokens stay out of logs.
impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token(..)")
    }
}

/// The fingerprint of a call.
pub type Fingerprint = [u8; 16];

/// Names the stream that holds a lease: 8 random bytes.
pub type Holder = [u8; 8];

/// A lease that lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Proves it.
    pub token: Token,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The name that the worker gives itself.
    pub worker: String,
    /// When it was given.
    pub start_time: Timestamp,
    /// When it may be given to somebody else.
    pub expire_time: Timestamp,
    /// How long it lasts from each renewal.
    pub duration: Duration,
    /// The newest report that was committed.
    pub report_number: i64,
    /// The stream that holds it; `None` for unary workers.
    pub holder: Option<Holder>,
    /// The fraction done before it, if known: the estimate of the end excludes it.
    pub first_fraction: f64,
    /// Without progress for this long it counts as stalled; zero is never.
    pub stall_timeout: Duration,
    /// Without progress for too long.
    pub stalled: bool,
    /// Identifies its slot in the gate of its queue, if the queue has a limit.
    pub slot: Option<Timestamp>,
}

impl Lease {
    /// Renews it as of `now`. A promised duration is never shortened.
    pub fn renew(&mut self, duration: Option<Duration>, now: Timestamp) {
        self.duration = duration.unwrap_or(self.duration);
        self.expire_time = self.expire_time.max(now + self.duration);
    }

    /// Whether so much is left that a bare renewal need not be stored.
    pub fn is_fresh(&self, duration: Option<Duration>, now: Timestamp) -> bool {
        let duration = duration.unwrap_or(self.duration);
        duration == self.duration && self.expire_time.since(now) >= duration / 2
    }
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It was lost: expiry, timeout, forced cancellation.
    Lost,
    /// `CompleteOperation`.
    Complete,
    /// `FailOperation`.
    Fail,
    /// `ReleaseLease`.
    Release,
    /// `SuspendOperation`.
    Suspend,
}

/// The answer to the call that ended a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The operation had been deleted.
    pub discarded: bool,
    /// Another attempt follows.
    pub will_retry: bool,
    /// When that attempt may begin.
    pub schedule_time: Option<Timestamp>,
}

/// A lease that has ended, kept to answer repeats of the call that ended it.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedLease {
    /// Its token.
    pub token: Token,
    /// How it ended.
    pub call: Call,
    /// The fingerprint of the call.
    pub fingerprint: Fingerprint,
    /// The answer to the call.
    pub answer: Answer,
}

/// Remembers `ended`, and forgets the oldest if there are too many.
pub fn remember(leases: &mut Vec<EndedLease>, ended: EndedLease) {
    if leases.len() >= MAX_ENDED_LEASES {
        leases.remove(0);
    }
    leases.push(ended);
}
