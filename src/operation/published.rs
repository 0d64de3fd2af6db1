//! An operation as callers see it, and the errors that the server itself ends one with.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::code::Code;
use bytes::Bytes;
use prost::Message;

use super::name::Name;
use super::payload::{EMPTY, Payload, type_url};
use super::record::{Operation, State};
use super::spec::{OfJob, Spec};
use crate::clock::Timestamp;
use crate::proto::google::longrunning::{Operation as Published, operation::Result as Outcome};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::{ErrorInfo, Status};
use crate::proto::longhaul::v1 as pb;

/// The fraction done, from 0 to 1, if known.
pub(super) fn fraction(progress: &pb::Progress) -> Option<f64> {
    let units = (progress.total_units > 0)
        .then(|| progress.completed_units as f64 / progress.total_units as f64);
    progress.fraction.or(units).map(|done| done.clamp(0.0, 1.0))
}

/// The server's own metadata as a payload.
pub fn pack_metadata(metadata: &pb::OperationMetadata) -> Any {
    Any { type_url: type_url(SERVER_METADATA), value: metadata.encode_to_vec().into() }
}

/// Declared metadata is present from the start, as an empty message: some clients fail without it.
pub fn empty_metadata(metadata_type: &str) -> Option<Any> {
    let declared = !metadata_type.is_empty();
    declared.then(|| Any { type_url: type_url(metadata_type), value: Bytes::new() })
}

/// The full name of the metadata that the server itself writes.
const SERVER_METADATA: &str = "longhaul.v1.OperationMetadata";
/// The full name of the metadata of a run of a job.
const RUN_METADATA: &str = "longhaul.v1.RunJobMetadata";
/// The full name of the response of a run of a job.
const RUN_RESPONSE: &str = "longhaul.v1.RunJobResponse";
/// The domain of every reason that longhaul gives (AIP-193).
pub const DOMAIN: &str = "longhaul.dev";

impl Operation {
    /// The Operation for callers; detached payloads are left out, and the caller of this function adds them.
    pub fn published(&self) -> Published {
        let inline = |payload: &Payload| payload.inline().cloned();
        let outcome = match &self.state {
            State::Succeeded(response) => inline(response).map(Outcome::Response),
            State::Failed(error) | State::Cancelled(error) => Some(Outcome::Error(error.clone())),
            _ => None,
        };
        Published {
            name: self.name.as_str().to_owned(),
            metadata: self.published_metadata(),
            done: self.state.is_done(),
            result: outcome,
        }
    }

    /// The fraction done, from 0 to 1, if known.
    pub fn fraction(&self) -> Option<f64> {
        self.progress.as_ref().and_then(fraction)
    }

    /// The metadata for callers; none if it is detached.
    pub fn published_metadata(&self) -> Option<Any> {
        if let Some(run) = &self.spec.of_job {
            let value = self.run_metadata(run).encode_to_vec().into();
            return Some(Any { type_url: type_url(RUN_METADATA), value });
        }
        if self.spec.server_metadata {
            return Some(pack_metadata(&self.server_metadata()));
        }
        match &self.metadata {
            Some(payload) => payload.inline().cloned(),
            None => empty_metadata(&self.spec.metadata_type),
        }
    }

    /// The metadata of a run of a job.
    fn run_metadata(&self, run: &OfJob) -> pb::RunJobMetadata {
        pb::RunJobMetadata {
            job: run.job.clone(),
            execution: run.execution.clone(),
            trigger: i32::from(run.trigger as u8),
            tick_time: run.tick.map(Into::into),
            operation: Some(self.server_metadata()),
        }
    }

    /// The response that callers see: a run of a job has the worker's in one of its own.
    pub(super) fn published_response(&self, response: Any) -> Any {
        let Some(run) = &self.spec.of_job else { return response };
        let execution = run.execution.clone();
        let response = pb::RunJobResponse { execution, response: Some(response) };
        Any { type_url: type_url(RUN_RESPONSE), value: response.encode_to_vec().into() }
    }

    /// The worker's own response in a published one.
    pub fn plain_response(&self, response: &Payload) -> Payload {
        let published = response.inline().filter(|_| self.spec.of_job.is_some());
        let run = published.and_then(|any| pb::RunJobResponse::decode(any.value.clone()).ok());
        run.and_then(|run| run.response).map_or_else(|| response.clone(), Payload::Inline)
    }

    /// The error that it ends with if a caller cancels it.
    pub fn cancelled(&self) -> Status {
        cancelled_by_client(&self.name)
    }

    /// The metadata that the server itself can fill in.
    pub fn server_metadata(&self) -> pb::OperationMetadata {
        pb::OperationMetadata {
            create_time: Some(self.create_time.into()),
            end_time: self.end_time.map(Into::into),
            target: self.spec.options.target.clone(),
            verb: self.spec.method.clone(),
            status_detail: self.status_detail.clone(),
            cancel_requested: self.cancel_requested(),
            api_version: "v1".to_owned(),
            state: self.state.published().into(),
            progress: self.progress.clone(),
            attempt_count: self.attempt() as i32,
            start_time: self.start_time.map(Into::into),
            update_time: Some(self.update_time.into()),
            expire_time: self.expire_time.map(Into::into),
            estimated_end_time: self.estimated_end().map(Into::into),
            partial_errors: self.partial_errors.clone(),
            cancel_trail: self.cancel_trail,
            suspend_reason: self.suspend_reason.clone(),
            stalled: self.state.lease().is_some_and(|lease| lease.stalled),
        }
    }

    /// The finished part as last reported, from 0 to 1.
    pub fn fraction_done(&self) -> Option<f64> {
        self.progress.as_ref().and_then(fraction)
    }

    /// The estimated end at the speed of this attempt so far; none without progress.
    pub fn estimated_end(&self) -> Option<Timestamp> {
        let State::Running(lease) = &self.state else { return None };
        let progress = self.progress.as_ref()?;
        let reported = Timestamp::from(progress.update_time.as_ref()?);
        let (done, before) = (fraction(progress)?, lease.first_fraction);
        let spent = reported.since(lease.start_time);
        if lease.stalled || spent.is_zero() || done <= before {
            return None;
        }
        let left = spent.as_secs_f64() * (1.0 - done).max(0.0) / (done - before);
        Some(reported + Duration::try_from_secs_f64(left).ok()?)
    }

    /// The whole view, without the operation itself and its request.
    pub fn record(&self) -> pb::OperationRecord {
        let mut attempts = self.attempts.clone();
        attempts.extend(self.state.lease().map(|lease| pb::Attempt {
            number: lease.attempt as i32,
            worker: lease.worker.clone(),
            fencing_number: self.stamps.fencing as i64,
            start_time: Some(lease.start_time.into()),
            end_time: None,
            error: None,
        }));
        let run = self.spec.of_job.as_ref();
        pb::OperationRecord {
            name: self.name.as_str().to_owned(),
            operation: None,
            state: self.state.published().into(),
            server_metadata: Some(self.server_metadata()),
            request: None,
            options: Some(self.spec.options.published()),
            etag: self.etag(),
            uid: self.uid.to_string(),
            queue: self.spec.queue.full(),
            method: self.spec.method.clone(),
            metadata_type: self.spec.metadata_type.clone(),
            response_type: self.spec.response_type.clone(),
            attempts,
            related_resources: self.related_resources.clone(),
            trace_parent: self.spec.trace_parent.clone(),
            job: run.map(|run| run.job.clone()).unwrap_or_default(),
            execution: run.map(|run| run.execution.clone()).unwrap_or_default(),
            rerun_of: self.spec.rerun_of.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl Spec {
    /// The reply to a start that was only validated: done, with an empty response (AIP-163, AIP-151), and empty metadata,
    /// without which some clients fail. Its name is left empty.
    pub fn validated(&self) -> Published {
        let empty = |name: &str| Any { type_url: type_url(name), value: Bytes::new() };
        let response = if self.response_type.is_empty() { EMPTY } else { &self.response_type };
        let metadata = if self.server_metadata { SERVER_METADATA } else { &self.metadata_type };
        Published {
            name: String::new(),
            metadata: (!metadata.is_empty()).then(|| empty(metadata)),
            done: true,
            result: Some(Outcome::Response(empty(response))),
        }
    }
}

/// The error of an operation that ended because a caller cancelled it.
pub(super) fn cancelled_by_client(name: &Name) -> Status {
    status(Code::Cancelled, format!("{name} was cancelled"), "CANCELLED_BY_CLIENT", &[])
}

/// The error of an attempt whose worker did not renew its lease.
pub(super) fn worker_lost(name: &Name) -> Status {
    status(
        Code::Aborted,
        format!("the worker of {name} did not renew its lease"),
        "WORKER_LOST",
        &[],
    )
}

/// The error of an attempt, or of an operation, that took too long.
pub(super) fn execution_timeout(name: &Name, bound: &str) -> Status {
    status(
        Code::DeadlineExceeded,
        format!("{name} ran into its {bound}"),
        "EXECUTION_TIMEOUT",
        &[("bound", bound)],
    )
}

/// The error of an operation whose last attempt left none.
pub(super) fn attempts_exhausted(operation: &Operation, code: Code, cause: &str) -> Status {
    let attempts = operation.attempts_used.to_string();
    let message =
        format!("{} was tried {attempts} times; the last time ended with {cause}", operation.name);
    status(code, message, "ATTEMPTS_EXHAUSTED", &[("attempts", &attempts), ("cause", cause)])
}

/// The error of an operation whose slot a newer one with the same concurrency key took.
pub(super) fn preempted(operation: &Operation, newer: &Name) -> Status {
    let concurrency = operation.spec.options.concurrency.as_ref();
    let key = concurrency.map_or("", |concurrency| &concurrency.key);
    let message = format!(
        "{} was preempted by {newer}, which has the same concurrency key {key:?}",
        operation.name
    );
    status(Code::Aborted, message, "PREEMPTED", &[("key", key), ("by", newer.as_str())])
}

fn status(code: Code, message: String, reason: &str, metadata: &[(&str, &str)]) -> Status {
    let metadata: BTreeMap<_, _> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let info = ErrorInfo { reason: reason.to_owned(), domain: DOMAIN.to_owned(), metadata };
    let detail =
        Any { type_url: type_url("google.rpc.ErrorInfo"), value: info.encode_to_vec().into() };
    Status { code: code as i32, message, details: vec![detail] }
}
