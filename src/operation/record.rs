//! The record of an operation: its state and all that is kept of it.

use uuid::Uuid;

use super::due_class::DueClass;
use super::gate::{Admittance, GateName};
use super::lease::{EndedLease, Fingerprint, Lease};
use super::name::Name;
use super::payload::Payload;
use super::rejection::Rejection;
use super::spec::SharedSpec;
use crate::clock::Timestamp;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::concurrency::Policy;

/// The content of a store under an operation's name.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The operation.
    Operation(Box<Operation>),
    /// Its tombstone.
    Tombstone(Tombstone),
}

impl Record {
    /// The operation's name.
    pub const fn name(&self) -> &Name {
        match self {
            Self::Operation(operation) => &operation.name,
            Self::Tombstone(tombstone) => &tombstone.name,
        }
    }

    /// The operation, unless it is a tombstone.
    pub fn operation(&self) -> Option<&Operation> {
        match self {
            Self::Operation(operation) => Some(operation),
            Self::Tombstone(_) => None,
        }
    }

    /// Why callers do not see it, if they do not: deleted, or expired, whether removed yet or not.
    pub fn gone(&self, now: Timestamp) -> Option<Rejection> {
        match self {
            Self::Operation(operation) if operation.deletion.is_some() => {
                Some(Rejection::Deleted(operation.name.clone()))
            }
            Self::Operation(operation) => {
                let expired = operation.state.is_done()
                    && operation.expire_time.is_some_and(|time| time <= now);
                expired.then(|| Rejection::Expired(operation.name.clone()))
            }
            Self::Tombstone(tombstone) if tombstone.deleted => {
                Some(Rejection::Deleted(tombstone.name.clone()))
            }
            Self::Tombstone(tombstone) => Some(Rejection::Expired(tombstone.name.clone())),
        }
    }
}

/// The stamps that the store set on the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// The commit that wrote it.
    pub revision: u64,
    /// The last commit that callers can see.
    pub visible: u64,
    /// The commit that made the newest lease; 0 before the first.
    pub fencing: u64,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Its full name.
    pub name: Name,
    /// Tells it from every other that ever had its name.
    pub uid: Uuid,
    /// The fields of the start; never changes.
    pub spec: SharedSpec,
    /// Its present state.
    pub state: State,
    /// When it was started.
    pub create_time: Timestamp,
    /// When it was first leased.
    pub start_time: Option<Timestamp>,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// When callers last saw a change.
    pub update_time: Timestamp,
    /// Until when it is kept, at least.
    pub expire_time: Option<Timestamp>,
    /// The user's metadata, newest.
    pub metadata: Option<Payload>,
    /// How far it is.
    pub progress: Option<pb::Progress>,
    /// A line for people.
    pub status_detail: String,
    /// Errors that did not end it.
    pub partial_errors: Vec<Status>,
    /// Resources that it created.
    pub related_resources: Vec<pb::RelatedResource>,
    /// Ended attempts, newest last.
    pub attempts: Vec<pb::Attempt>,
    /// How many ended leases counted as attempts.
    pub attempts_used: u32,
    /// How many leases in a row their workers never saw.
    pub unseen_leases: u32,
    /// How many leases were lost.
    pub lost_leases: u32,
    /// The trail of a requested cancellation.
    pub cancel_trail: Option<pb::CancelTrail>,
    /// A caller requested a pause.
    pub pause_requested: bool,
    /// Why it is suspended, or is to be.
    pub suspend_reason: String,
    /// Where the next attempt goes on.
    pub checkpoint: Option<Payload>,
    /// The payload of the last resume.
    pub resume_input: Option<Payload>,
    /// Identifies a repeat of the last pause or resume.
    pub control_nonce: Option<[u8; 8]>,
    /// The end of the last attempt.
    pub last_error: Option<Status>,
    /// The last ended leases, newest last.
    pub ended_leases: Vec<EndedLease>,
    /// Deleted while unfinished: hidden from callers until the work ends.
    pub deletion: Option<Deletion>,
    /// Where it stands at the gate of its concurrency key; `None` without a key, and once it is done.
    pub admission: Option<Admittance>,
    /// How many events were written beside it.
    pub events: u64,
    /// How many blocks it counts with beyond its first; see [`super::size`].
    pub further_blocks: u32,
    /// The places of its index entries.
    pub places: Places,
    /// The stamps that the store set; not part of the stored value.
    pub stamps: Stamps,
}

/// The state of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Waits for its time, a worker, or its next attempt.
    Pending(Pending),
    /// Leased.
    Running(Lease),
    /// Leased, with a request to its worker to stop; the stop is forced at that time.
    Cancelling(Lease, Timestamp),
    /// Parked.
    Suspended(Suspension),
    /// Ended well, with this response.
    Succeeded(Payload),
    /// Ended badly.
    Failed(Status),
    /// Ended on request.
    Cancelled(Status),
}

/// How it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// From when on a worker may take it.
    pub ready_time: Timestamp,
    /// For its next attempt rather than its first.
    pub retrying: bool,
}

/// How it is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// By its worker rather than by a caller.
    pub by_worker: bool,
    /// Goes on by itself then.
    pub resume_time: Option<Timestamp>,
}

/// The deletion of an unfinished operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// When.
    pub time: Timestamp,
    /// Identifies a repeat.
    pub nonce: [u8; 8],
}

/// The places of index entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// In `list`.
    pub listed: bool,
    /// In `failed`.
    pub failed: bool,
    /// In its queue, at this rank.
    pub ready: Option<i64>,
    /// At its gate, at this rank.
    pub waiting: Option<i64>,
    /// In `due`; may be early.
    pub due: Vec<(DueClass, Timestamp)>,
    /// In classes of `due` that a newer version wrote: left as they are.
    pub foreign: Vec<(u32, Timestamp)>,
}

/// The remains of an operation, kept for a day after it expired or was deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    /// Its name, which is reserved until then.
    pub name: Name,
    /// Its uid.
    pub uid: Uuid,
    /// Deleted rather than expired.
    pub deleted: bool,
    /// When it became a tombstone.
    pub end_time: Timestamp,
    /// When the name is free again.
    pub forget_time: Timestamp,
    /// Identifies replays of its start.
    pub request_id: String,
    /// The fields that a replay must repeat.
    pub fingerprint: Fingerprint,
    /// Identifies a repeat of its deletion.
    pub delete_nonce: Option<[u8; 8]>,
    /// For late calls of its workers.
    pub ended_leases: Vec<EndedLease>,
}

impl State {
    /// The state's name in the API.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pending(_) => "PENDING",
            Self::Running(_) => "RUNNING",
            Self::Cancelling(..) => "CANCELLING",
            Self::Suspended(_) => "SUSPENDED",
            Self::Succeeded(_) => "SUCCEEDED",
            Self::Failed(_) => "FAILED",
            Self::Cancelled(_) => "CANCELLED",
        }
    }

    /// The state in the API.
    pub const fn published(&self) -> pb::operation_record::State {
        use pb::operation_record::State as Published;
        match self {
            Self::Pending(_) => Published::Pending,
            Self::Running(_) => Published::Running,
            Self::Cancelling(..) => Published::Cancelling,
            Self::Suspended(_) => Published::Suspended,
            Self::Succeeded(_) => Published::Succeeded,
            Self::Failed(_) => Published::Failed,
            Self::Cancelled(_) => Published::Cancelled,
        }
    }

    /// Whether it is final.
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Failed(_) | Self::Cancelled(_))
    }

    /// The lease that lives.
    pub const fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Running(lease) | Self::Cancelling(lease, _) => Some(lease),
            _ => None,
        }
    }
}

impl Places {
    /// Whether its time has come: it waits for a worker or at its gate.
    pub const fn has_come(&self) -> bool {
        self.ready.is_some() || self.waiting.is_some()
    }
}

impl Operation {
    /// The etag of the published form (AIP-154).
    pub fn etag(&self) -> String {
        format!("\"{:x}\"", self.stamps.visible)
    }

    /// The attempt that runs, or the last one.
    pub fn attempt(&self) -> u32 {
        self.state.lease().map_or(self.attempts_used, |lease| lease.attempt)
    }

    /// Whether a worker of it has been requested to stop.
    pub const fn cancel_requested(&self) -> bool {
        self.cancel_trail.is_some()
    }

    /// When an attempt has lasted too long.
    pub(super) fn attempt_deadline(&self, lease: &Lease) -> Option<Timestamp> {
        let timeout = self.spec.options.attempt_timeout?;
        Some(lease.start_time + timeout)
    }

    /// When it will have made no progress for too long, unless it is marked already.
    pub(super) fn stall_time(&self, lease: &Lease) -> Option<Timestamp> {
        let reported = self.progress.as_ref().and_then(|progress| progress.update_time.as_ref());
        let last = reported.map_or(lease.start_time, Timestamp::from).max(lease.start_time);
        (!lease.stalled && !lease.stall_timeout.is_zero()).then(|| last + lease.stall_timeout)
    }

    /// The bound that was exceeded while it waited, if any: no worker can lease it any more.
    pub fn overdue(&self, now: Timestamp) -> Option<DueClass> {
        let State::Pending(pending) = &self.state else { return None };
        let waited_too_long = self.queue_deadline(pending).is_some_and(|time| time <= now);
        if self.deadline_passed(now) {
            Some(DueClass::Deadline)
        } else {
            waited_too_long.then_some(DueClass::Queue)
        }
    }

    /// Whether its deadline has passed.
    pub fn deadline_passed(&self, now: Timestamp) -> bool {
        self.spec.options.deadline_time.is_some_and(|time| time <= now)
    }

    /// When it has waited too long for its first worker. While it is parked it waits for none.
    pub(super) fn queue_deadline(&self, pending: &Pending) -> Option<Timestamp> {
        let timeout = self.spec.options.queue_timeout?;
        self.start_time.is_none().then(|| pending.ready_time + timeout)
    }

    /// The gate of its concurrency key, if it has one.
    pub fn gate(&self) -> Option<GateName> {
        let key = self.spec.options.concurrency.as_ref()?.key.clone();
        Some(GateName::Key { parent: self.name.parent().to_owned(), key })
    }

    /// Whether it ends an older operation where its gate is full.
    pub fn preempts(&self) -> bool {
        let concurrency = self.spec.options.concurrency.as_ref();
        concurrency.is_some_and(|concurrency| concurrency.policy() == Policy::Preempt)
    }

    /// Since when it has a slot of its gate.
    pub const fn admitted(&self) -> Option<Timestamp> {
        match self.admission {
            Some(Admittance::Admitted(since)) => Some(since),
            Some(Admittance::Waiting) | None => None,
        }
    }
}
