//! A lease with everything that its worker needs.

use crate::engine::leases::grant::Grant;
use crate::engine::reading::view::payload;
use crate::operation::Operation;
use crate::operation::lease::Lease;
use crate::operation::payload::Payload;
use crate::proto::google::protobuf::Any;
use crate::record::operation::Slot;
use crate::store::{Key, Store, StoreError};

/// An operation with everything that its worker needs.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The operation.
    pub operation: Box<Operation>,
    /// The request.
    pub request: Option<Any>,
    /// The metadata so far.
    pub metadata: Option<Any>,
    /// Where the last attempt got to.
    pub checkpoint: Option<Any>,
    /// The payload of the last resume.
    pub resume_input: Option<Any>,
}

impl Leased {
    /// About how many bytes it takes in a message.
    pub(in crate::engine) fn weight(&self) -> usize {
        let payloads = [&self.request, &self.metadata, &self.checkpoint, &self.resume_input];
        let payloads = payloads.into_iter().flatten();
        let bytes: usize = payloads.map(|any| any.value.len() + any.type_url.len()).sum();
        bytes + rest_weight(&self.operation)
    }

    /// Builds the leased operation if all its payloads are in the record; otherwise returns the grant.
    pub(in crate::engine) fn inline(grant: Grant) -> Result<(Key, Self), Grant> {
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

    /// A lease with its payloads; `None` if the lease has ended already.
    pub(in crate::engine) async fn load(
        store: &dyn Store,
        grant: &Grant,
    ) -> Result<Option<Self>, StoreError> {
        let operation = grant.operation.clone();
        let of = |slot, stored| payload(store, grant.key, slot, stored);
        let request = of(Slot::Request, operation.spec.request.as_ref()).await?;
        let metadata = of(Slot::Metadata, operation.metadata.as_ref()).await?;
        let checkpoint = of(Slot::Checkpoint, operation.checkpoint.as_ref()).await?;
        let resume_input = of(Slot::ResumeInput, operation.resume_input.as_ref()).await?;
        let (Some(request), Some(metadata), Some(checkpoint), Some(resume_input)) =
            (request, metadata, checkpoint, resume_input)
        else {
            return Ok(None);
        };
        Ok(Some(Self { operation, request, metadata, checkpoint, resume_input }))
    }

    /// The lease.
    pub fn lease(&self) -> Option<&Lease> {
        self.operation.state.lease()
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

/// Upper estimate of the size of a lease's fields without payloads.
const FIXED_SIZE: usize = 2 << 10;
