//! Requests as scenarios send them, with defaults for everything else.

use std::time::Duration;

use super::{Any, Code, RpcStatus, pb};

/// A start in that queue.
pub(crate) fn start(queue: &str) -> pb::StartOperationRequest {
    pb::StartOperationRequest { queue: queue.to_owned(), ..Default::default() }
}

/// The same with options.
pub(crate) fn start_with(queue: &str, options: pb::OperationOptions) -> pb::StartOperationRequest {
    pb::StartOperationRequest { options: Some(options), ..start(queue) }
}

/// A request for one lease of that queue.
pub(crate) fn leasing(queue: &str) -> pb::LeaseOperationsRequest {
    pb::LeaseOperationsRequest {
        queue: queue.to_owned(),
        worker: "worker-1".to_owned(),
        ..Default::default()
    }
}

pub(crate) fn renewal(lease: &pb::Lease) -> pb::renew_leases_request::Renewal {
    pb::renew_leases_request::Renewal {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        ..Default::default()
    }
}

pub(crate) fn report(lease: &pb::Lease) -> pb::ReportProgressRequest {
    pb::ReportProgressRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        ..Default::default()
    }
}

pub(crate) fn completion(lease: &pb::Lease) -> pb::CompleteOperationRequest {
    pb::CompleteOperationRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        ..Default::default()
    }
}

pub(crate) fn failure(lease: &pb::Lease, code: Code) -> pb::FailOperationRequest {
    pb::FailOperationRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        error: Some(error(code)),
        ..Default::default()
    }
}

pub(crate) fn release(lease: &pb::Lease) -> pb::ReleaseLeaseRequest {
    pb::ReleaseLeaseRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        ..Default::default()
    }
}

pub(crate) fn suspension(lease: &pb::Lease) -> pb::SuspendOperationRequest {
    pb::SuspendOperationRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        ..Default::default()
    }
}

pub(crate) fn watch(name: &str) -> pb::WatchOperationRequest {
    pb::WatchOperationRequest { name: name.to_owned(), ..Default::default() }
}

/// An error of a worker's.
pub(crate) fn error(code: Code) -> RpcStatus {
    RpcStatus { code: code as i32, message: format!("{code:?} happened"), details: Vec::new() }
}

/// A message of a type that the server does not know.
pub(crate) fn any(type_name: &str, value: &[u8]) -> Any {
    Any { type_url: format!("type.googleapis.com/{type_name}"), value: value.to_vec().into() }
}

/// A message whose bytes no compression makes smaller.
pub(crate) fn large(type_name: &str, bytes: usize) -> Any {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let value = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    any(type_name, &value.take(bytes).collect::<Vec<u8>>())
}

pub(crate) fn seconds(seconds: u64) -> Option<prost_types::Duration> {
    millis(seconds * 1_000)
}

pub(crate) fn millis(millis: u64) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(Duration::from_millis(millis)).ok()
}
