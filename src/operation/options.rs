//! Options of an operation, in the types that decisions are made with.

use std::collections::BTreeMap;
use std::time::Duration;

use super::callbacks;
use crate::clock::Timestamp;
use crate::code::Code;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::operation_options::MetadataPolicy;

/// The options of an operation, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Higher goes first.
    pub priority: i32,
    /// No worker gets it earlier.
    pub schedule_time: Option<Timestamp>,
    /// An attempt that lasts longer has failed.
    pub attempt_timeout: Option<Duration>,
    /// It has failed if it is not done by then.
    pub deadline_time: Option<Timestamp>,
    /// It has failed if no worker takes it within this time.
    pub queue_timeout: Option<Duration>,
    /// How long its worker may take to stop.
    pub cancel_grace: Option<Duration>,
    /// Whether and when there is another attempt.
    pub retry_policy: Option<RetryPolicy>,
    /// How many operations with the same key may run at the same time.
    pub concurrency: Option<pb::Concurrency>,
    /// How long it is kept once it is done.
    pub expiration: Option<Expiration>,
    /// The calls by HTTP on its events, evaluated at its start.
    pub callbacks: Vec<pb::Callback>,
    /// For people and filters.
    pub labels: BTreeMap<String, String>,
    /// The resource that it works on.
    pub target: String,
    /// The writer of the published metadata.
    pub metadata_policy: MetadataPolicy,
}

/// When there is another attempt. Unset fields have a default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RetryPolicy {
    /// How many attempts there may be.
    pub max_attempts: Option<u32>,
    /// The first pause.
    pub initial_backoff: Option<Duration>,
    /// The longest pause.
    pub max_backoff: Option<Duration>,
    /// The factor by which a pause grows.
    pub backoff_multiplier: Option<f64>,
    /// Errors after which there is another attempt, besides UNAVAILABLE.
    pub retryable_codes: Vec<Code>,
}

/// How long an operation is kept once it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    /// Until then.
    At(Timestamp),
    /// This long after its end.
    After(Duration),
}

impl Options {
    /// About how many bytes the texts take that go to a worker.
    pub fn text_bytes(&self) -> usize {
        const FRAME: usize = 8;
        let labels = self.labels.iter().map(|(key, value)| key.len() + value.len() + FRAME);
        self.target.len() + labels.sum::<usize>()
    }

    /// The options as callers see them. Fields that are only for input are left out: the expire time follows from `ttl`.
    pub fn published(&self) -> pb::OperationOptions {
        use pb::operation_options::Expiration as Published;
        let expiration = match self.expiration {
            Some(Expiration::At(time)) => Some(Published::ExpireTime(time.into())),
            Some(Expiration::After(_)) | None => None,
        };
        pb::OperationOptions {
            priority: self.priority,
            schedule_time: self.schedule_time.map(Into::into),
            attempt_timeout: published(self.attempt_timeout),
            deadline_time: self.deadline_time.map(Into::into),
            queue_timeout: published(self.queue_timeout),
            cancel_grace: published(self.cancel_grace),
            retry_policy: self.retry_policy.as_ref().map(RetryPolicy::published),
            concurrency: self.concurrency.clone(),
            expiration,
            callbacks: callbacks::published(&self.callbacks),
            labels: self.labels.clone(),
            target: self.target.clone(),
            metadata_policy: self.metadata_policy.into(),
        }
    }
}

impl RetryPolicy {
    fn published(&self) -> pb::RetryPolicy {
        pb::RetryPolicy {
            max_attempts: self.max_attempts.unwrap_or_default() as i32,
            initial_backoff: published(self.initial_backoff),
            max_backoff: published(self.max_backoff),
            backoff_multiplier: self.backoff_multiplier.unwrap_or_default(),
            retryable_codes: self.retryable_codes.iter().map(|code| *code as i32).collect(),
        }
    }
}

fn published(duration: Option<Duration>) -> Option<prost_types::Duration> {
    duration.and_then(|duration| prost_types::Duration::try_from(duration).ok())
}
