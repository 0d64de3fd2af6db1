//! What workers send and get.

use std::time::Duration;

use super::fields::{any, duration, error, fingerprint, text, timestamp, token, token_text};
use crate::clock::Timestamp;
use crate::engine::{Error, LeaseRequest, Leased, Result};
use crate::limits::{
    DEFAULT_LEASE, MAX_CHECKPOINT_BYTES, MAX_LABEL_NAME_BYTES, MAX_LEASE, MAX_LEASE_WAIT,
    MAX_LEASES, MAX_METADATA_BYTES, MAX_PARTIAL_ERRORS, MAX_PAYLOAD_BYTES, MAX_RELATED_RESOURCES,
    MAX_TEXT_BYTES, MIN_LEASE,
};
use crate::operation::command::{Complete, Fail, Proof, Release, Renew, Report, Suspend};
use crate::operation::name::Queue;
use crate::operation::{Operation, State};
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;

/// Reads a wish for leases; `longest` is how long the RPC's own deadline lets it wait.
pub fn lease(
    request: pb::LeaseOperationsRequest,
    longest: Option<Duration>,
) -> Result<LeaseRequest> {
    let max = match usize::try_from(request.max_operations) {
        Ok(0) => 1,
        Ok(max) => max.min(MAX_LEASES),
        Err(_) => {
            return Err(Error::field(
                "max_operations",
                format!("max_operations is {}; it must not be negative", request.max_operations),
            ));
        }
    };
    let wait =
        duration("wait_duration", request.wait_duration)?.unwrap_or_default().min(MAX_LEASE_WAIT);
    Ok(LeaseRequest {
        queue: Queue::parse(&request.queue)
            .map_err(|error| Error::field("queue", error.to_string()))?,
        worker: text("worker", request.worker, MAX_LABEL_NAME_BYTES)?,
        max,
        duration: lease_duration("lease_duration", request.lease_duration)?
            .unwrap_or(DEFAULT_LEASE),
        wait: longest.map_or(wait, |longest| wait.min(longest)),
    })
}

/// A lease's duration, brought into its bounds; `None` where none is named.
pub fn lease_duration(
    field: &str,
    value: Option<prost_types::Duration>,
) -> Result<Option<Duration>> {
    let named = duration(field, value)?.filter(|duration| !duration.is_zero());
    Ok(named.map(|duration| duration.clamp(MIN_LEASE, MAX_LEASE)))
}

/// Reads one renewal of a batch.
pub fn renewal(renewal: &pb::renew_leases_request::Renewal) -> Result<Renew> {
    Ok(Renew {
        token: token(&renewal.lease_token)?,
        duration: lease_duration("lease_duration", renewal.lease_duration)?,
        cancel_acknowledged: renewal.cancel_acknowledged,
    })
}

/// Reads a report.
pub fn report(request: pb::ReportProgressRequest) -> Result<Report> {
    if request.report_number < 0 {
        return Err(Error::field(
            "report_number",
            format!("report_number is {}; it rises from 1", request.report_number),
        ));
    }
    Ok(Report {
        renew: Renew {
            token: token(&request.lease_token)?,
            duration: lease_duration("lease_duration", request.lease_duration)?,
            cancel_acknowledged: request.cancel_acknowledged,
        },
        number: request.report_number,
        progress: progress(request.progress)?,
        metadata: any("metadata", request.metadata, MAX_METADATA_BYTES)?,
        checkpoint: any("checkpoint", request.checkpoint, MAX_CHECKPOINT_BYTES)?,
        partial_errors: partial_errors(request.partial_errors)?,
        related_resources: related_resources(request.related_resources)?,
        status_detail: text("status_detail", request.status_detail, MAX_TEXT_BYTES)?,
    })
}

/// Reads a completion.
pub fn complete(request: pb::CompleteOperationRequest) -> Result<Complete> {
    Ok(Complete {
        proof: proof(
            &request.lease_token,
            &pb::CompleteOperationRequest {
                name: String::new(),
                lease_token: String::new(),
                ..request.clone()
            },
        )?,
        response: any("response", request.response, MAX_PAYLOAD_BYTES)?,
        metadata: any("metadata", request.metadata, MAX_METADATA_BYTES)?,
        related_resources: related_resources(request.related_resources)?,
        progress: progress(request.progress)?,
    })
}

/// Reads a failure.
pub fn fail(request: pb::FailOperationRequest) -> Result<Fail> {
    use pb::fail_operation_request::RetryDecision;
    let retry = match RetryDecision::try_from(request.retry_decision) {
        Ok(RetryDecision::Unspecified) => None,
        Ok(RetryDecision::Retry) => Some(true),
        Ok(RetryDecision::DoNotRetry) => Some(false),
        Err(_) => {
            return Err(Error::field(
                "retry_decision",
                format!("retry_decision {} is not known", request.retry_decision),
            ));
        }
    };
    Ok(Fail {
        proof: proof(
            &request.lease_token,
            &pb::FailOperationRequest {
                name: String::new(),
                lease_token: String::new(),
                ..request.clone()
            },
        )?,
        error: error("error", request.error)?,
        retry,
        retry_delay: duration("retry_delay", request.retry_delay)?,
        metadata: any("metadata", request.metadata, MAX_METADATA_BYTES)?,
        checkpoint: any("checkpoint", request.checkpoint, MAX_CHECKPOINT_BYTES)?,
    })
}

/// Reads a release.
pub fn release(request: pb::ReleaseLeaseRequest) -> Result<Release> {
    Ok(Release {
        proof: proof(
            &request.lease_token,
            &pb::ReleaseLeaseRequest {
                name: String::new(),
                lease_token: String::new(),
                ..request.clone()
            },
        )?,
        checkpoint: any("checkpoint", request.checkpoint, MAX_CHECKPOINT_BYTES)?,
        delay: duration("delay", request.delay)?.unwrap_or_default(),
        seen: true,
        holder: None,
    })
}

/// Reads a suspension.
pub fn suspend(request: pb::SuspendOperationRequest) -> Result<Suspend> {
    Ok(Suspend {
        proof: proof(
            &request.lease_token,
            &pb::SuspendOperationRequest {
                name: String::new(),
                lease_token: String::new(),
                ..request.clone()
            },
        )?,
        reason: text("reason", request.reason, MAX_TEXT_BYTES)?,
        metadata: any("metadata", request.metadata, MAX_METADATA_BYTES)?,
        checkpoint: any("checkpoint", request.checkpoint, MAX_CHECKPOINT_BYTES)?,
        resume_time: timestamp("resume_time", request.resume_time)?,
    })
}

/// A lease for its worker.
pub fn lease_message(leased: Leased) -> pb::Lease {
    let (lease_token, attempt, expire_time, lease_duration) =
        leased.lease().map_or_else(Default::default, |lease| {
            (
                token_text(lease.token),
                lease.attempt,
                Some(lease.expire_time.into()),
                prost_types::Duration::try_from(lease.duration).ok(),
            )
        });
    let operation = *leased.operation;
    let spec = &operation.spec;
    pb::Lease {
        operation: operation.name.to_string(),
        lease_token,
        fencing_number: operation.stamps.fencing as i64,
        attempt: attempt as i32,
        expire_time,
        deadline_time: spec.options.deadline_time,
        cancel_requested: operation.cancel_requested(),
        method: spec.method.clone(),
        request: leased.request,
        metadata_type: spec.metadata_type.clone(),
        response_type: spec.response_type.clone(),
        target: spec.options.target.clone(),
        metadata: leased.metadata,
        checkpoint: leased.checkpoint,
        resume_input: leased.resume_input,
        last_error: operation.last_error,
        labels: spec.options.labels.clone(),
        trace_parent: spec.trace_parent.clone(),
        lease_duration,
    }
}

/// What the server wants of a worker, with every reply to it.
pub fn directive(operation: &Operation) -> pb::Directive {
    pb::Directive {
        cancel_requested: matches!(operation.state, State::Cancelling(..)),
        pause_requested: operation.pause_requested,
        drain_duration: None,
    }
}

/// When the lease expires, and how long after `now` that is: what a renewal and a report answer. A renewal that need not be
/// stored yet promises no more than what is.
pub fn lease_times(
    operation: &Operation,
    now: Timestamp,
) -> (Option<prost_types::Timestamp>, Option<prost_types::Duration>) {
    operation.state.lease().map_or((None, None), |lease| {
        (
            Some(Timestamp::into(lease.expire_time)),
            prost_types::Duration::try_from(lease.expire_time.since(now)).ok(),
        )
    })
}

fn proof(lease_token: &str, says: &impl prost::Message) -> Result<Proof> {
    Ok(Proof { token: token(lease_token)?, fingerprint: fingerprint(says) })
}

fn progress(progress: Option<pb::Progress>) -> Result<Option<pb::Progress>> {
    let Some(progress) = progress else { return Ok(None) };
    if let Some(fraction) = progress.fraction.filter(|fraction| !(0.0..=1.0).contains(fraction)) {
        return Err(Error::field(
            "progress.fraction",
            format!("progress.fraction is {fraction}; it must be between 0 and 1"),
        ));
    }
    if progress.completed_units < 0 || progress.total_units < 0 {
        return Err(Error::field(
            "progress.completed_units",
            "progress.completed_units and total_units must not be negative",
        ));
    }
    text("progress.unit", progress.unit.clone(), MAX_LABEL_NAME_BYTES)?;
    text("progress.message", progress.message.clone(), MAX_TEXT_BYTES)?;
    Ok(Some(progress))
}

fn partial_errors(errors: Vec<Status>) -> Result<Vec<Status>> {
    at_most("partial_errors", errors.len(), MAX_PARTIAL_ERRORS)?;
    errors.into_iter().map(|status| error("partial_errors", Some(status))).collect()
}

fn related_resources(resources: Vec<pb::RelatedResource>) -> Result<Vec<pb::RelatedResource>> {
    at_most("related_resources", resources.len(), MAX_RELATED_RESOURCES)?;
    for resource in &resources {
        for part in [&resource.name, &resource.uri, &resource.r#type, &resource.relation] {
            text("related_resources", part.clone(), MAX_TEXT_BYTES)?;
        }
    }
    Ok(resources)
}

fn at_most(field: &str, count: usize, limit: usize) -> Result<()> {
    if count <= limit {
        return Ok(());
    }
    Err(Error::field(field, format!("{field} has {count} items, at most {limit} are allowed"))
        .with("limit", limit))
}
