//! What a history is made of: who did what, from when to when, and what came of it.

use serde::{Deserialize, Serialize};

/// One call, or one message of a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Event {
    /// Who did it: one life of one actor.
    pub(super) who: String,
    /// Its place among all that the actor did.
    pub(super) number: u64,
    /// When it began, in microseconds; for what a watch brings, when the watch began.
    pub(super) begin: u64,
    /// When its answer was there; [`NEVER`] where none came.
    pub(super) end: u64,
    /// The operation's name.
    pub(super) operation: String,
    pub(super) act: Act,
    pub(super) outcome: Outcome,
}

/// No answer came.
pub(super) const NEVER: u64 = u64::MAX;

/// What somebody did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Act {
    Start {
        max_attempts: i32,
    },
    Cancel,
    Pause,
    Resume,
    Delete,
    /// A look that showed the operation.
    Seen(Seen),
    /// A look that found nothing.
    Missing,
    /// One message of that watch.
    Watched(u64, News),
    /// A lease reached its worker.
    Leased(Leased),
    /// A worker's call about the lease of that fencing number.
    Said(Said),
    /// From begin to end a worker held the lease of that fencing number, and spoke often enough to keep it.
    Kept(u64),
    /// A worker that holds the lease of that fencing number was asked to cancel.
    Asked(u64),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Ok,
    /// Refused, for that reason; nothing changed.
    Refused(String),
    /// Done or not, nobody can tell.
    Unknown,
}

/// How an operation looked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The visible revision; 0 where the look does not show it.
    pub(super) revision: u64,
    /// When it last changed, in microseconds.
    pub(super) updated: u64,
    pub(super) state: State,
    /// The response or the error.
    pub(super) result: String,
    /// Of its newest lease, as far as the look shows it.
    pub(super) fencing: u64,
    pub(super) attempts: i32,
    pub(super) cancel_requested: bool,
    /// Whoever looked waited for the end.
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

/// What a watch says.
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leased {
    pub(super) token: String,
    pub(super) fencing: u64,
    pub(super) attempt: i32,
    /// When it expires unless it is renewed, by the store's clock.
    pub(super) expires: u64,
    /// By a call of its own rather than by a stream, whose leases live on as long as it speaks.
    pub(super) unary: bool,
    /// How many leases its worker has with it.
    pub(super) holds: usize,
    /// How many it asked for.
    pub(super) slots: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) fencing: u64,
    pub(super) call: Call,
    /// What tells it from every other that was said.
    pub(super) content: String,
    /// OK means more than that it was taken note of: the lease was looked at.
    pub(super) sure: bool,
    /// Another attempt follows, as it was told.
    pub(super) will_retry: bool,
    /// The operation had been deleted, as it was told.
    pub(super) discarded: bool,
    /// When the lease expires, as it was told; 0 where it was not.
    pub(super) expires: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Call {
    /// A new stream names what its worker holds.
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
