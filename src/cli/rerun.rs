//! `longhaul rerun`.

use clap::Args;

use super::connection::Connection;
use super::exit::Failure;
use super::output;
use super::start::read_payload;
use crate::proto::longhaul::v1::RerunOperationRequest;

/// Arguments of `rerun`.
#[derive(Debug, Args)]
pub(super) struct RerunArgs {
    #[command(flatten)]
    connection: Connection,
    /// Full name of the finished operation, such as operations/ID
    name: String,
    /// Another request for the worker: JSON, @FILE, or - for standard input. The same as before by default
    #[arg(long, value_name = "JSON")]
    request: Option<String>,
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
    let RerunArgs { connection, name, request_id, .. } = args;
    let client = connection.connect().await?;
    let operation = client.rerun(RerunOperationRequest { name, request, request_id }).await?;
    if connection.wants_json() {
        output::json(&registry.operation(&operation));
    } else {
        output::line(&operation.name);
    }
    Ok(())
}
