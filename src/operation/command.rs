//! Commands on an operation. Every command carries the data that identifies a repeat of it.

use std::time::Duration;

use super::due_class::DueClass;
use super::lease::{Fingerprint, Holder, Token};
use super::name::Name;
use crate::clock::Timestamp;
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;

/// A command to an operation that exists.
#[derive(Clone, Debug)]
pub enum Command {
    /// A worker takes it.
    Lease(Take),
    /// A worker goes on holding it.
    Renew(Renew),
    /// A stream holds it from now on.
    Adopt(Adopt),
    /// The stream that holds it is broken.
    Disown(Disown),
    /// A worker reports progress.
    Report(Box<Report>),
    /// A worker has done it.
    Complete(Box<Complete>),
    /// A worker could not do it.
    Fail(Box<Fail>),
    /// A worker gives it back.
    Release(Box<Release>),
    /// A worker parks it.
    Suspend(Box<Suspend>),
    /// A caller wants it stopped.
    Cancel(Cancel),
    /// A caller is no longer interested.
    Delete(Delete),
    /// A caller parks it.
    Pause(Pause),
    /// A caller ends a suspension.
    Resume(Box<Resume>),
    /// An entry of this class has come due.
    Due(Due),
    /// Its gate has a slot for it since then.
    Admit(Timestamp),
    /// A newer operation takes its slot.
    Evict(Box<Evict>),
}

impl Command {
    /// The lease token of a worker's command.
    pub fn token(&self) -> Option<Token> {
        match self {
            Self::Lease(take) => Some(take.token),
            Self::Renew(renew) => Some(renew.token),
            Self::Adopt(adopt) => Some(adopt.token),
            Self::Disown(disown) => Some(disown.token),
            Self::Report(report) => Some(report.renew.token),
            Self::Complete(complete) => Some(complete.proof.token),
            Self::Fail(fail) => Some(fail.proof.token),
            Self::Release(release) => Some(release.proof.token),
            Self::Suspend(suspend) => Some(suspend.proof.token),
            Self::Cancel(_)
            | Self::Delete(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Due(_)
            | Self::Admit(_)
            | Self::Evict(_) => None,
        }
    }

    /// Whether an operation can tell a repeat of it. A report without a number appends again.
    pub fn is_known_again(&self) -> bool {
        match self {
            Self::Report(report) => {
                report.number > 0
                    || (report.partial_errors.is_empty() && report.related_resources.is_empty())
            }
            _ => true,
        }
    }
}

/// A newer operation with the same concurrency key takes the slot of an older one.
#[derive(Clone, Debug)]
pub struct Evict {
    /// The newer one.
    pub by: Name,
    /// When that was started.
    pub create_time: Timestamp,
}

/// A worker's request for a lease.
#[derive(Clone, Debug)]
pub struct Take {
    /// The token of the new lease. Also identifies a repeat.
    pub token: Token,
    /// The name that the worker gives itself.
    pub worker: String,
    /// The duration of the lease.
    pub duration: Duration,
    /// The stream that will hold it.
    pub holder: Option<Holder>,
    /// Without progress for this long it counts as stalled; zero is never.
    pub stall_timeout: Duration,
    /// Its slot in the gate of its queue, if the queue has a limit.
    pub slot: Option<Timestamp>,
}

/// A bare renewal.
#[derive(Clone, Copy, Debug)]
pub struct Renew {
    /// Proves the lease.
    pub token: Token,
    /// A new duration.
    pub duration: Option<Duration>,
    /// The worker saw the request to cancel.
    pub cancel_acknowledged: bool,
}

/// A lease that a worker names in its Hello.
#[derive(Clone, Copy, Debug)]
pub struct Adopt {
    /// Proves the lease.
    pub token: Token,
    /// The stream that holds it from now on.
    pub holder: Holder,
    /// How long it lasts from now on.
    pub duration: Duration,
}

/// A lease whose stream is broken.
#[derive(Clone, Copy, Debug)]
pub struct Disown {
    /// Which lease.
    pub token: Token,
    /// The stream: nothing happens if another one holds the lease by now.
    pub holder: Holder,
    /// How long the lease lives on.
    pub grace: Duration,
}

/// A report of progress.
#[derive(Clone, Debug)]
pub struct Report {
    /// The renewal that it also is.
    pub renew: Renew,
    /// Identifies a repeat: rises from 1 within a lease; 0 never counts as a repeat.
    pub number: i64,
    /// Replaces the last.
    pub progress: Option<pb::Progress>,
    /// Replaces the last.
    pub metadata: Option<Any>,
    /// Replaces the last.
    pub checkpoint: Option<Any>,
    /// Appended.
    pub partial_errors: Vec<Status>,
    /// Appended.
    pub related_resources: Vec<pb::RelatedResource>,
    /// Replaces the last, if not empty.
    pub status_detail: String,
}

impl Report {
    /// Whether it may be merged with later ones: nothing in it must be stored on its own.
    pub fn is_bare(&self) -> bool {
        self.checkpoint.is_none()
            && self.partial_errors.is_empty()
            && self.related_resources.is_empty()
            && !self.renew.cancel_acknowledged
    }

    /// Merges a later report of the same lease into this one.
    pub fn gather(&mut self, later: Self) {
        self.renew.duration = later.renew.duration.or(self.renew.duration);
        self.number = self.number.max(later.number);
        self.progress = later.progress.or(self.progress.take());
        self.metadata = later.metadata.or(self.metadata.take());
        if !later.status_detail.is_empty() {
            self.status_detail = later.status_detail;
        }
    }

    /// Whether it has content that callers see; otherwise it must not look like a change to them.
    pub fn shows(&self) -> bool {
        let appends = !self.partial_errors.is_empty() || !self.related_resources.is_empty();
        self.progress.is_some()
            || self.metadata.is_some()
            || appends
            || !self.status_detail.is_empty()
    }
}

/// Proof of a lease together with the fingerprint that identifies a repeat of the call.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    /// Proves the lease.
    pub token: Token,
    /// Of the whole call.
    pub fingerprint: Fingerprint,
}

/// The end of a success.
#[derive(Clone, Debug)]
pub struct Complete {
    /// The lease.
    pub proof: Proof,
    /// The result; `Empty` where unset and allowed.
    pub response: Option<Any>,
    /// Replaces the last.
    pub metadata: Option<Any>,
    /// Appended.
    pub related_resources: Vec<pb::RelatedResource>,
    /// Replaces the last.
    pub progress: Option<pb::Progress>,
}

/// The end of an attempt that did not succeed.
#[derive(Clone, Debug)]
pub struct Fail {
    /// The lease.
    pub proof: Proof,
    /// The error; its code is 1 to 16.
    pub error: Status,
    /// Whether to make another attempt; `None` leaves that to the policy.
    pub retry: Option<bool>,
    /// When, if there is one.
    pub retry_delay: Option<Duration>,
    /// Replaces the last.
    pub metadata: Option<Any>,
    /// Replaces the last.
    pub checkpoint: Option<Any>,
}

/// A lease given back.
#[derive(Clone, Debug)]
pub struct Release {
    /// The lease.
    pub proof: Proof,
    /// Replaces the last.
    pub checkpoint: Option<Any>,
    /// The least pause before the next attempt.
    pub delay: Duration,
    /// Whether the worker knew of the lease at all.
    pub seen: bool,
    /// Only if this stream holds it; `None`: any holder.
    pub holder: Option<Holder>,
}

/// An operation parked by its worker.
#[derive(Clone, Debug)]
pub struct Suspend {
    /// The lease.
    pub proof: Proof,
    /// For people.
    pub reason: String,
    /// Replaces the last.
    pub metadata: Option<Any>,
    /// Replaces the last.
    pub checkpoint: Option<Any>,
    /// Goes on by itself then.
    pub resume_time: Option<Timestamp>,
}

/// A wish to stop.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    /// Only if this is its etag; empty is any.
    pub etag: String,
}

/// A deletion.
#[derive(Clone, Debug, Default)]
pub struct Delete {
    /// Only if this is its etag; empty is any.
    pub etag: String,
    /// Identifies a repeat.
    pub nonce: [u8; 8],
}

/// An operation parked by a caller.
#[derive(Clone, Debug)]
pub struct Pause {
    /// Only if this is its etag; empty is any.
    pub etag: String,
    /// For people.
    pub reason: String,
    /// Identifies a repeat.
    pub nonce: [u8; 8],
}

/// The end of a suspension.
#[derive(Clone, Debug)]
pub struct Resume {
    /// Only if this is its etag; empty is any.
    pub etag: String,
    /// For the worker that requested it.
    pub input: Option<Any>,
    /// Identifies a repeat.
    pub nonce: [u8; 8],
    /// Whether its job says that it may go on, rather than a caller.
    pub by_job: bool,
}

/// The time of an entry has come.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Which entry.
    pub class: DueClass,
    /// Since when the store has responded: leases that no worker could renew before that are not lost yet.
    pub answering_since: Timestamp,
}
