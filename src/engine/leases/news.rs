//! Changes that a stream receives about its leases.

use crate::operation::lease::{Holder, Token};
use crate::operation::{Operation, State};
use crate::store::Key;

/// A change of an operation that a stream holds.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) enum News {
    /// Somebody wrote that revision: it must be read, unless this is the commit that gave the lease.
    Changed(Key, u64),
    /// The new standing.
    Stands(Key, Standing),
}

/// The part of an operation that matters to its lease holder.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Standing {
    /// As of which revision.
    pub(in crate::engine) revision: u64,
    pub(in crate::engine) attempt: u32,
    pub(in crate::engine) fencing_number: u64,
    /// The lease that lives.
    pub(in crate::engine) terms: Option<LeaseTerms>,
}

/// A lease, and the requests to its worker.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct LeaseTerms {
    pub(in crate::engine) token: Token,
    pub(in crate::engine) holder: Option<Holder>,
    pub(in crate::engine) cancel_requested: bool,
    pub(in crate::engine) pause_requested: bool,
}

impl Standing {
    /// The standing of an operation; `None`: it does not exist.
    pub(in crate::engine) fn of(operation: Option<&Operation>, revision: u64) -> Self {
        let Some(operation) = operation else {
            return Self { revision, attempt: 0, fencing_number: 0, terms: None };
        };
        let terms = operation.state.lease().map(|lease| LeaseTerms {
            token: lease.token,
            holder: lease.holder,
            cancel_requested: matches!(operation.state, State::Cancelling(..)),
            pause_requested: operation.pause_requested,
        });
        let (attempt, fencing_number) = (operation.attempt(), operation.stamps.fencing);
        Self { revision, attempt, fencing_number, terms }
    }
}
