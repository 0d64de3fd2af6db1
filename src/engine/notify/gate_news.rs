//! What happened to operations that gates must know of: slots that are free, and operations that wait.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::operation::gate::{Admittance, GateName};
use crate::operation::{Operation, Record};
use crate::record::gate::GateSlot;
use crate::store::Key;

/// News for a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) enum GateNews {
    /// An operation gave up its slot.
    Freed(GateName, GateSlot),
    /// An operation waits.
    Arrived(GateName),
}

/// News that the gates have not read yet.
#[derive(Default)]
pub(in crate::engine) struct GateInbox {
    news: Mutex<Vec<GateNews>>,
    told: Notify,
}

impl GateInbox {
    /// An operation changed.
    pub(in crate::engine) fn changed(
        &self,
        key: Key,
        before: Option<&Record>,
        after: Option<&Record>,
    ) {
        let (before, after) =
            (before.and_then(Record::operation), after.and_then(Record::operation));
        let news =
            [freed(key, before, after), left_queue(key, before, after), arrived(before, after)];
        if news.iter().all(Option::is_none) {
            return;
        }
        self.lock().extend(news.into_iter().flatten());
        self.told.notify_one();
    }

    /// Resolves once there are news.
    pub(in crate::engine) async fn take(&self) -> Vec<GateNews> {
        loop {
            let news = std::mem::take(&mut *self.lock());
            if !news.is_empty() {
                return news;
            }
            self.told.notified().await;
        }
    }

    /// Whether there are no news.
    #[cfg(test)]
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<GateNews>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It had a slot of its key's gate and has it no more.
fn freed(key: Key, before: Option<&Operation>, after: Option<&Operation>) -> Option<GateNews> {
    let before = before?;
    let since = before.admitted()?;
    let keeps = after.and_then(Operation::admitted) == Some(since);
    let slot = GateSlot { key, since };
    (!keeps).then(|| before.gate().map(|gate| GateNews::Freed(gate, slot)))?
}

/// It had a lease with a slot of its queue's gate and has it no more.
fn left_queue(key: Key, before: Option<&Operation>, after: Option<&Operation>) -> Option<GateNews> {
    let slot_of = |operation: &Operation| operation.state.lease().and_then(|lease| lease.slot);
    let before = before?;
    let since = slot_of(before)?;
    let queue = || GateName::Queue(before.spec.queue.as_str().to_owned());
    let keeps = after.and_then(slot_of) == Some(since);
    (!keeps).then(|| GateNews::Freed(queue(), GateSlot { key, since }))
}

/// Its time has come, and its gate was full.
fn arrived(before: Option<&Operation>, after: Option<&Operation>) -> Option<GateNews> {
    let after = after.filter(|after| after.admission == Some(Admittance::Waiting))?;
    let waits = |operation: &Operation| operation.places.waiting.is_some();
    let arrives = waits(after) && !before.is_some_and(waits);
    arrives.then(|| after.gate().map(GateNews::Arrived))?
}
