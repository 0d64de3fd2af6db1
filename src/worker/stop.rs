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

/// Why a handler ends without a response: it failed, parks the operation, or gives it back.
///
/// Every error turns into one by `?`: a [`tonic::Status`] with its code and details, any other as UNKNOWN.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Stop {
    pub(super) call: Box<Call>,
}

/// What the worker says for it; name and token are filled in when it does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    Fail(pb::FailOperationRequest),
    Release(pb::ReleaseLeaseRequest),
    Suspend(pb::SuspendOperationRequest),
}

impl Stop {
    /// The attempt failed. The operation's retry policy decides what follows: UNAVAILABLE is tried again, nothing else
    /// unless the policy says so.
    pub fn fail(code: Code, message: impl Display) -> Self {
        let error = rpc::Status {
            code: if code == Code::Ok { Code::Unknown } else { code } as i32,
            message: message.to_string(),
            details: Vec::new(),
        };
        Self::fail_with(error)
    }

    /// The attempt failed with that error, details included; at most 16 KiB.
    pub fn fail_with(error: rpc::Status) -> Self {
        let fail = pb::FailOperationRequest { error: Some(error), ..Default::default() };
        Self::with(Call::Fail(fail))
    }

    /// The work stopped because that was asked for; without a request to cancel it counts as a failed attempt.
    pub fn cancelled() -> Self {
        Self::fail(Code::Cancelled, "the worker stopped as asked")
    }

    /// Parks the operation until somebody resumes it, with or without input. Frees the slot; not an attempt. The reason is
    /// for people; at most 4 KiB.
    pub fn suspend(reason: impl Into<String>) -> Self {
        let suspend = pb::SuspendOperationRequest { reason: reason.into(), ..Default::default() };
        Self::with(Call::Suspend(suspend))
    }

    /// Gives the operation back to the queue, to be leased again after `delay`; not an attempt.
    pub fn release(delay: Duration) -> Self {
        let delay = prost_types::Duration::try_from(delay).ok();
        Self::with(Call::Release(pb::ReleaseLeaseRequest { delay, ..Default::default() }))
    }

    /// Leaves a checkpoint for whoever goes on; at most 256 KiB.
    pub fn checkpoint(self, checkpoint: &impl Pack) -> Self {
        self.checkpoint_any(checkpoint.pack())
    }

    /// The same with a message of any type.
    pub fn checkpoint_any(mut self, checkpoint: Any) -> Self {
        match &mut *self.call {
            Call::Fail(fail) => fail.checkpoint = Some(checkpoint),
            Call::Release(release) => release.checkpoint = Some(checkpoint),
            Call::Suspend(suspend) => suspend.checkpoint = Some(checkpoint),
        }
        self
    }

    /// Replaces the metadata, of the declared type; at most 64 KiB. Nothing where the operation is released.
    pub fn metadata(mut self, metadata: &impl Pack) -> Self {
        match &mut *self.call {
            Call::Fail(fail) => fail.metadata = Some(metadata.pack()),
            Call::Suspend(suspend) => suspend.metadata = Some(metadata.pack()),
            Call::Release(_) => {}
        }
        self
    }

    /// Resumes the operation by itself at that time. Nothing where it is not suspended.
    pub fn until(mut self, time: SystemTime) -> Self {
        if let Call::Suspend(suspend) = &mut *self.call {
            suspend.resume_time = Some(time.into());
        }
        self
    }

    /// Tries again while attempts are left, whatever the policy says of the code. Nothing where it did not fail.
    pub fn retry(self) -> Self {
        self.decided(RetryDecision::Retry)
    }

    /// Tries again after `delay`. Nothing where it did not fail.
    pub fn retry_after(self, delay: Duration) -> Self {
        let mut stop = self.decided(RetryDecision::Retry);
        if let Call::Fail(fail) = &mut *stop.call {
            fail.retry_delay = prost_types::Duration::try_from(delay).ok();
        }
        stop
    }

    /// Ends the operation with this error, whatever the policy says. Nothing where it did not fail.
    pub fn do_not_retry(self) -> Self {
        self.decided(RetryDecision::DoNotRetry)
    }

    /// Adds a detail to the error. Nothing where it did not fail.
    pub fn detail(mut self, detail: &impl Pack) -> Self {
        if let Call::Fail(pb::FailOperationRequest { error: Some(error), .. }) = &mut *self.call {
            error.details.push(detail.pack());
        }
        self
    }

    fn with(call: Call) -> Self {
        Self { call: Box::new(call) }
    }

    fn decided(mut self, decision: RetryDecision) -> Self {
        if let Call::Fail(fail) = &mut *self.call {
            fail.retry_decision = decision.into();
        }
        self
    }
}

/// For people and logs: no payloads.
impl fmt::Display for Stop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.call {
            Call::Fail(fail) => {
                let error = fail.error.as_ref();
                let code = error.map_or(Code::Unknown, |error| Code::from_i32(error.code));
                let message = error.map_or("", |error| error.message.as_str());
                write!(formatter, "failed with {code:?}: {message}")
            }
            Call::Release(_) => write!(formatter, "given back to the queue"),
            Call::Suspend(suspend) => write!(formatter, "suspended: {}", suspend.reason),
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
        if let Call::Fail(pb::FailOperationRequest { error: Some(error), .. }) = &mut *stop.call {
            error.details = details;
        }
        stop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(stop: Stop) -> rpc::Status {
        match *stop.call {
            Call::Fail(fail) => fail.error.expect("an error"),
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
    fn what_makes_no_sense_for_an_end_changes_nothing() {
        let released = Stop::release(Duration::from_secs(1));
        assert_eq!(released.clone().retry().until(SystemTime::UNIX_EPOCH), released);
        let parked = Stop::suspend("lunch");
        assert_eq!(parked.clone().do_not_retry().detail(&()), parked);
    }
}
