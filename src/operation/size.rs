//! How much of a store operations take: about, and without encoding them.
//!
//! What counts are the parts that callers and workers can make large. The first KiB of each operation is in the number of
//! operations already, so most commits change no counter of sizes. The record notes with how much it counts: so another version,
//! which measures differently, takes off what this one has added.

use prost::Message;

use super::options::Options;
use super::payload::Payload;
use super::record::{Operation, State};
use super::spec::Spec;
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;

/// What the size of an operation is counted in.
pub const BLOCK_BYTES: u64 = 1 << 10;

/// How many blocks an operation takes beyond its first.
pub(super) fn further_blocks(operation: &Operation) -> u32 {
    let (response, error) = match &operation.state {
        State::Succeeded(response) => (Some(response), None),
        State::Failed(error) | State::Cancelled(error) => (None, Some(error)),
        _ => (None, None),
    };
    let payloads = [
        operation.metadata.as_ref(),
        response,
        operation.checkpoint.as_ref(),
        operation.resume_input.as_ref(),
    ];
    let payloads: usize = payloads.into_iter().flatten().map(payload_bytes).sum();
    let errors = [error, operation.last_error.as_ref()].into_iter().flatten();
    let errors: usize = errors.chain(&operation.partial_errors).map(status_bytes).sum();
    let attempts: usize = operation.attempts.iter().map(Message::encoded_len).sum();
    let resources: usize = operation.related_resources.iter().map(Message::encoded_len).sum();
    let texts = operation.status_detail.len() + operation.suspend_reason.len();
    let bytes = spec_bytes(&operation.spec) + payloads + errors + attempts + resources + texts;
    u32::try_from(blocks(bytes) - 1).unwrap_or(u32::MAX)
}

/// How many bytes an operation counts with when it starts.
pub fn starting_bytes(spec: &Spec, initial_metadata: Option<&Any>) -> u64 {
    blocks(spec_bytes(spec) + initial_metadata.map_or(0, any_bytes)) * BLOCK_BYTES
}

const fn blocks(bytes: usize) -> u64 {
    ((FIXED_BYTES + bytes) as u64).div_ceil(BLOCK_BYTES)
}

fn spec_bytes(spec: &Spec) -> usize {
    let texts = [
        spec.method.len(),
        spec.metadata_type.len(),
        spec.response_type.len(),
        spec.request_id.len(),
        spec.trace_parent.len(),
        spec.caller.len(),
    ];
    let texts: usize = texts.into_iter().sum();
    texts + spec.request.as_ref().map_or(0, payload_bytes) + options_bytes(&spec.options)
}

fn options_bytes(options: &Options) -> usize {
    let callbacks: usize = options.callbacks.iter().map(Message::encoded_len).sum();
    options.text_bytes() + callbacks
}

fn payload_bytes(payload: &Payload) -> usize {
    payload.type_url().len() + payload.size()
}

const fn any_bytes(any: &Any) -> usize {
    any.type_url.len() + any.value.len()
}

fn status_bytes(status: &Status) -> usize {
    let details: usize = status.details.iter().map(any_bytes).sum();
    status.message.len() + details
}

/// The name, the times, the lease and the places of an operation.
const FIXED_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn spec_with(bytes: usize) -> Spec {
        let request = Any { type_url: String::new(), value: vec![0; bytes].into() };
        Spec { request: Some(Payload::Inline(request)), ..Spec::default() }
    }

    #[test]
    fn a_start_counts_in_blocks_and_a_small_one_with_a_single_block() {
        let first = BLOCK_BYTES as usize - FIXED_BYTES;
        for (bytes, blocks) in [(0, 1), (first, 1), (first + 1, 2), (first + 1_025, 3)] {
            assert_eq!(starting_bytes(&spec_with(bytes), None), blocks * BLOCK_BYTES, "{bytes}");
        }
        let metadata = Any { type_url: "a.B".to_owned(), value: vec![0; first].into() };
        assert_eq!(starting_bytes(&Spec::default(), Some(&metadata)), 2 * BLOCK_BYTES);
    }
}
