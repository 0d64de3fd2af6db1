//! Errors of a store, grouped by what a caller can do.

use std::time::Duration;

/// The store did not respond, or has lost data. The outcome of the call is unknown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Trouble that passes: connection refused, timeout, loading, out of memory, read-only replica.
    #[error("the store does not answer: {0}")]
    Away(String),
    /// The disk of the store is nearly full: new records are refused, stored ones can be read and changed.
    #[error("{0}")]
    Full(String),
    /// The store lost its data or is another one. It stays so until an operator acts.
    #[error("{0}")]
    Foreign(String),
    /// It responds, but writes fail or could be lost: a missing permission, a setting, or no space.
    /// The text names the store, the cause and the remedy.
    #[error("{0}")]
    Unfit(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A stored record cannot be read.
    #[error("a stored record cannot be read: {0}")]
    Damaged(String),
    /// A stored record is of a kind that a newer version wrote.
    #[error("a stored record was written by a newer version: {0}")]
    Newer(String),
}

impl StoreError {
    /// When asking again makes sense.
    pub const fn retry_delay(&self) -> Duration {
        match self {
            Self::Away(_) => Duration::from_millis(500),
            Self::Full(_)
            | Self::Foreign(_)
            | Self::Unfit(_)
            | Self::Closed
            | Self::Damaged(_)
            | Self::Newer(_) => Duration::from_secs(5),
        }
    }
}

/// Why a write set was not applied, or is not known to be.
///
/// If both [`Self::Conflict`] and [`Self::Early`] apply, it is a conflict, in any order of the checks: waiting
/// would not help, and [`Self::Early`] promises that all records still are as they were checked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// A key was not as checked: read again, decide again.
    #[error("the record has changed meanwhile")]
    Conflict,
    /// The store's time is before the one in the write set, and all other checks hold.
    #[error("the store's clock is not there yet")]
    Early,
    /// The write set may or may not have been applied: read before trying again.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

/// Why a store could not be opened. Each text has the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not reachable now; `--wait-for-store` keeps trying.
    #[error("cannot reach {place}: {cause}")]
    Unreachable {
        /// The store's address, without credentials.
        place: String,
        /// The client's message.
        cause: String,
    },
    /// Made by a version that this one does not read, or that forbids this one to write.
    #[error("{0}")]
    Format(String),
    /// A different keyspace than requested.
    #[error(
        "{place} holds keyspace {found}, not {wanted}; point --store at the right one, or leave --keyspace out"
    )]
    WrongKeyspace {
        /// The store's address, without credentials.
        place: String,
        /// The keyspace found.
        found: String,
        /// The keyspace of `--keyspace`.
        wanted: String,
    },
    /// A setting of the store that would lose acknowledged data.
    #[error("{0}")]
    Unsafe(String),
    /// The stored data is damaged.
    #[error("{0}")]
    Damaged(String),
    /// An import into it has not finished.
    #[error("{0}")]
    Unfinished(String),
    /// Holds data already, where an import needs an empty place.
    #[error("{0}")]
    Taken(String),
    /// Another process has the store open.
    #[error("{0}")]
    Locked(String),
    /// The address makes no sense.
    #[error("{0}")]
    Address(String),
}

impl OpenError {
    /// Whether waiting can help.
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
