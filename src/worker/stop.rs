//! How an attempt ends without a response.

use std::any::Any as Dynamic;
use std::error::Error;
use std::fmt::{self, Display};
use std::time::{Duration, SystemTime};

use tonic::Code;

use super::payload::Pack;
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::fail_operation_request::RetryDecision;

/// Why a handler ends without a response: it fails, suspends or releases the operation.
///
/// Every error turns into one by `?`: a [`tonic::Status`] with its code and details, any other as UNKNOWN.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Stop {
    pub(super) request: Box<StopRequest>,
}

/// The call that ends the lease. Name and token are added when it is sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StopRequest {
    Fail(pb::FailOperationRequest),
    Release(pb::ReleaseLeaseRequest),
    Suspend(pb::SuspendOperationRequest),
}

impl Stop {
    /// Fails the attempt. The operation's retry policy decides what follows: by default only UNAVAILABLE is retried.
    pub fn fail(code: Code, message: impl Display) -> Self {
        let error = rpc::Status {
            code: if code == Code::Ok { Code::Unknown } else { code } as i32,
            message: message.to_string(),
            details: Vec::new(),
        };
        Self::fail_with(error)
    }

    /// Fails the attempt with this error and its details; at most 16 KiB.
    pub fn fail_with(error: rpc::Status) -> Self {
        let fail = pb::FailOperationRequest { error: Some(error), ..Default::default() };
        Self::with(StopRequest::Fail(fail))
    }

    /// Confirms a request to cancel. Without such a request it counts as a failed attempt.
    pub fn cancelled() -> Self {
        Self::fail(Code::Cancelled, "the worker stopped as asked")
    }

    /// Suspends the operation until a caller resumes it, with or without input. Frees the slot, and does not count as an
    /// attempt. The reason is for people; at most 4 KiB.
    pub fn suspend(reason: impl Into<String>) -> Self {
        let suspend = pb::SuspendOperationRequest { reason: reason.into(), ..Default::default() };
        Self::with(StopRequest::Suspend(suspend))
    }

    /// Returns the operation to the queue, to be leased again after `delay`. Does not count as an attempt.
    pub fn release(delay: Duration) -> Self {
        let delay = prost_types::Duration::try_from(delay).ok();
        Self::with(StopRequest::Release(pb::ReleaseLeaseRequest { delay, ..Default::default() }))
    }

    /// Stores a checkpoint for the next attempt; at most 256 KiB.
    pub fn checkpoint(self, checkpoint: &impl Pack) -> Self {
        self.checkpoint_any(checkpoint.pack())
    }

    /// The same with a message of any type.
    pub fn checkpoint_any(mut self, checkpoint: Any) -> Self {
        match &mut *self.request {
            StopRequest::Fail(fail) => fail.checkpoint = Some(checkpoint),
            StopRequest::Release(release) => release.checkpoint = Some(checkpoint),
            StopRequest::Suspend(suspend) => suspend.checkpoint = Some(checkpoint),
        }
        self
    }

    /// Replaces the metadata, of the declared type; at most 64 KiB. No effect on a release.
    pub fn metadata(mut self, metadata: &impl Pack) -> Self {
        match &mut *self.request {
            StopRequest::Fail(fail) => fail.metadata = Some(metadata.pack()),
            StopRequest::Suspend(suspend) => suspend.metadata = Some(metadata.pack()),
            StopRequest::Release(_) => {}
        }
        self
    }

    /// Resumes the operation at this time without a call. Only for a suspension.
    pub fn until(mut self, time: SystemTime) -> Self {
        if let StopRequest::Suspend(suspend) = &mut *self.request {
            suspend.resume_time = Some(time.into());
        }
        self
    }

    /// Retries while attempts are left, also if the policy does not list the code. Only for a failure.
    pub fn retry(self) -> Self {
        self.decided(RetryDecision::Retry)
    }

    /// Retries after `delay`. Only for a failure.
    pub fn retry_after(self, delay: Duration) -> Self {
        let mut stop = self.decided(RetryDecision::Retry);
        if let StopRequest::Fail(fail) = &mut *stop.request {
            fail.retry_delay = prost_types::Duration::try_from(delay).ok();
        }
        stop
    }

    /// Ends the operation with this error, also if the policy would retry. Only for a failure.
    pub fn do_not_retry(self) -> Self {
        self.decided(RetryDecision::DoNotRetry)
    }

    /// Adds a detail to the error. Only for a failure.
    pub fn detail(mut self, detail: &impl Pack) -> Self {
        if let StopRequest::Fail(pb::FailOperationRequest { error: Some(error), .. }) =
            &mut *self.request
        {
            error.details.push(detail.pack());
        }
        self
    }

    fn with(request: StopRequest) -> Self {
        Self { request: Box::new(request) }
    }

    fn decided(mut self, decision: RetryDecision) -> Self {
        if let StopRequest::Fail(fail) = &mut *self.request {
            fail.retry_decision = decision.into();
        }
        self
    }
}

/// For people and logs: no payloads.
impl fmt::Display for Stop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.request {
            StopRequest::Fail(fail) => {
                let error = fail.error.as_ref();
                let code = error.map_or(Code::Unknown, |error| Code::from_i32(error.code));
                let message = error.map_or("", |error| error.message.as_str());
                write!(formatter, "failed with {code:?}: {message}")
            }
            StopRequest::Release(_) => write!(formatter, "released to the queue"),
            StopRequest::Suspend(suspend) => write!(formatter, "suspended: {}", suspend.reason),
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Stop {
    fn from(error: E) -> Self {
        if let Some(status) = (&error as &dyn Dynamic).downcast_ref::<tonic::Status>() {
            return Self::of_status(status);
        }
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            message = format!("{message}: {next}");
            cause = next.source();
        }
        Self::fail(Code::Unknown, message)
    }
}

impl Stop {
    fn of_status(status: &tonic::Status) -> Self {
        let details = <rpc::Status as prost::Message>::decode(status.details());
        let details = details.map(|whole| whole.details).unwrap_or_default();
        let mut stop = Self::fail(status.code(), status.message());
        if let StopRequest::Fail(pb::FailOperationRequest { error: Some(error), .. }) =
            &mut *stop.request
        {
            error.details = details;
        }
        stop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(stop: Stop) -> rpc::Status {
        match *stop.request {
            StopRequest::Fail(fail) => fail.error.expect("an error"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_error_becomes_a_failure_with_its_causes_and_a_status_keeps_its_code() {
        let broken: Stop = std::io::Error::other("the disk is full").into();
        assert_eq!(error(broken).code, Code::Unknown as i32);
        let refused: Stop = tonic::Status::not_found("no such shelf").into();
        let refused = error(refused);
        assert_eq!((refused.code, &refused.message[..]), (5, "no such shelf"));
        assert_eq!(Stop::fail(Code::NotFound, "x").to_string(), "failed with NotFound: x");
        let nonsense = error(Stop::fail(Code::Ok, "well"));
        assert_eq!(nonsense.code, Code::Unknown as i32, "an error has a code");
    }

    #[test]
    fn an_option_of_another_kind_of_end_has_no_effect() {
        let released = Stop::release(Duration::from_secs(1));
        assert_eq!(released.clone().retry().until(SystemTime::UNIX_EPOCH), released);
        let parked = Stop::suspend("lunch");
        assert_eq!(parked.clone().do_not_retry().detail(&()), parked);
    }
}
