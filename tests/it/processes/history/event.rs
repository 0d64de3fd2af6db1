//! The events of a history: the actor, the call, its begin and end, and its result.

use serde::{Deserialize, Serialize};

/// One call, or one message of a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Event {
    /// The actor: one life of one actor.
    pub(super) who: String,
    /// Its place among all that the actor did.
    pub(super) number: u64,
    /// When it began, in microseconds; for an event of a watch, when the watch began.
    pub(super) begin: u64,
    /// When its reply arrived; [`NEVER`] if none did.
    pub(super) end: u64,
    /// The operation's name.
    pub(super) operation: String,
    pub(super) act: Act,
    pub(super) outcome: Outcome,
}

/// No reply arrived.
pub(super) const NEVER: u64 = u64::MAX;

/// The call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Act {
    Start {
        max_attempts: i32,
        /// It has a callback.
        told: bool,
    },
    Cancel,
    Pause,
    Resume,
    Delete,
    /// A read that showed the operation.
    Seen(Seen),
    /// A read that did not find it.
    Missing,
    /// One message of that watch.
    Watched(u64, News),
    /// A lease reached its worker.
    Leased(Leased),
    /// A worker's call about the lease of that fencing number.
    Said(Said),
    /// From begin to end a worker held the lease of that fencing number, and spoke often enough to keep it.
    Kept(u64),
    /// The holder of the lease with that fencing number received a request to cancel.
    Asked(u64),
    /// A callback arrived at its receiver.
    Told(Told),
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Ok,
    /// Refused for that reason; nothing changed.
    Refused(String),
    /// Done or not: unknown.
    Unknown,
}

/// The state of an operation in a reply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The visible revision; 0 if the reply does not have it.
    pub(super) revision: u64,
    /// When it last changed, in microseconds.
    pub(super) updated: u64,
    pub(super) state: State,
    /// The response or the error.
    pub(super) result: String,
    /// Of its newest lease, as far as the reply shows it.
    pub(super) fencing: u64,
    pub(super) attempts: i32,
    pub(super) cancel_requested: bool,
    /// The caller waited for the end.
    pub(super) waited: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    #[default]
    Pending,
    Running,
    Cancelling,
    Suspended,
    Succeeded,
    Failed,
    Cancelled,
}

impl State {
    pub(super) const fn is_done(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    pub(super) const fn is_leased(self) -> bool {
        matches!(self, Self::Running | Self::Cancelling)
    }
}

/// An event of a watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum News {
    Snapshot(Seen),
    Update(Seen),
    Done(Seen),
    Resync(Seen),
    Heartbeat,
    Deleted,
    Reconnect,
    /// It ended OK.
    End,
}

impl News {
    pub(super) const fn seen(&self) -> Option<&Seen> {
        match self {
            Self::Snapshot(seen) | Self::Update(seen) | Self::Done(seen) | Self::Resync(seen) => {
                Some(seen)
            }
            _ => None,
        }
    }
}

/// A delivery to the callback of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// The same for all attempts.
    pub(super) id: String,
    /// Counts the events of the operation.
    pub(super) sequence: u64,
    /// The state that the event led to.
    pub(super) state: State,
    /// The receiver took it, whether or not its reply arrives.
    pub(super) accepted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leased {
    pub(super) token: String,
    pub(super) fencing: u64,
    pub(super) attempt: i32,
    /// When it expires unless it is renewed, by the store's clock.
    pub(super) expires: u64,
    /// By a unary call rather than by a stream, whose leases live as long as it sends.
    pub(super) unary: bool,
    /// How many leases its worker has with it.
    pub(super) holds: usize,
    /// The requested number.
    pub(super) slots: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) fencing: u64,
    pub(super) call: Call,
    /// Distinguishes it from all other calls.
    pub(super) content: String,
    /// OK means more than an acknowledgement: the lease was checked.
    pub(super) sure: bool,
    /// Another attempt follows, according to the reply.
    pub(super) will_retry: bool,
    /// The operation had been deleted, according to the reply.
    pub(super) discarded: bool,
    /// When the lease expires, according to the reply; 0 if not in the reply.
    pub(super) expires: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Call {
    /// A new stream names the leases that its worker holds.
    Adopt,
    Renew,
    Report,
    Complete,
    Fail,
    Release,
    Suspend,
    /// With a time to resume.
    SuspendUntil,
}

impl Call {
    /// Whether the lease ends with it.
    pub(super) const fn ends(self) -> bool {
        !matches!(self, Self::Adopt | Self::Renew | Self::Report)
    }
}

impl Event {
    pub(super) fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }

    /// Whether it may have had an effect.
    pub(super) const fn may_count(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused(_))
    }
}
