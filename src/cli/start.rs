//! `longhaul start`.

use std::io::Read;

use clap::Args;

use super::connection::Connection;
use super::exit::Failure;
use super::follow::Follower;
use super::option_args::OptionArgs;
use super::output;
use super::types::PayloadTypes;
use crate::proto::longhaul::v1::{OperationOptions, StartOperationRequest};
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
    /// The same request id starts the operation only once
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    request_id: String,
    /// Do not run before this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    schedule_time: Option<prost_types::Timestamp>,
    /// Fail the operation if it is not done by this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    deadline_time: Option<prost_types::Timestamp>,
    /// Name of the resource that the operation works on
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    target: String,
    #[command(flatten)]
    options: OptionArgs,
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

impl StartArgs {
    pub(super) fn server(&self) -> &str {
        self.connection.server()
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
    let options = OperationOptions {
        schedule_time: args.schedule_time,
        deadline_time: args.deadline_time,
        target: args.target,
        ..args.options.options()
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

pub(super) fn time(text: &str) -> Result<prost_types::Timestamp, String> {
    text.parse().map_err(|_| format!("{text:?} is not a time such as 2030-01-31T12:00:00Z"))
}
