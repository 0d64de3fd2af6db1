//! The stored form of a start's fields.

use std::time::Duration;

use bytes::Bytes;

use super::payload;
use crate::clock::{Timestamp, length};
use crate::code::Code;
use crate::operation::lease::Fingerprint;
use crate::operation::name::{Name, Queue};
use crate::operation::options::{Expiration, Options, RetryPolicy};
use crate::operation::{OfJob, Spec, Trigger};
use crate::proto::longhaul::store::v1 as stored;
use crate::proto::longhaul::v1 as pb;

pub(in crate::record) fn encode(spec: &Spec) -> stored::Spec {
    let fingerprint = (spec.fingerprint != Fingerprint::default())
        .then(|| Bytes::copy_from_slice(&spec.fingerprint));
    stored::Spec {
        queue: spec.queue.as_str().to_owned(),
        method: spec.method.clone(),
        metadata_type: spec.metadata_type.clone(),
        response_type: spec.response_type.clone(),
        request: spec.request.as_ref().map(payload::encode),
        options: (spec.options != Options::default()).then(|| encode_options(&spec.options)),
        server_metadata: spec.server_metadata,
        request_id: spec.request_id.clone(),
        fingerprint: fingerprint.unwrap_or_default(),
        trace_parent: spec.trace_parent.clone(),
        of_job: spec.of_job.as_ref().map(encode_of_job),
        rerun_of: spec.rerun_of.as_ref().map(ToString::to_string).unwrap_or_default(),
        aging_interval: spec.aging_interval.unwrap_or_default().as_micros() as u64,
        caller: spec.caller.clone(),
    }
}

pub(in crate::record) fn decode(stored: stored::Spec) -> Option<Spec> {
    Some(Spec {
        queue: Queue::stored(&stored.queue)?,
        method: stored.method,
        metadata_type: stored.metadata_type,
        response_type: stored.response_type,
        request: payload::decode(stored.request)?,
        options: stored.options.map(decode_options).unwrap_or_default(),
        server_metadata: stored.server_metadata,
        request_id: stored.request_id,
        fingerprint: decode_fingerprint(&stored.fingerprint)?,
        trace_parent: stored.trace_parent,
        aging_interval: Some(Duration::from_micros(stored.aging_interval))
            .filter(|interval| !interval.is_zero()),
        caller: stored.caller,
        of_job: match stored.of_job {
            Some(run) => Some(decode_of_job(run)?),
            None => None,
        },
        rerun_of: match stored.rerun_of.as_str() {
            "" => None,
            name => Some(Name::parse(name).ok()?),
        },
    })
}

fn encode_of_job(run: &OfJob) -> stored::OfJob {
    stored::OfJob {
        job: run.job.clone(),
        execution: run.execution.clone(),
        trigger: u32::from(run.trigger as u8),
        tick: run.tick.map_or(0, Timestamp::as_micros),
        queued: run.queued,
    }
}

fn decode_of_job(stored: stored::OfJob) -> Option<OfJob> {
    Some(OfJob {
        job: stored.job,
        execution: stored.execution,
        trigger: Trigger::from_number(stored.trigger)?,
        tick: (stored.tick > 0).then(|| Timestamp::from_micros(stored.tick)),
        queued: stored.queued,
    })
}

/// Without a request id a start cannot be replayed, and there is no fingerprint.
pub(super) fn decode_fingerprint(stored: &Bytes) -> Option<Fingerprint> {
    if stored.is_empty() { Some(Fingerprint::default()) } else { stored.as_ref().try_into().ok() }
}

fn encode_options(options: &Options) -> stored::Options {
    use stored::options::Expiration as Stored;
    stored::Options {
        priority: options.priority,
        schedule_time: options.schedule_time.map(Into::into),
        attempt_timeout: encode_duration(options.attempt_timeout),
        deadline_time: options.deadline_time.map(Into::into),
        queue_timeout: encode_duration(options.queue_timeout),
        cancel_grace: encode_duration(options.cancel_grace),
        retry_policy: options.retry_policy.as_ref().map(encode_retry_policy),
        expiration: options.expiration.and_then(|expiration| match expiration {
            Expiration::At(time) => Some(Stored::ExpireTime(time.into())),
            Expiration::After(ttl) => encode_duration(Some(ttl)).map(Stored::Ttl),
        }),
        labels: options.labels.clone(),
        target: options.target.clone(),
        metadata_policy: options.metadata_policy as u32,
        concurrency: options.concurrency.as_ref().map(|concurrency| stored::Concurrency {
            key: concurrency.key.clone(),
            limit: concurrency.limit,
            policy: concurrency.policy as u32,
        }),
        callbacks: options.callbacks.iter().map(encode_callback).collect(),
    }
}

fn decode_options(stored: stored::Options) -> Options {
    use stored::options::Expiration as Stored;
    let time = |time: Option<prost_types::Timestamp>| time.as_ref().map(Timestamp::from);
    Options {
        priority: stored.priority,
        schedule_time: time(stored.schedule_time),
        attempt_timeout: decode_duration(stored.attempt_timeout),
        deadline_time: time(stored.deadline_time),
        queue_timeout: decode_duration(stored.queue_timeout),
        cancel_grace: decode_duration(stored.cancel_grace),
        retry_policy: stored.retry_policy.map(decode_retry_policy),
        concurrency: stored.concurrency.map(|concurrency| pb::Concurrency {
            key: concurrency.key,
            limit: concurrency.limit,
            policy: concurrency.policy as i32,
        }),
        expiration: stored.expiration.and_then(|expiration| match expiration {
            Stored::ExpireTime(time) => Some(Expiration::At((&time).into())),
            Stored::Ttl(ttl) => length(&ttl).map(Expiration::After),
        }),
        callbacks: stored.callbacks.into_iter().map(decode_callback).collect(),
        labels: stored.labels,
        target: stored.target,
        // A newer version may know more of them; the stored value stays unchanged.
        metadata_policy: (stored.metadata_policy as i32).try_into().unwrap_or_default(),
    }
}

fn encode_retry_policy(policy: &RetryPolicy) -> stored::RetryPolicy {
    stored::RetryPolicy {
        max_attempts: policy.max_attempts.unwrap_or_default() as i32,
        initial_backoff: encode_duration(policy.initial_backoff),
        max_backoff: encode_duration(policy.max_backoff),
        backoff_multiplier: policy.backoff_multiplier.unwrap_or_default(),
        retryable_codes: policy.retryable_codes.iter().map(|code| *code as i32).collect(),
    }
}

fn decode_retry_policy(stored: stored::RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        max_attempts: u32::try_from(stored.max_attempts).ok().filter(|attempts| *attempts > 0),
        initial_backoff: decode_duration(stored.initial_backoff),
        max_backoff: decode_duration(stored.max_backoff),
        backoff_multiplier: Some(stored.backoff_multiplier).filter(|multiplier| *multiplier != 0.0),
        retryable_codes: stored.retryable_codes.into_iter().map(Code::from_number).collect(),
    }
}

fn encode_duration(duration: Option<Duration>) -> Option<prost_types::Duration> {
    duration.and_then(|duration| duration.try_into().ok())
}

fn decode_duration(stored: Option<prost_types::Duration>) -> Option<Duration> {
    stored.as_ref().and_then(length)
}

pub(in crate::record) fn encode_callback(callback: &pb::Callback) -> stored::Callback {
    stored::Callback {
        uri: callback.uri.clone(),
        events: callback.events.iter().map(|event| *event as u32).collect(),
        endpoint: callback.endpoint.clone(),
        format: callback.format as u32,
        include_result: callback.include_result,
        headers: callback.headers.clone(),
    }
}

pub(in crate::record) fn decode_callback(stored: stored::Callback) -> pb::Callback {
    pb::Callback {
        uri: stored.uri,
        events: stored.events.into_iter().map(|event| event as i32).collect(),
        endpoint: stored.endpoint,
        format: stored.format as i32,
        include_result: stored.include_result,
        headers: stored.headers,
    }
}
