//! Leases when the stream that holds them changes.

use super::change::{Applied, bookkeeping};
use super::command::{Adopt, Disown};
use super::lease::Answer;
use super::record::Operation;
use super::rejection::Rejection;
use crate::clock::Timestamp;

/// A worker says Hello, and that it holds this lease.
pub(super) fn adopt(
    operation: &Operation,
    adopt: &Adopt,
    now: Timestamp,
) -> Result<Applied, Rejection> {
    let lease = operation.held(&adopt.token, "hold")?;
    if lease.holder == Some(adopt.holder) && lease.is_fresh(Some(adopt.duration), now) {
        return Ok(Applied::Unchanged(Answer::default()));
    }
    let mut next = operation.clone();
    next.with_lease(|lease| {
        lease.holder = Some(adopt.holder);
        lease.renew(Some(adopt.duration), now);
    });
    Ok(bookkeeping(next, now).into())
}

/// The stream is broken: its worker has this long to come back.
pub(super) fn disown(operation: &Operation, disown: &Disown, now: Timestamp) -> Applied {
    let held = operation
        .state
        .lease()
        .is_some_and(|lease| lease.token == disown.token && lease.holder == Some(disown.holder));
    if !held {
        return Applied::Unchanged(Answer::default());
    }
    let mut next = operation.clone();
    next.with_lease(|lease| {
        lease.holder = None;
        // The server was there all the time: it need not wait longer for a sign of life than this.
        lease.duration = disown.grace;
        lease.expire_time = now + disown.grace;
    });
    bookkeeping(next, now).into()
}
