//! `longhaul rerun`.

use clap::Args;

use super::connection::Connection;
use super::exit::Failure;
use super::follow::Follower;
use super::output;
use super::start::read_payload;
use crate::proto::longhaul::v1::{RerunOperationRequest, RerunOperationsRequest};

/// Arguments of `rerun`.
#[derive(Debug, Args)]
pub(super) struct RerunArgs {
    #[command(flatten)]
    connection: Connection,
    /// Full name of the finished operation, such as operations/ID
    #[arg(required_unless_present = "filter", conflicts_with = "filter")]
    name: Option<String>,
    /// Another request for the worker: JSON, @FILE, or - for standard input. The same as before by default
    #[arg(long, value_name = "JSON", conflicts_with = "filter")]
    request: Option<String>,
    /// Start all finished operations again that match, such as 'state() = FAILED'. Prints the operation that does it
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Only the operations of this parent, such as projects/P, projects/- (`-` stands for every id) or operations
    /// (the root). By default those of all parents
    #[arg(long, default_value = EVERY, hide_default_value = true, requires = "filter", value_name = "PARENT")]
    parent: String,
    /// At most this many operations, the newest first
    #[arg(
        long,
        default_value_t,
        hide_default_value = true,
        requires = "filter",
        value_name = "NUMBER"
    )]
    max_count: i32,
    /// Go on where an earlier rerun ended because of --max-count
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        requires = "filter",
        value_name = "TOKEN"
    )]
    page_token: String,
    /// Wait until all matching operations are started again
    #[arg(long, requires = "filter")]
    wait: bool,
    /// The same request id starts it again only once
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    request_id: String,
}

impl RerunArgs {
    pub(super) fn server(&self) -> &str {
        self.connection.server()
    }
}

pub(super) async fn run(args: RerunArgs) -> Result<(), Failure> {
    let registry = args.connection.types()?;
    let request = args.request.as_deref();
    let request = request.map(|text| read_payload(&registry, "--request", text)).transpose()?;
    let RerunArgs { connection, name, filter, parent, max_count, page_token, .. } = args;
    let request_id = args.request_id;
    let client = connection.connect().await?;
    let operation = if let Some(filter) = filter {
        let validate_only = false;
        let request = RerunOperationsRequest {
            parent,
            filter,
            max_count,
            page_token,
            validate_only,
            request_id,
        };
        client.rerun_all(request).await?
    } else {
        let name = name.unwrap_or_default();
        client.rerun(RerunOperationRequest { name, request, request_id }).await?
    };
    if !connection.wants_json() {
        output::line(&operation.name);
    } else if !args.wait {
        output::json(&registry.operation(&operation));
    }
    if !args.wait {
        return Ok(());
    }
    Follower::new(client, &connection, vec![operation.name])?.follow().await
}

/// Every parent at every depth (AIP-159).
const EVERY: &str = "-";
