//! Leases between their commit and their worker, and back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::engine::commands::apply::Commands;
use crate::engine::context::Context;
use crate::engine::error::Reason;
use crate::engine::gates::desk::{Gates, Passage};
use crate::engine::leases::grant::Grant;
use crate::engine::leases::holders::Holders;
use crate::engine::leases::waiter::Waiter;
use crate::engine::random::random;
use crate::operation::command::{Command, Proof, Release, Take};
use crate::operation::gate::{GateLimit, GateName};
use crate::operation::lease::Token;
use crate::record::gate::GateSlot;
use crate::store::Key;

/// Makes leases for waiters, and releases leases that no worker received.
pub(in crate::engine) struct Grants {
    pub(super) context: Arc<Context>,
    commands: Arc<Commands>,
    holders: Arc<Holders>,
    pub(in crate::engine) gates: Arc<Gates>,
}

impl Grants {
    pub(in crate::engine) const fn new(
        context: Arc<Context>,
        commands: Arc<Commands>,
        holders: Arc<Holders>,
        gates: Arc<Gates>,
    ) -> Self {
        Self { context, commands, holders, gates }
    }

    /// Slots for leases of these operations, as many as the limit of their queue leaves.
    pub(super) async fn slots(
        &self,
        queue: &str,
        max_running: GateLimit,
        keys: &[Key],
    ) -> HashMap<Key, GateSlot> {
        let gate = GateName::Queue(queue.to_owned());
        // They are asked for together, in one commit.
        let passages = keys.iter().map(|key| self.gates.pass(&gate, max_running, *key));
        let mut slots = HashMap::with_capacity(keys.len());
        for passage in join_all(passages).await {
            match passage {
                Ok(Passage::Slot(slot)) => {
                    slots.insert(slot.key, slot);
                }
                Ok(Passage::Full { .. }) => {}
                Err(error) => {
                    self.context.log_failure("could not read the gate of a queue", &error);
                }
            }
        }
        slots
    }

    /// These slots are not used.
    pub(super) fn free(&self, queue: &str, slots: Vec<GateSlot>) {
        if !slots.is_empty() {
            self.gates.free(&GateName::Queue(queue.to_owned()), slots);
        }
    }

    /// The terms of a lease for that waiter.
    pub(in crate::engine) fn take_for(&self, waiter: &Waiter) -> Take {
        Take {
            token: Token(random()),
            worker: waiter.worker.clone(),
            duration: waiter.duration,
            holder: waiter.holder,
            stall_timeout: self.context.settings.stall_timeout,
            slot: None,
        }
    }

    /// A lease is about to be committed for that waiter.
    pub(in crate::engine) fn expect(&self, key: Key, waiter: &Arc<Waiter>) {
        self.holders.expect(key, waiter);
    }

    /// Whether a stream of this server holds it, or may be about to.
    pub(in crate::engine) fn is_held(&self, key: Key) -> bool {
        self.holders.contains(key)
    }

    /// That waiter does not get it.
    pub(in crate::engine) fn forget(&self, key: Key, waiter: &Arc<Waiter>) {
        self.holders.leave(key, waiter);
    }

    /// A lease that may be handed on: its deadline has not passed while it was written. Else it goes back, and ends unseen.
    pub(in crate::engine) fn in_time(&self, grant: Grant) -> Option<Grant> {
        if grant.operation.deadline_passed(self.context.now(grant.key)) {
            self.release_unseen(vec![grant]);
            return None;
        }
        Some(grant)
    }

    /// Releases leases of a worker that is gone.
    pub(in crate::engine) fn take_back(&self, waiter: &Arc<Waiter>, unheard: Vec<Grant>) {
        for grant in &unheard {
            self.holders.leave(grant.key, waiter);
        }
        self.release_unseen(unheard);
    }

    /// Releases leases that no worker received.
    pub(in crate::engine) fn release_unseen(&self, grants: Vec<Grant>) {
        for grant in grants {
            let Some(token) = grant.lease().map(|lease| lease.token) else { continue };
            let proof = Proof { token, fingerprint: [0; 16] };
            let (checkpoint, delay) = (None, Duration::ZERO);
            let release = Release { proof, checkpoint, delay, seen: false, holder: None };
            let (context, commands) = (Arc::clone(&self.context), Arc::clone(&self.commands));
            self.context.tasks.finish("release", async move {
                let command = Command::Release(Box::new(release));
                match commands.apply_to_key(grant.key, command).await {
                    // A lease that is no more, or never was, needs no giving back.
                    Err(error) if error.reason != Reason::LeaseLost => context.log_failure(
                        "cannot give back a lease that its worker never saw; it will expire",
                        &error,
                    ),
                    _ => {}
                }
            });
        }
    }
}
