//! Conversions for the options of a start.

use std::collections::BTreeMap;

use super::fields::{duration, positive_duration, text, timestamp};
use crate::code::Code;
use crate::engine::{Error, Result};
use crate::limits::{
    MAX_ATTEMPTS, MAX_BACKOFF_MULTIPLIER, MAX_CONCURRENCY, MAX_CONCURRENCY_KEY_BYTES,
    MAX_LABEL_NAME_BYTES, MAX_LABEL_VALUE_BYTES, MAX_LABELS, MAX_PRIORITY, MAX_TEXT_BYTES,
};
use crate::operation::options::{Expiration, Options, RetryPolicy};
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::operation_options::MetadataPolicy;

/// Reads the options of a start; its callbacks are read beside them, with the request that carries it.
pub fn read(options: pb::OperationOptions) -> Result<Options> {
    use pb::operation_options::Expiration as Given;
    Ok(Options {
        priority: priority(options.priority)?,
        schedule_time: timestamp("options.schedule_time", options.schedule_time)?,
        attempt_timeout: positive_duration("options.attempt_timeout", options.attempt_timeout)?,
        deadline_time: timestamp("options.deadline_time", options.deadline_time)?,
        queue_timeout: positive_duration("options.queue_timeout", options.queue_timeout)?,
        cancel_grace: duration("options.cancel_grace", options.cancel_grace)?,
        retry_policy: options.retry_policy.map(retry_policy).transpose()?,
        concurrency: options.concurrency.map(concurrency).transpose()?,
        expiration: match options.expiration {
            Some(Given::ExpireTime(time)) => {
                timestamp("options.expire_time", Some(time))?.map(Expiration::At)
            }
            Some(Given::Ttl(ttl)) => duration("options.ttl", Some(ttl))?.map(Expiration::After),
            None => None,
        },
        callbacks: Vec::new(),
        labels: labels(options.labels)?,
        target: text("options.target", options.target, MAX_TEXT_BYTES)?,
        metadata_policy: MetadataPolicy::try_from(options.metadata_policy).map_err(|_| {
            let policy = options.metadata_policy;
            Error::field(
                "options.metadata_policy",
                format!("options.metadata_policy {policy} is not known"),
            )
        })?,
    })
}

fn priority(priority: i32) -> Result<i32> {
    if priority.unsigned_abs() <= MAX_PRIORITY.unsigned_abs() {
        return Ok(priority);
    }
    let message = format!(
        "options.priority is {priority}; it must be between -{MAX_PRIORITY} and {MAX_PRIORITY}"
    );
    Err(Error::field("options.priority", message))
}

fn concurrency(concurrency: pb::Concurrency) -> Result<pb::Concurrency> {
    const KEY: &str = "options.concurrency.key";
    if concurrency.key.is_empty() {
        return Err(Error::field(
            KEY,
            format!("{KEY} is empty; give the key that operations share"),
        ));
    }
    if concurrency.key.contains('\0') {
        return Err(Error::field(KEY, format!("{KEY} has a zero byte; leave it out")));
    }
    let policy = pb::concurrency::Policy::try_from(concurrency.policy).map_err(|_| {
        let policy = concurrency.policy;
        let message = format!("options.concurrency.policy {policy} is not known");
        Error::field("options.concurrency.policy", message)
    })?;
    if !(0..=MAX_CONCURRENCY).contains(&concurrency.limit) {
        let message = format!(
            "options.concurrency.limit is {}; it must be between 0 (the same as 1) and {MAX_CONCURRENCY}",
            concurrency.limit
        );
        return Err(Error::field("options.concurrency.limit", message));
    }
    let key = text(KEY, concurrency.key, MAX_CONCURRENCY_KEY_BYTES)?;
    Ok(pb::Concurrency { key, limit: concurrency.limit.max(1), policy: policy.into() })
}

fn retry_policy(policy: pb::RetryPolicy) -> Result<RetryPolicy> {
    let attempts = u32::try_from(policy.max_attempts).ok().filter(|most| *most <= MAX_ATTEMPTS);
    let max_attempts = attempts.ok_or_else(|| {
        let message = format!(
            "options.retry_policy.max_attempts is {}; it must be between 0 (the default) and {MAX_ATTEMPTS}",
            policy.max_attempts
        );
        Error::field("options.retry_policy.max_attempts", message)
    })?;
    let initial_backoff =
        positive_duration("options.retry_policy.initial_backoff", policy.initial_backoff)?;
    let max_backoff = positive_duration("options.retry_policy.max_backoff", policy.max_backoff)?;
    let multiplier = Some(policy.backoff_multiplier).filter(|multiplier| *multiplier != 0.0);
    if multiplier.is_some_and(|multiplier| !(1.0..=MAX_BACKOFF_MULTIPLIER).contains(&multiplier)) {
        let message = format!(
            "options.retry_policy.backoff_multiplier is {}; it must be between 1 and {MAX_BACKOFF_MULTIPLIER}",
            policy.backoff_multiplier
        );
        return Err(Error::field("options.retry_policy.backoff_multiplier", message));
    }
    let retryable_codes = policy.retryable_codes.into_iter().map(|number| match number {
        1..=16 => Ok(Code::from_number(number)),
        _ => Err(Error::field(
            "options.retry_policy.retryable_codes",
            format!("{number} is no code of an error; they go from 1 to 16"),
        )),
    });
    Ok(RetryPolicy {
        max_attempts: Some(max_attempts).filter(|attempts| *attempts > 0),
        initial_backoff,
        max_backoff,
        backoff_multiplier: multiplier,
        retryable_codes: retryable_codes.collect::<Result<_>>()?,
    })
}

fn labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    if labels.len() > MAX_LABELS {
        let message = format!(
            "options.labels has {} entries, at most {MAX_LABELS} are allowed",
            labels.len()
        );
        return Err(Error::field("options.labels", message).with("limit", MAX_LABELS));
    }
    for (key, value) in &labels {
        if key.is_empty() || key.len() > MAX_LABEL_NAME_BYTES || value.len() > MAX_LABEL_VALUE_BYTES
        {
            let message = format!(
                "options.labels: a key has 1 to {MAX_LABEL_NAME_BYTES} bytes and a value at most {MAX_LABEL_VALUE_BYTES}; {} and {} were found",
                key.len(),
                value.len()
            );
            return Err(Error::field("options.labels", message));
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_shown_as_they_were_given_and_times_in_microseconds() {
        let second = Some(prost_types::Duration { seconds: 1, nanos: 5 });
        let time = |nanos| Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos });
        let given = |nanos| pb::OperationOptions {
            priority: -7,
            schedule_time: time(nanos),
            attempt_timeout: second,
            deadline_time: time(nanos),
            queue_timeout: second,
            cancel_grace: second,
            retry_policy: Some(pb::RetryPolicy {
                max_attempts: 3,
                initial_backoff: second,
                max_backoff: second,
                backoff_multiplier: 1.5,
                retryable_codes: vec![4, 13],
            }),
            expiration: time(nanos).map(pb::operation_options::Expiration::ExpireTime),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            target: "projects/p".to_owned(),
            metadata_policy: MetadataPolicy::None.into(),
            ..pb::OperationOptions::default()
        };
        let shown = read(given(123_456_789)).expect("options").published();
        assert_eq!(shown, given(123_456_000));
        let unset = pb::OperationOptions::default;
        assert_eq!(read(unset()).expect("options").published(), unset());
        let empty = || pb::OperationOptions { retry_policy: Some(<_>::default()), ..unset() };
        assert_eq!(read(empty()).expect("options").published(), empty());
    }
}
