//! `longhaul start`.

use std::io::Read;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::call_args::{EventArg, FormatArg};
use super::connection::Connection;
use super::exit::Failure;
use super::follow::Follower;
use super::output;
use super::types::PayloadTypes;
use crate::proto::longhaul::v1::callback::Format;
use crate::proto::longhaul::v1::operation_options::Expiration;
use crate::proto::longhaul::v1::{
    Callback, Concurrency, OperationOptions, RetryPolicy, StartOperationRequest,
};
use crate::types::Registry;

/// Arguments of `start`, named as the fields of `StartOperationRequest` and its options.
#[derive(Debug, Args)]
pub(super) struct StartArgs {
    #[command(flatten)]
    connection: Connection,
    /// The queue from which workers lease it
    #[arg(long, default_value = "default", value_name = "QUEUE")]
    queue: String,
    /// Parent resource, such as projects/P
    #[arg(long, default_value = "", hide_default_value = true, value_name = "PARENT")]
    parent: String,
    /// Id of the operation; the server makes one if this is not given
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    operation_id: String,
    /// Method, which tells the worker what to do
    #[arg(long, default_value = "", hide_default_value = true, value_name = "METHOD")]
    method: String,
    /// Request for the worker: JSON, @FILE, or - for standard input. An object is a Struct unless it has an "@type"
    #[arg(long, value_name = "JSON", allow_negative_numbers = true)]
    request: Option<String>,
    /// Full name of the metadata's type
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TYPE")]
    metadata_type: String,
    /// Full name of the response's type
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TYPE")]
    response_type: String,
    /// A label; may be given several times
    #[arg(long = "labels", alias = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    labels: Vec<(String, String)>,
    /// The same request id starts the operation only once
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    request_id: String,
    /// How long the operation is kept after it is done, such as 12h or 30d; at least an hour
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// From -100 to 100; operations with a higher priority come first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "NUMBER")]
    priority: i32,
    /// Do not run before this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    schedule_time: Option<prost_types::Timestamp>,
    /// Fail the operation if it is not done by this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    deadline_time: Option<prost_types::Timestamp>,
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
    /// Name of the resource that the operation works on
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    target: String,
    #[command(flatten)]
    callback: CallbackArgs,
    /// Check the request without starting the operation
    #[arg(long)]
    validate_only: bool,
    /// Wait until the operation is done
    #[arg(long, conflicts_with = "watch")]
    wait: bool,
    /// Show progress until the operation is done
    #[arg(long)]
    watch: bool,
}

/// The callbacks of a start.
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

impl StartArgs {
    pub(super) fn server(&self) -> &str {
        self.connection.server()
    }
}

impl CallbackArgs {
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

pub(super) async fn run(args: StartArgs) -> Result<(), Failure> {
    let registry = args.connection.types()?;
    let (connection, wait, watch, validate) =
        (args.connection.clone(), args.wait, args.watch, args.validate_only);
    let request = request(args, &registry)?;
    let client = connection.connect().await?;
    let operation = client.start_operation(request).await?;
    if connection.wants_json() && !wait && !watch {
        let types = PayloadTypes::new(&client, registry);
        output::json(&types.of(&operation).await.operation(&operation));
        return Ok(());
    }
    if !connection.wants_json() {
        output::line(&operation.name);
    }
    if validate || !(wait || watch) {
        return Ok(());
    }
    let follower = Follower::new(client, &connection, vec![operation.name])?;
    follower.with_steps(watch).follow().await
}

fn request(args: StartArgs, registry: &Registry) -> Result<StartOperationRequest, Failure> {
    let payload = args
        .request
        .as_deref()
        .map(|text| read_payload(registry, "--request", text))
        .transpose()?;
    // The server refuses a duration that protobuf cannot hold as too long.
    let duration = |duration: Option<Duration>| {
        let longest = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
        duration.map(|duration| prost_types::Duration::try_from(duration).unwrap_or(longest))
    };
    let concurrency = concurrency(&args);
    let options = OperationOptions {
        priority: args.priority,
        schedule_time: args.schedule_time,
        deadline_time: args.deadline_time,
        attempt_timeout: duration(args.attempt_timeout),
        queue_timeout: duration(args.queue_timeout),
        cancel_grace: duration(args.cancel_grace),
        retry_policy: args
            .max_attempts
            .map(|max_attempts| RetryPolicy { max_attempts, ..RetryPolicy::default() }),
        concurrency,
        expiration: duration(args.ttl).map(Expiration::Ttl),
        callbacks: args.callback.callbacks(),
        labels: args.labels.into_iter().collect(),
        target: args.target,
        ..OperationOptions::default()
    };
    Ok(StartOperationRequest {
        parent: args.parent,
        operation_id: args.operation_id,
        queue: args.queue,
        method: args.method,
        request: payload,
        metadata_type: args.metadata_type,
        response_type: args.response_type,
        initial_metadata: None,
        options: Some(options),
        validate_only: args.validate_only,
        request_id: args.request_id,
    })
}

fn concurrency(args: &StartArgs) -> Option<Concurrency> {
    use crate::proto::longhaul::v1::concurrency::Policy;
    let policy = args.concurrency_policy.map_or(Policy::Unspecified, |policy| match policy {
        ConcurrencyPolicy::Queue => Policy::Queue,
        ConcurrencyPolicy::Reject => Policy::Reject,
        ConcurrencyPolicy::Preempt => Policy::Preempt,
    });
    args.concurrency_key.clone().map(|key| Concurrency {
        key,
        limit: args.concurrency_limit.unwrap_or_default(),
        policy: policy.into(),
    })
}

/// The payload of a flag: JSON, `@FILE`, or `-` for standard input.
pub(super) fn read_payload(
    registry: &Registry,
    flag: &str,
    text: &str,
) -> Result<crate::proto::google::protobuf::Any, Failure> {
    let json = match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("cannot read {path}: {error}")))?,
        None if text == "-" => {
            let mut all = String::new();
            std::io::stdin()
                .read_to_string(&mut all)
                .map_err(|error| Failure::Usage(format!("cannot read standard input: {error}")))?;
            all
        }
        None => text.to_owned(),
    };
    registry.read_text(&json).map_err(|error| Failure::Usage(format!("{flag}: {error}")))
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn time(text: &str) -> Result<prost_types::Timestamp, String> {
    text.parse().map_err(|_| format!("{text:?} is not a time such as 2030-01-31T12:00:00Z"))
}
