//! Why a command was refused, in the user's terms.

use super::name::Name;

/// Why an operation refuses a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A caller deleted it.
    #[error("{0} was deleted")]
    Deleted(Name),
    /// It finished, was kept as long as promised, and is gone.
    #[error("{0} expired")]
    Expired(Name),
    /// Another worker has the lease, or none has.
    #[error("the lease of {name} is lost; its current attempt is {attempt}")]
    LeaseLost {
        /// The operation.
        name: Name,
        /// The attempt that runs now, or the last one.
        attempt: u32,
        /// The newest fencing number.
        fencing_number: u64,
    },
    /// The state does not allow it.
    #[error("cannot {verb} {name}: {why}")]
    InvalidState {
        /// The operation.
        name: Name,
        /// The refused command.
        verb: &'static str,
        /// The state that prevents it.
        why: String,
    },
    /// A payload is not of the type that was declared at start.
    #[error("{}", mismatch(.name, .field, .declared, .found))]
    TypeMismatch {
        /// The operation.
        name: Name,
        /// Which field of the request.
        field: &'static str,
        /// The declared type; empty if none was declared.
        declared: String,
        /// The received type; empty if there was none.
        found: String,
    },
    /// The etag names another state.
    #[error("{name} has changed: its etag is now {current}")]
    EtagMismatch {
        /// The operation.
        name: Name,
        /// The present value.
        current: String,
    },
    /// A list that only grows is full.
    #[error("{name} would hold more than {limit} {what}")]
    LimitExceeded {
        /// The operation.
        name: Name,
        /// The list that would grow too long.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// Its deadline leaves no time to work on it.
    #[error("cannot start {name}: {why}")]
    DeadlinePassed {
        /// The name of the new operation.
        name: Name,
        /// The conflicting times, and the remedy.
        why: String,
    },
    /// A worker cannot lease it: it waits for its time, or is leased. Not a caller's error.
    #[error("{0} is not ready")]
    NotReady(Name),
}

fn mismatch(name: &Name, field: &str, declared: &str, found: &str) -> String {
    match (declared, found) {
        ("", found) => {
            format!("{field} of {name} is a {found}, but no type was declared for it at start")
        }
        (declared, "") => {
            format!("{field} of {name} is missing; it must be a {declared}, as declared at start")
        }
        (declared, found) => {
            format!("{field} of {name} is a {found}; it must be a {declared}, as declared at start")
        }
    }
}
