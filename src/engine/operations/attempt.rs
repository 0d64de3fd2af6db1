//! A start on its way into the store.

use std::sync::Arc;

use super::identity::Identity;
use crate::clock::Timestamp;
use crate::engine::leases::waiter::Offer;
use crate::engine::reading::view::View;
use crate::engine::transact::{Assumed, Decision, Transaction};
use crate::operation::command::Take;
use crate::operation::{Record, Rejection};
use crate::record::{Before, Change};
use crate::store::Key;

/// A start that waits to be written.
pub(super) struct Attempt {
    pub(super) key: Key,
    /// Identifies this start if the name is taken.
    pub(super) identity: Identity,
    /// The new record.
    pub(super) change: Option<Box<Change<Record>>>,
    /// The waiting worker that leases it with the same commit.
    pub(super) offer: Option<Offer>,
    /// Why it is too late to start it.
    pub(super) late: Option<Rejection>,
}

/// A start after its decision.
pub(super) enum Prepared {
    /// It can be written.
    Ready(Box<Attempt>),
    /// It is too late, unless the same request started the operation in time.
    Late(Key, Box<Identity>, Rejection),
}

/// The lease that an operation begins with.
pub(super) enum FirstLease {
    /// That of a worker that waits on this server, if there is one.
    Eager,
    /// That of the caller.
    Starter(Take),
    /// None.
    None,
}

/// The operation of a start.
pub(in crate::engine) struct Begun {
    pub(in crate::engine) view: Arc<View>,
    /// Whether the same request had started it before.
    pub(in crate::engine) replayed: bool,
}

impl Transaction for Attempt {
    type Kind = Record;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<Record> {
        Assumed::Absent
    }

    fn decide(
        &mut self,
        before: Option<&Before<Record>>,
        _certain: bool,
        now: Timestamp,
    ) -> Decision<Record> {
        let Some(change) = self.change.take() else { return Decision::Keep };
        let operation = change.main.as_ref().and_then(Record::operation);
        let late = operation.map_or(Ok(()), |operation| operation.check_start(now)).err();
        if before.is_none() && late.is_none() {
            return Decision::Commit(change);
        }
        (self.change, self.late) = (Some(change), late);
        Decision::Keep
    }

    fn withdrawn(&mut self, change: Change<Record>) {
        self.change = Some(Box::new(change));
    }
}
