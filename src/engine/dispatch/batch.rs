//! Leases on their way to a worker.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::dispatch::seat::Seat;
use crate::engine::operations::view::payload;
use crate::engine::{Engine, Reason, Result};
use crate::operation::command::{Command, Proof, Release};
use crate::operation::lease::Lease;
use crate::operation::payload::Payload;
use crate::operation::{Operation, Record};
use crate::proto::google::protobuf::Any;
use crate::record::operation::Slot;
use crate::store::{Key, StoreError};

/// A lease that was committed.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Grant {
    pub(in crate::engine) key: Key,
    pub(in crate::engine) operation: Box<Operation>,
}

/// An operation with everything that its worker needs.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The operation.
    pub operation: Box<Operation>,
    /// What to do it with.
    pub request: Option<Any>,
    /// The metadata so far.
    pub metadata: Option<Any>,
    /// Where the last attempt got to.
    pub checkpoint: Option<Any>,
    /// What the last resume brought.
    pub resume_input: Option<Any>,
}

/// Leases that no worker has heard of yet: dropped, they go back to the queue, and count as no attempt.
pub struct LeaseBatch {
    engine: Engine,
    grants: Vec<Grant>,
}

impl Grant {
    pub(in crate::engine) fn new(key: Key, record: Record) -> Option<Self> {
        match record {
            Record::Operation(operation) => Some(Self { key, operation }),
            Record::Tombstone(_) => None,
        }
    }

    fn lease(&self) -> Option<&Lease> {
        self.operation.state.lease()
    }
}

impl Leased {
    /// About how many bytes it takes in a message.
    pub(in crate::engine) fn weight(&self) -> usize {
        let payloads = [&self.request, &self.metadata, &self.checkpoint, &self.resume_input];
        let payloads = payloads.into_iter().flatten();
        let bytes: usize = payloads.map(|any| any.value.len() + any.type_url.len()).sum();
        bytes + rest_weight(&self.operation)
    }

    /// What was leased, where all its payloads are in the record; else it comes back.
    pub(in crate::engine) fn inline(grant: Grant) -> std::result::Result<(Key, Self), Grant> {
        let inline =
            |payload: Option<&Payload>| payload.is_none_or(|payload| payload.inline().is_some());
        let operation = &grant.operation;
        let all = [
            operation.spec.request.as_ref(),
            operation.metadata.as_ref(),
            operation.checkpoint.as_ref(),
            operation.resume_input.as_ref(),
        ];
        if !all.into_iter().all(inline) {
            return Err(grant);
        }
        let Grant { key, mut operation } = grant;
        let take = |payload: &mut Option<Payload>| match payload.take() {
            Some(Payload::Inline(any)) => Some(any),
            _ => None,
        };
        let request = operation.spec.request.as_ref().and_then(Payload::inline).cloned();
        let metadata = take(&mut operation.metadata);
        let checkpoint = take(&mut operation.checkpoint);
        let resume_input = take(&mut operation.resume_input);
        Ok((key, Self { operation, request, metadata, checkpoint, resume_input }))
    }

    /// The lease.
    pub fn lease(&self) -> Option<&Lease> {
        self.operation.state.lease()
    }
}

impl LeaseBatch {
    pub(in crate::engine) const fn new(engine: Engine, grants: Vec<Grant>) -> Self {
        Self { engine, grants }
    }

    /// The operations with their payloads, as many as fit into a reply; the rest goes back.
    pub async fn load(&mut self, max_bytes: usize) -> Result<Vec<Leased>> {
        let mut leased = Vec::with_capacity(self.grants.len());
        let mut bytes = 0;
        for (position, grant) in self.grants.iter().enumerate() {
            let next = self.engine.load(grant).await?;
            let Some(next) = next else { continue };
            bytes += weight(&next.operation);
            if position > 0 && bytes > max_bytes {
                let rest = self.grants.split_off(position);
                self.engine.release_unseen(rest);
                break;
            }
            leased.push(next);
        }
        Ok(leased)
    }

    /// The worker has been told.
    pub fn told(mut self) {
        self.grants.clear();
    }
}

/// About how many bytes a lease takes in a reply.
pub(in crate::engine) fn weight(operation: &Operation) -> usize {
    let payloads = [
        &operation.spec.request,
        &operation.metadata,
        &operation.checkpoint,
        &operation.resume_input,
    ];
    let payloads: usize = payloads
        .into_iter()
        .flatten()
        .map(|payload| payload.size() + payload.type_url().len())
        .sum();
    payloads + rest_weight(operation)
}

fn rest_weight(operation: &Operation) -> usize {
    let error = operation.last_error.as_ref().map_or(0, prost::Message::encoded_len);
    error + operation.spec.options.text_bytes() + FIXED_SIZE
}

/// What the fields of a lease without payloads take, generously.
const FIXED_SIZE: usize = 2 << 10;

impl Drop for LeaseBatch {
    fn drop(&mut self) {
        self.engine.release_unseen(std::mem::take(&mut self.grants));
    }
}

impl Engine {
    /// The payloads of a lease; nothing where the lease is already gone again.
    pub(in crate::engine) async fn load(
        &self,
        grant: &Grant,
    ) -> std::result::Result<Option<Leased>, StoreError> {
        let operation = grant.operation.clone();
        let of = |slot, stored| payload(&*self.inner.store, grant.key, slot, stored);
        let request = of(Slot::Request, operation.spec.request.as_ref()).await?;
        let metadata = of(Slot::Metadata, operation.metadata.as_ref()).await?;
        let checkpoint = of(Slot::Checkpoint, operation.checkpoint.as_ref()).await?;
        let resume_input = of(Slot::ResumeInput, operation.resume_input.as_ref()).await?;
        let (Some(request), Some(metadata), Some(checkpoint), Some(resume_input)) =
            (request, metadata, checkpoint, resume_input)
        else {
            return Ok(None);
        };
        Ok(Some(Leased { operation, request, metadata, checkpoint, resume_input }))
    }

    /// The same for an operation that its starter leased.
    pub(in crate::engine) async fn load_leased(
        &self,
        key: Key,
        operation: Operation,
    ) -> Result<Option<Leased>> {
        Ok(self.load(&Grant { key, operation: Box::new(operation) }).await?)
    }

    /// Gives back what was leased for a worker that is gone.
    pub(in crate::engine) fn take_back(&self, seat: &Arc<Seat>, unheard: Vec<Grant>) {
        for grant in &unheard {
            self.inner.held.leave(grant.key, seat);
        }
        self.release_unseen(unheard);
    }

    /// A lease that may be handed on: its deadline has not passed while it was written. Else it goes back, and ends unseen.
    pub(in crate::engine) fn in_time(&self, grant: Grant) -> Option<Grant> {
        let now = self.inner.store.now(self.partition(grant.key));
        if grant.operation.deadline_passed(now) {
            self.release_unseen(vec![grant]);
            return None;
        }
        Some(grant)
    }

    /// Gives back what no worker has heard of.
    pub(in crate::engine) fn release_unseen(&self, grants: Vec<Grant>) {
        for grant in grants {
            let Some(token) = grant.lease().map(|lease| lease.token) else { continue };
            let proof = Proof { token, fingerprint: [0; 16] };
            let release = Release {
                proof,
                checkpoint: None,
                delay: Duration::ZERO,
                seen: false,
                holder: None,
            };
            let engine = self.clone();
            self.inner.tasks.finish("release", async move {
                let command = Command::Release(Box::new(release));
                let released = engine.apply_to_key(grant.key, command).await;
                // A lease that is no more, or never was, needs no giving back.
                if let Err(error) = released.map(drop).or_else(|error| {
                    if error.reason == Reason::LeaseLost { Ok(()) } else { Err(error) }
                }) {
                    engine.hampered(
                        "cannot give back a lease that its worker never saw; it will expire",
                        &error,
                    );
                }
            });
        }
    }
}
