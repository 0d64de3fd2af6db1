//! Why a command was refused: decided purely, said in the user's terms.

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
    /// Somebody else has the lease, or nobody.
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
        /// What was tried.
        verb: &'static str,
        /// What is in the way.
        why: String,
    },
    /// A payload is not of the type that was declared at start.
    #[error("{}", mismatch(.name, .field, .declared, .found))]
    TypeMismatch {
        /// The operation.
        name: Name,
        /// Which field of the request.
        field: &'static str,
        /// What was declared; empty where nothing was.
        declared: String,
        /// What came; empty where nothing did.
        found: String,
    },
    /// The etag names another state.
    #[error("{name} has changed: its etag is now {current}")]
    EtagMismatch {
        /// The operation.
        name: Name,
        /// What it is now.
        current: String,
    },
    /// A list that only grows is full.
    #[error("{name} would hold more than {limit} {what}")]
    LimitExceeded {
        /// The operation.
        name: Name,
        /// What there would be too many of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// Its deadline leaves no time to work on it.
    #[error("cannot start {name}: {why}")]
    DeadlinePassed {
        /// What it would be called.
        name: Name,
        /// Which times, and what to do.
        why: String,
    },
    /// A worker cannot take it: it waits for its time, or somebody has it. Not an error of anybody's.
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
