//! Conversions for the unary calls of `longhaul.v1.Workers`.

use std::time::Duration;

use super::fields::{
    Fingerprinter, any, check_text, duration, error, name, text, timestamp, token, token_text,
};
use super::operations::wait_within;
use super::status::to_message;
use crate::engine::{Done, Error, LeaseBatch, LeaseRequest, LeaseScope, Leased, Result};
use crate::limits::{
    DEFAULT_LEASE, MAX_CHECKPOINT_BYTES, MAX_LABEL_NAME_BYTES, MAX_LEASE, MAX_LEASE_WAIT,
    MAX_LEASES, MAX_METADATA_BYTES, MAX_PARTIAL_ERRORS, MAX_PAYLOAD_BYTES, MAX_RELATED_RESOURCES,
    MAX_RENEWALS, MAX_REPLY_BYTES, MAX_TEXT_BYTES, MIN_LEASE,
};
use crate::operation::command::{Command, Complete, Fail, Proof, Release, Renew, Report, Suspend};
use crate::operation::name::{Name, Queue};
use crate::operation::worker::WorkerProcess;
use crate::operation::{Operation, State};
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;

/// Reads a request for leases; `time_left` is how long its caller waits for the reply.
pub fn lease(
    request: pb::LeaseOperationsRequest,
    time_left: Option<Duration>,
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
        wait: wait_within(wait, time_left),
        process: process("process", request.process)?,
        scope: LeaseScope::default(),
    })
}

/// The process of a worker; nothing of it is known if it is not set.
pub fn process(field: &str, process: Option<pb::WorkerProcess>) -> Result<WorkerProcess> {
    let Some(process) = process else { return Ok(WorkerProcess::default()) };
    let of = |name: &str| format!("{field}.{name}");
    let id = u64::try_from(process.process_id).map_err(|_| {
        let message =
            format!("{field}.process_id is {}; it must not be negative", process.process_id);
        Error::field(&of("process_id"), message)
    })?;
    Ok(WorkerProcess {
        host: text(&of("host"), process.host, MAX_LABEL_NAME_BYTES)?,
        id,
        start_time: timestamp(&of("start_time"), process.start_time)?,
        language: text(&of("sdk_language"), process.sdk_language, MAX_LABEL_NAME_BYTES)?,
        version: text(&of("sdk_version"), process.sdk_version, MAX_LABEL_NAME_BYTES)?,
    })
}

/// The duration of a lease, brought into its bounds; `None` if it is not set.
pub fn lease_duration(
    field: &str,
    value: Option<prost_types::Duration>,
) -> Result<Option<Duration>> {
    let named = duration(field, value)?.filter(|duration| !duration.is_zero());
    Ok(named.map(|duration| duration.clamp(MIN_LEASE, MAX_LEASE)))
}

/// The reply with as many leases as fit; the others go back to the queue.
pub async fn lease_reply(mut batch: LeaseBatch) -> Result<pb::LeaseOperationsResponse> {
    let leased = batch.load(MAX_REPLY_BYTES).await?;
    let leases = leased.into_iter().map(lease_message).collect();
    batch.told();
    Ok(pb::LeaseOperationsResponse { leases, retry_delay: None })
}

/// Reads renewals. An error in one is an error of that renewal alone.
pub fn renewals(request: &pb::RenewLeasesRequest) -> Result<Vec<Result<(Name, Renew)>>> {
    at_most("renewals", request.renewals.len(), MAX_RENEWALS)?;
    let read = |renewal: &pb::renew_leases_request::Renewal| {
        Ok((name(&renewal.name)?, self::renewal(renewal)?))
    };
    Ok(request.renewals.iter().map(read).collect())
}

fn renewal(renewal: &pb::renew_leases_request::Renewal) -> Result<Renew> {
    Ok(Renew {
        token: token(&renewal.lease_token)?,
        duration: lease_duration("lease_duration", renewal.lease_duration)?,
        cancel_acknowledged: renewal.cancel_acknowledged,
    })
}

/// The reply to renewals, in their order.
pub fn renewed(
    request: pb::RenewLeasesRequest,
    renewed: Vec<Result<Done>>,
) -> pb::RenewLeasesResponse {
    use pb::renew_leases_response::Result as Renewed;
    let result = |(renewal, result): (pb::renew_leases_request::Renewal, Result<Done>)| {
        let name = renewal.name;
        match result {
            Ok(done) => {
                let (expire_time, lease_duration) = lease_times(&done);
                let directive = done.operation().map(directive);
                Renewed { name, expire_time, directive, error: None, lease_duration }
            }
            Err(error) => Renewed { name, error: Some(to_message(&error)), ..Renewed::default() },
        }
    };
    let results = request.renewals.into_iter().zip(renewed).map(result).collect();
    pb::RenewLeasesResponse { results }
}

/// Reads a report.
pub fn report(request: pb::ReportProgressRequest) -> Result<(Name, Command)> {
    let name = name(&request.name)?;
    if request.report_number < 0 {
        return Err(Error::field(
            "report_number",
            format!("report_number is {}; it rises from 1", request.report_number),
        ));
    }
    let report = Report {
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
    };
    Ok((name, Command::Report(Box::new(report))))
}

/// The reply to a report.
pub fn reported(done: &Done) -> pb::ReportProgressResponse {
    let (expire_time, lease_duration) = lease_times(done);
    let directive = done.operation().map(directive);
    pb::ReportProgressResponse { expire_time, directive, lease_duration }
}

/// Reads a completion.
pub fn complete(mut request: pb::CompleteOperationRequest) -> Result<(Name, Command)> {
    let name = name(&std::mem::take(&mut request.name))?;
    let token = std::mem::take(&mut request.lease_token);
    let (response, metadata) = (request.response.take(), request.metadata.take());
    let mut said = Fingerprinter::default();
    said.any(response.as_ref());
    said.any(metadata.as_ref());
    said.message(&request);
    let complete = Complete {
        proof: proof(&token, &said)?,
        response: any("response", response, MAX_PAYLOAD_BYTES)?,
        metadata: any("metadata", metadata, MAX_METADATA_BYTES)?,
        related_resources: related_resources(request.related_resources)?,
        progress: progress(request.progress)?,
    };
    Ok((name, Command::Complete(Box::new(complete))))
}

/// The reply to a completion.
pub const fn completed(done: &Done) -> pb::CompleteOperationResponse {
    pb::CompleteOperationResponse { discarded: done.answer.discarded }
}

/// Reads a failure.
pub fn fail(mut request: pb::FailOperationRequest) -> Result<(Name, Command)> {
    use pb::fail_operation_request::RetryDecision;
    let name = name(&std::mem::take(&mut request.name))?;
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
    let token = std::mem::take(&mut request.lease_token);
    let (metadata, checkpoint) = (request.metadata.take(), request.checkpoint.take());
    let mut said = Fingerprinter::default();
    said.any(metadata.as_ref());
    said.any(checkpoint.as_ref());
    said.message(&request);
    let fail = Fail {
        proof: proof(&token, &said)?,
        error: error("error", request.error)?,
        retry,
        retry_delay: duration("retry_delay", request.retry_delay)?,
        metadata: any("metadata", metadata, MAX_METADATA_BYTES)?,
        checkpoint: any("checkpoint", checkpoint, MAX_CHECKPOINT_BYTES)?,
    };
    Ok((name, Command::Fail(Box::new(fail))))
}

/// The reply to a failure.
pub fn failed(done: &Done) -> pb::FailOperationResponse {
    pb::FailOperationResponse {
        will_retry: done.answer.will_retry,
        schedule_time: done.answer.schedule_time.map(Into::into),
        discarded: done.answer.discarded,
    }
}

/// Reads a release.
pub fn release(mut request: pb::ReleaseLeaseRequest) -> Result<(Name, Command)> {
    let name = name(&std::mem::take(&mut request.name))?;
    let token = std::mem::take(&mut request.lease_token);
    let checkpoint = request.checkpoint.take();
    let mut said = Fingerprinter::default();
    said.any(checkpoint.as_ref());
    said.message(&request);
    let release = Release {
        proof: proof(&token, &said)?,
        checkpoint: any("checkpoint", checkpoint, MAX_CHECKPOINT_BYTES)?,
        delay: duration("delay", request.delay)?.unwrap_or_default(),
        seen: true,
        holder: None,
    };
    Ok((name, Command::Release(Box::new(release))))
}

/// Reads a suspension.
pub fn suspend(mut request: pb::SuspendOperationRequest) -> Result<(Name, Command)> {
    let name = name(&std::mem::take(&mut request.name))?;
    let token = std::mem::take(&mut request.lease_token);
    let (metadata, checkpoint) = (request.metadata.take(), request.checkpoint.take());
    let mut said = Fingerprinter::default();
    said.any(metadata.as_ref());
    said.any(checkpoint.as_ref());
    said.message(&request);
    let suspend = Suspend {
        proof: proof(&token, &said)?,
        reason: text("reason", request.reason, MAX_TEXT_BYTES)?,
        metadata: any("metadata", metadata, MAX_METADATA_BYTES)?,
        checkpoint: any("checkpoint", checkpoint, MAX_CHECKPOINT_BYTES)?,
        resume_time: timestamp("resume_time", request.resume_time)?,
    };
    Ok((name, Command::Suspend(Box::new(suspend))))
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
        deadline_time: spec.options.deadline_time.map(Into::into),
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

/// What a worker should do now; part of every reply to it.
fn directive(operation: &Operation) -> pb::Directive {
    pb::Directive {
        cancel_requested: matches!(operation.state, State::Cancelling(..)),
        pause_requested: operation.pause_requested,
        drain_duration: None,
    }
}

/// When the lease expires, and how long after the decision that is. A renewal that is not
/// stored yet promises only what is stored.
fn lease_times(done: &Done) -> (Option<prost_types::Timestamp>, Option<prost_types::Duration>) {
    let lease = done.operation().and_then(|operation| operation.state.lease());
    lease.map_or((None, None), |lease| {
        let left = lease.expire_time.since(done.time);
        (Some(lease.expire_time.into()), prost_types::Duration::try_from(left).ok())
    })
}

fn proof(lease_token: &str, said: &Fingerprinter) -> Result<Proof> {
    Ok(Proof { token: token(lease_token)?, fingerprint: said.finish() })
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
    check_text("progress.unit", &progress.unit, MAX_LABEL_NAME_BYTES)?;
    check_text("progress.message", &progress.message, MAX_TEXT_BYTES)?;
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
            check_text("related_resources", part, MAX_TEXT_BYTES)?;
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::proto::google::protobuf::Any;

    fn completion(value: &Bytes) -> pb::CompleteOperationRequest {
        pb::CompleteOperationRequest {
            name: "operations/a".to_owned(),
            lease_token: "0".repeat(32),
            response: Some(Any { type_url: "a.B".to_owned(), value: value.clone() }),
            ..Default::default()
        }
    }

    fn read(request: pb::CompleteOperationRequest) -> Complete {
        match complete(request).expect("a completion") {
            (_, Command::Complete(complete)) => *complete,
            (_, other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_large_response_is_moved_into_the_command_not_copied() {
        let value = Bytes::from(vec![7; MAX_PAYLOAD_BYTES]);
        let response = read(completion(&value)).response.expect("a response");
        assert_eq!(response.value.as_ptr(), value.as_ptr());
    }

    #[test]
    fn a_small_response_does_not_keep_its_request_in_memory() {
        let request = Bytes::from(vec![7; MAX_PAYLOAD_BYTES]);
        let response = read(completion(&request.slice(..100))).response.expect("a response");
        assert_eq!(response.value, request.slice(..100));
        assert_ne!(response.value.as_ptr(), request.as_ptr());
    }

    #[test]
    fn a_repeat_has_the_same_fingerprint_and_other_content_another() {
        let fingerprint = |change: &dyn Fn(&mut pb::CompleteOperationRequest)| {
            let mut request = completion(&Bytes::from_static(b"value"));
            change(&mut request);
            read(request).proof.fingerprint
        };
        let first = fingerprint(&|_| {});
        assert_eq!(fingerprint(&|request| request.lease_token = "1".repeat(32)), first);
        assert_eq!(fingerprint(&|request| request.name = "operations/b".to_owned()), first);
        let moved = |request: &mut pb::CompleteOperationRequest| {
            request.metadata = request.response.take();
        };
        assert_ne!(fingerprint(&moved), first);
        let other = |request: &mut pb::CompleteOperationRequest| {
            request.progress = Some(pb::Progress { completed_units: 1, ..Default::default() });
        };
        assert_ne!(fingerprint(&other), first);
    }
}
