//! The worker of a stream as operators see it, and their request to drain it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::StreamSession;
use crate::engine::leases::waiter::Waiter;
use crate::engine::roster::registry::{ServingStream, StreamState};
use crate::limits::OPERATOR_DRAIN;
use crate::record::server::PARTITION;

impl StreamSession<'_> {
    /// From now on operators see the worker. One that was drained before gets no leases, and need not hear it again.
    pub(super) fn register(&mut self) {
        let waiter = &self.holdings.registration.waiter;
        let stream = ServingStream {
            queue: self.hello.queue.as_str().to_owned(),
            name: self.hello.worker.clone(),
            process: self.hello.process.clone(),
            session: Arc::<Waiter>::clone(waiter),
        };
        self.drained = waiter.is_drained();
        self.registered = Some(self.rooms.roster.register(self.holdings.holder(), stream));
    }

    /// Tells whoever has asked.
    pub(super) fn answer(&self, asked: oneshot::Sender<StreamState>) {
        let silent = self.rooms.context.clock.elapsed().saturating_sub(self.heard);
        let (slots, held, operations) = self.holdings.shown();
        let is_drained = self.holdings.registration.waiter.is_drained();
        let heard = self.rooms.context.store.now(PARTITION) - silent;
        // Who has asked may have gone.
        let _ = asked.send(StreamState { slots, held, operations, heard, is_drained });
    }

    /// Tells the worker that an operator has drained it, once.
    pub(super) fn note_drained(&mut self) {
        let drained = self.holdings.registration.waiter.is_drained();
        if drained && !std::mem::replace(&mut self.drained, drained) {
            self.ready.drain_duration = Some(OPERATOR_DRAIN);
        }
        self.drained = drained;
    }
}
