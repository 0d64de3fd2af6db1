//! Options of operations, for those that are started and for the runs of jobs.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::call_args::{EventArg, FormatArg};
use crate::proto::longhaul::v1::callback::Format;
use crate::proto::longhaul::v1::concurrency::Policy;
use crate::proto::longhaul::v1::operation_options::Expiration;
use crate::proto::longhaul::v1::{Callback, Concurrency, OperationOptions, RetryPolicy};

/// Arguments named as the fields of `OperationOptions`.
#[derive(Debug, Args)]
pub(super) struct OptionArgs {
    /// A label; may be given several times
    #[arg(long = "labels", alias = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    labels: Vec<(String, String)>,
    /// How long the operation is kept after it is done, such as 12h or 30d; at least an hour
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// From -100 to 100; operations with a higher priority come first [default: 0]
    #[arg(long, allow_negative_numbers = true, value_name = "NUMBER")]
    priority: Option<i32>,
    /// How long one attempt may take
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    attempt_timeout: Option<Duration>,
    /// How long the operation may wait for its first worker
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    queue_timeout: Option<Duration>,
    /// How long the worker may take to stop after a cancel
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    cancel_grace: Option<Duration>,
    /// Maximum number of attempts
    #[arg(long, value_name = "NUMBER")]
    max_attempts: Option<i32>,
    /// Operations with the same key and parent are limited in how many run at the same time
    #[arg(long, value_name = "KEY")]
    concurrency_key: Option<String>,
    /// How many operations with the key may run at the same time; 1 if not given
    #[arg(
        long,
        value_name = "NUMBER",
        requires = "concurrency_key",
        allow_negative_numbers = true
    )]
    concurrency_limit: Option<i32>,
    /// What happens beyond the limit: the operation waits, is refused, or ends the oldest one
    #[arg(long, value_enum, value_name = "POLICY", requires = "concurrency_key")]
    concurrency_policy: Option<ConcurrencyPolicy>,
    #[command(flatten)]
    callback: CallbackArgs,
}

/// Callbacks.
#[derive(Debug, Args)]
struct CallbackArgs {
    /// A URI to call on events of the operation; may be given several times
    #[arg(long = "callback", value_name = "URI")]
    callbacks: Vec<String>,
    /// A webhook endpoint to call instead of a URI; may be given several times
    #[arg(long = "callback-endpoint", value_name = "NAME")]
    callback_endpoints: Vec<String>,
    /// The events that cause these calls [default: done]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "EVENTS")]
    callback_events: Vec<EventArg>,
    /// Format of the calls to URIs [default: standard-webhook]
    #[arg(long, value_enum, value_name = "FORMAT")]
    callback_format: Option<FormatArg>,
    /// Send the result to the URIs and not only the state
    #[arg(long)]
    callback_result: bool,
}

/// What happens to an operation beyond the limit of its concurrency key.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ConcurrencyPolicy {
    Queue,
    Reject,
    Preempt,
}

impl OptionArgs {
    pub(super) fn options(&self) -> OperationOptions {
        OperationOptions {
            priority: self.priority.unwrap_or_default(),
            attempt_timeout: self.attempt_timeout.map(duration),
            queue_timeout: self.queue_timeout.map(duration),
            cancel_grace: self.cancel_grace.map(duration),
            retry_policy: self
                .max_attempts
                .map(|max_attempts| RetryPolicy { max_attempts, ..RetryPolicy::default() }),
            concurrency: self.concurrency(),
            expiration: self.ttl.map(duration).map(Expiration::Ttl),
            callbacks: self.callback.callbacks(),
            labels: self.labels.iter().cloned().collect(),
            ..OperationOptions::default()
        }
    }

    /// The fields of the options, and whether they were given.
    pub(super) const fn given(&self) -> [(&'static str, bool); 9] {
        [
            ("priority", self.priority.is_some()),
            ("attempt_timeout", self.attempt_timeout.is_some()),
            ("queue_timeout", self.queue_timeout.is_some()),
            ("cancel_grace", self.cancel_grace.is_some()),
            ("retry_policy", self.max_attempts.is_some()),
            ("concurrency", self.concurrency_key.is_some()),
            ("ttl", self.ttl.is_some()),
            ("callbacks", self.callback.is_given()),
            ("labels", !self.labels.is_empty()),
        ]
    }

    fn concurrency(&self) -> Option<Concurrency> {
        let policy = self.concurrency_policy.map_or(Policy::Unspecified, |policy| match policy {
            ConcurrencyPolicy::Queue => Policy::Queue,
            ConcurrencyPolicy::Reject => Policy::Reject,
            ConcurrencyPolicy::Preempt => Policy::Preempt,
        });
        self.concurrency_key.clone().map(|key| Concurrency {
            key,
            limit: self.concurrency_limit.unwrap_or_default(),
            policy: policy.into(),
        })
    }
}

impl CallbackArgs {
    const fn is_given(&self) -> bool {
        !(self.callbacks.is_empty() && self.callback_endpoints.is_empty())
    }

    fn callbacks(&self) -> Vec<Callback> {
        let events: Vec<i32> =
            self.callback_events.iter().map(|event| event.event().into()).collect();
        let format = self.callback_format.map_or(Format::Unspecified, FormatArg::format).into();
        let to_uri = |uri: &String| Callback {
            uri: uri.clone(),
            events: events.clone(),
            format,
            include_result: self.callback_result,
            ..Callback::default()
        };
        let to_endpoint = |endpoint: &String| Callback {
            endpoint: endpoint.clone(),
            events: events.clone(),
            ..Callback::default()
        };
        let to_endpoints = self.callback_endpoints.iter().map(to_endpoint);
        self.callbacks.iter().map(to_uri).chain(to_endpoints).collect()
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The server refuses a duration that protobuf cannot hold as too long.
pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    let longest = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
    prost_types::Duration::try_from(duration).unwrap_or(longest)
}
