//! What a stream hears of the leases that it holds.

use crate::operation::lease::{Holder, Token};
use crate::operation::{Operation, State};
use crate::store::Key;

/// Something happened to what a stream holds.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) enum News {
    /// Somebody wrote that revision: it must be read, unless this is the commit that gave the lease.
    Changed(Key, u64),
    /// This is how it stands.
    Stands(Key, Standing),
}

/// What matters to the holder of a lease.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Standing {
    /// As of which revision.
    pub(in crate::engine) revision: u64,
    pub(in crate::engine) attempt: u32,
    pub(in crate::engine) fencing_number: u64,
    /// The lease that lives.
    pub(in crate::engine) terms: Option<Terms>,
}

/// A lease, and what is asked of its worker.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Terms {
    pub(in crate::engine) token: Token,
    pub(in crate::engine) holder: Option<Holder>,
    pub(in crate::engine) cancel_requested: bool,
    pub(in crate::engine) pause_requested: bool,
}

impl Standing {
    /// How an operation stands with whoever holds it; `None`: there is none.
    pub(in crate::engine) fn of(operation: Option<&Operation>, revision: u64) -> Self {
        let Some(operation) = operation else {
            return Self { revision, attempt: 0, fencing_number: 0, terms: None };
        };
        let terms = operation.state.lease().map(|lease| Terms {
            token: lease.token,
            holder: lease.holder,
            cancel_requested: matches!(operation.state, State::Cancelling(..)),
            pause_requested: operation.pause_requested,
        });
        let (attempt, fencing_number) = (operation.attempt(), operation.stamps.fencing);
        Self { revision, attempt, fencing_number, terms }
    }
}
