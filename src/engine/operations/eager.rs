//! Starts that commit together with the lease of a worker that waits on this server.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::Attempt;
use crate::engine::context::Context;
use crate::engine::dispatch::dispatcher::Dispatch;
use crate::engine::dispatch::grants::Grants;
use crate::engine::leases::grant::Grant;
use crate::engine::leases::waiter::{Offer, Waiter};
use crate::operation::command::Take;
use crate::operation::gate::GateLimit;
use crate::operation::name::Queue;
use crate::operation::{Record, Spec};
use crate::store::Key;

/// Reserves waiting workers for starts, and hands them the new operations.
pub(super) struct EagerLeases {
    context: Arc<Context>,
    dispatch: Arc<Dispatch>,
    grants: Arc<Grants>,
}

impl EagerLeases {
    pub(super) const fn new(
        context: Arc<Context>,
        dispatch: Arc<Dispatch>,
        grants: Arc<Grants>,
    ) -> Self {
        Self { context, dispatch, grants }
    }

    /// The terms of a lease for that waiter.
    pub(super) fn take_for(&self, waiter: &Waiter) -> Take {
        self.grants.take_for(waiter)
    }

    /// Reserves a worker that waits on this server, if nothing else is ready in the queue. The start then commits with that
    /// worker's lease.
    pub(super) fn reserve(&self, key: Key, parent: &str, spec: &Spec) -> Option<Offer> {
        if spec.options.schedule_time.is_some() {
            return None;
        }
        // A worker holds the operation already, so this start is a replay.
        if self.grants.is_held(key) {
            return None;
        }
        let offer = self.dispatch.eager(spec.queue.as_str(), parent, 1).pop()?;
        self.grants.expect(key, &offer.waiter);
        Some(offer)
    }

    /// The aging interval of a queue, unless it is as for every queue.
    pub(super) fn aging_interval(&self, queue: &Queue) -> Option<Duration> {
        self.dispatch.aging_interval(queue.as_str())
    }

    /// How many operations of a queue may run at the same time, if that is limited.
    pub(super) fn max_running(&self, queue: &Queue) -> Option<GateLimit> {
        self.dispatch.max_running(queue.as_str())
    }

    /// Releases the reserved worker.
    pub(super) fn forget(&self, key: Key, offer: Option<&Offer>) {
        if let Some(offer) = offer {
            self.grants.forget(key, &offer.waiter);
        }
    }

    /// Gives back the lease of a start that may have been written, so that it need not expire first.
    pub(super) fn give_up(&self, attempt: &mut Attempt) {
        let Some(offer) = attempt.offer.take() else { return };
        let record = attempt.change.take().and_then(|change| change.main);
        let lost = record.and_then(|record| Grant::new(attempt.key, record));
        self.grants.take_back(&offer.waiter, lost.into_iter().collect());
    }

    /// Hands the stored operation to the reserved worker if this start wrote it.
    pub(super) fn settle(&self, attempt: &mut Attempt, found: &Record) {
        let Some(mut offer) = attempt.offer.take() else { return };
        let token = |record: &Record| record.operation()?.state.lease().map(|lease| lease.token);
        let change = attempt.change.as_ref();
        let ours = change.and_then(|change| change.main.as_ref()).and_then(token);
        if ours.is_some() && ours == token(found) {
            self.hand_over(attempt.key, &mut offer, found.clone());
        } else {
            self.forget(attempt.key, Some(&offer));
        }
    }

    pub(super) fn hand_over(&self, key: Key, offer: &mut Offer, record: Record) {
        let grant = Grant::new(key, record).and_then(|grant| self.grants.in_time(grant));
        match &grant {
            Some(_) => self.context.metrics.given.with_start(),
            None => self.forget(key, Some(offer)),
        }
        let unheard = offer.fill(grant.into_iter().collect());
        self.grants.take_back(&offer.waiter, unheard);
    }
}
