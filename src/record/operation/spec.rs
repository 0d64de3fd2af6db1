//! What the producer asked for, as it is stored.

use bytes::Bytes;

use super::payload;
use crate::operation::Spec;
use crate::operation::lease::Fingerprint;
use crate::operation::name::Queue;
use crate::proto::longhaul::store::v1 as stored;
use crate::proto::longhaul::v1 as pb;

pub(super) fn encode(spec: &Spec) -> stored::Spec {
    let fingerprint = (spec.fingerprint != Fingerprint::default())
        .then(|| Bytes::copy_from_slice(&spec.fingerprint));
    stored::Spec {
        queue: spec.queue.as_str().to_owned(),
        method: spec.method.clone(),
        metadata_type: spec.metadata_type.clone(),
        response_type: spec.response_type.clone(),
        request: spec.request.as_ref().map(payload::encode),
        options: (spec.options != pb::OperationOptions::default())
            .then(|| encode_options(&spec.options)),
        server_metadata: spec.server_metadata,
        request_id: spec.request_id.clone(),
        fingerprint: fingerprint.unwrap_or_default(),
        trace_parent: spec.trace_parent.clone(),
    }
}

pub(super) fn decode(stored: stored::Spec) -> Option<Spec> {
    Some(Spec {
        queue: Queue::parse(&stored.queue).ok()?,
        method: stored.method,
        metadata_type: stored.metadata_type,
        response_type: stored.response_type,
        request: payload::decode(stored.request)?,
        options: stored.options.map(decode_options).unwrap_or_default(),
        server_metadata: stored.server_metadata,
        request_id: stored.request_id,
        fingerprint: decode_fingerprint(&stored.fingerprint)?,
        trace_parent: stored.trace_parent,
    })
}

/// Without a request id nothing replays the start, and there is no fingerprint.
pub(super) fn decode_fingerprint(stored: &Bytes) -> Option<Fingerprint> {
    if stored.is_empty() { Some(Fingerprint::default()) } else { stored.as_ref().try_into().ok() }
}

fn encode_options(options: &pb::OperationOptions) -> stored::Options {
    use pb::operation_options::Expiration;
    use stored::options::Expiration as Stored;
    stored::Options {
        priority: options.priority,
        schedule_time: options.schedule_time,
        attempt_timeout: options.attempt_timeout,
        deadline_time: options.deadline_time,
        queue_timeout: options.queue_timeout,
        cancel_grace: options.cancel_grace,
        retry_policy: options.retry_policy.as_ref().map(|policy| stored::RetryPolicy {
            max_attempts: policy.max_attempts,
            initial_backoff: policy.initial_backoff,
            max_backoff: policy.max_backoff,
            backoff_multiplier: policy.backoff_multiplier,
            retryable_codes: policy.retryable_codes.clone(),
        }),
        expiration: options.expiration.map(|expiration| match expiration {
            Expiration::ExpireTime(time) => Stored::ExpireTime(time),
            Expiration::Ttl(ttl) => Stored::Ttl(ttl),
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

fn decode_options(stored: stored::Options) -> pb::OperationOptions {
    use pb::operation_options::Expiration;
    use stored::options::Expiration as Stored;
    pb::OperationOptions {
        priority: stored.priority,
        schedule_time: stored.schedule_time,
        attempt_timeout: stored.attempt_timeout,
        deadline_time: stored.deadline_time,
        queue_timeout: stored.queue_timeout,
        cancel_grace: stored.cancel_grace,
        retry_policy: stored.retry_policy.map(|policy| pb::RetryPolicy {
            max_attempts: policy.max_attempts,
            initial_backoff: policy.initial_backoff,
            max_backoff: policy.max_backoff,
            backoff_multiplier: policy.backoff_multiplier,
            retryable_codes: policy.retryable_codes,
        }),
        concurrency: stored.concurrency.map(|concurrency| pb::Concurrency {
            key: concurrency.key,
            limit: concurrency.limit,
            policy: concurrency.policy as i32,
        }),
        expiration: stored.expiration.map(|expiration| match expiration {
            Stored::ExpireTime(time) => Expiration::ExpireTime(time),
            Stored::Ttl(ttl) => Expiration::Ttl(ttl),
        }),
        callbacks: stored.callbacks.into_iter().map(decode_callback).collect(),
        labels: stored.labels,
        target: stored.target,
        metadata_policy: stored.metadata_policy as i32,
    }
}

fn encode_callback(callback: &pb::Callback) -> stored::Callback {
    stored::Callback {
        uri: callback.uri.clone(),
        events: callback.events.iter().map(|event| *event as u32).collect(),
        endpoint: callback.endpoint.clone(),
        format: callback.format as u32,
        include_result: callback.include_result,
        headers: callback.headers.clone(),
    }
}

fn decode_callback(stored: stored::Callback) -> pb::Callback {
    pb::Callback {
        uri: stored.uri,
        events: stored.events.into_iter().map(|event| event as i32).collect(),
        endpoint: stored.endpoint,
        format: stored.format as i32,
        include_result: stored.include_result,
        headers: stored.headers,
    }
}
