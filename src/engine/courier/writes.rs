//! Writes changes that were prepared from records read before.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::engine::error::Result;
use crate::engine::transact::{Assumed, Decision, Ended, Observer, Transaction, Transactor};
use crate::record::{Before, Change, Kind};
use crate::store::{CommitError, Key};

/// A change of a record that was read before; it is written only if the record is still the same.
pub(super) struct PreparedWrite<K> {
    key: Key,
    revision: u64,
    before: Option<Before<K>>,
    change: Change<K>,
}

impl<K: Kind> PreparedWrite<K> {
    pub(super) fn new(key: Key, before: Before<K>, change: Change<K>) -> Self {
        Self { key, revision: before.stamps.revision, before: Some(before), change }
    }
}

/// Writes them, each on its own; tells which were written. One that was not met another writer.
pub(super) async fn write_all<K: Kind, O: Observer<K>>(
    transactor: &Transactor<O>,
    mut prepared: Vec<PreparedWrite<K>>,
) -> Vec<Result<bool>> {
    let ends = transactor.transact(&mut prepared).await;
    ends.into_iter().map(written).collect()
}

/// Writes one; tells whether it was written.
pub(super) async fn write<K: Kind, O: Observer<K>>(
    transactor: &Arc<Transactor<O>>,
    mut prepared: PreparedWrite<K>,
) -> Result<bool> {
    written(transactor.transact_one(&mut prepared).await)
}

fn written<K>(ended: Ended<K>) -> Result<bool> {
    match ended {
        Ended::Written { .. } => Ok(true),
        Ended::Kept { .. }
        | Ended::Unknown
        | Ended::Failed(CommitError::Conflict | CommitError::Early) => Ok(false),
        Ended::Failed(CommitError::Unavailable(error)) => Err(error.into()),
        Ended::Unreadable(damage) => Err(damage.error()),
    }
}

impl<K: Kind> Transaction for PreparedWrite<K> {
    type Kind = K;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<K> {
        self.before.take().map_or(Assumed::Nothing, Assumed::Read)
    }

    fn decide(&mut self, before: Option<&Before<K>>, _: bool, _: Timestamp) -> Decision<K> {
        let same = before.is_some_and(|before| before.stamps.revision == self.revision);
        if same { Decision::Commit(Box::new(self.change.clone())) } else { Decision::Keep }
    }

    fn competes(&self) -> bool {
        false
    }
}
