//! The commands of callers that change operations: cancel, delete, pause, resume. Each reports a result for every name.

use clap::Args;

use super::connection::Connection;
use super::exit::Failure;
use super::output;
use super::start::read_payload;
use super::types::PayloadTypes;
use crate::client::Client;
use crate::proto::longhaul::v1::operation_record::State;
use crate::proto::longhaul::v1::{
    OperationRecord, OperationView, PauseOperationRequest, ResumeOperationRequest,
};
use crate::types::Registry;

/// Names of operations.
#[derive(Debug, Args)]
pub(super) struct NamesArgs {
    #[command(flatten)]
    connection: Connection,
    /// Full names of the operations, such as operations/ID
    #[arg(required = true)]
    names: Vec<String>,
}

/// Arguments of `pause`.
#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    targets: NamesArgs,
    /// Why it is paused, shown to people
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
    /// Only if the operation still has this etag
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ETAG")]
    etag: String,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    targets: NamesArgs,
    /// Input for a worker that asked for it: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", allow_negative_numbers = true)]
    input: Option<String>,
    /// Only if the operation still has this etag
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ETAG")]
    etag: String,
}

pub(super) async fn cancel(args: NamesArgs) -> Result<(), Failure> {
    let client = args.connection.connect().await?;
    args.each(async |name| {
        let before = state(&client, name).await?;
        client.cancel(name).await?;
        // It may be deleted by now; the cancel was accepted all the same.
        let after =
            if before.is_done() { before } else { state(&client, name).await.unwrap_or(before) };
        args.say(name, cancelled(before, after));
        Ok(())
    })
    .await
}

pub(super) async fn delete(args: NamesArgs) -> Result<(), Failure> {
    let client = args.connection.connect().await?;
    args.each(async |name| {
        let before = state(&client, name).await?;
        client.delete(name).await?;
        args.say(name, deleted(before));
        Ok(())
    })
    .await
}

pub(super) async fn pause(args: PauseArgs) -> Result<(), Failure> {
    let targets = &args.targets;
    targets.check_etag(&args.etag)?;
    let registry = targets.connection.types()?;
    let client = targets.connection.connect().await?;
    let types = PayloadTypes::new(&client, registry);
    targets
        .each(async |name| {
            let (etag, reason) = (args.etag.clone(), args.reason.clone());
            let request = PauseOperationRequest { name: name.to_owned(), etag, reason };
            let record = client.pause(request).await?;
            targets.show(&record, &types.of_record(&record).await, paused(record.state()));
            Ok(())
        })
        .await
}

pub(super) async fn resume(args: ResumeArgs) -> Result<(), Failure> {
    let targets = &args.targets;
    targets.check_etag(&args.etag)?;
    let registry = targets.connection.types()?;
    let input =
        args.input.as_deref().map(|text| read_payload(&registry, "--input", text)).transpose()?;
    let client = targets.connection.connect().await?;
    let types = PayloadTypes::new(&client, registry);
    targets
        .each(async |name| {
            let before = state(&client, name).await?;
            let (etag, input) = (args.etag.clone(), input.clone());
            let request = ResumeOperationRequest { name: name.to_owned(), etag, input };
            let record = client.resume(request).await?;
            targets.show(&record, &types.of_record(&record).await, resumed(before));
            Ok(())
        })
        .await
}

impl PauseArgs {
    pub(super) fn server(&self) -> &str {
        self.targets.server()
    }
}

impl ResumeArgs {
    pub(super) fn server(&self) -> &str {
        self.targets.server()
    }
}

impl NamesArgs {
    pub(super) fn server(&self) -> &str {
        self.connection.server()
    }

    /// Handles all names, also after a failure. Returns the largest exit code.
    async fn each(&self, act: impl AsyncFn(&str) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut worst = None;
        for name in &self.names {
            if let Err(failure) = act(name).await {
                output::failure(&failure);
                worst = worst.max(Some(failure.code()));
            }
        }
        worst.map_or(Ok(()), |code| Err(Failure::Told(code)))
    }

    fn check_etag(&self, etag: &str) -> Result<(), Failure> {
        if self.names.len() > 1 && !etag.is_empty() {
            let text = "--etag belongs to one operation; name only that one";
            return Err(Failure::Usage(text.to_owned()));
        }
        Ok(())
    }

    fn say(&self, name: &str, what: &str) {
        if !self.connection.wants_json() {
            output::line(&format!("{name} {what}"));
        }
    }

    fn show(&self, record: &OperationRecord, registry: &Registry, what: &str) {
        if self.connection.wants_json() {
            output::json(&registry.record(record));
            return;
        }
        let reason = record.server_metadata.as_ref().map_or("", |server| &server.suspend_reason);
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        self.say(&record.name, &format!("{what}{reason}"));
    }
}

impl State {
    const fn is_done(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

async fn state(client: &Client, name: &str) -> Result<State, Failure> {
    Ok(client.record(name, OperationView::Basic).await?.state())
}

const fn cancelled(before: State, after: State) -> &'static str {
    match (before, after) {
        (State::Succeeded, _) => "had already succeeded",
        (State::Failed, _) => "had already failed",
        (State::Cancelled, _) => "had already been cancelled",
        (State::Cancelling, State::Cancelling) => "had already been asked to stop, and has not yet",
        (_, State::Succeeded) => "was asked to stop, and has succeeded",
        (_, State::Failed) => "was asked to stop, and has failed",
        (_, State::Cancelled) => "is cancelled",
        _ => "was asked to stop",
    }
}

const fn deleted(before: State) -> &'static str {
    match before {
        State::Running | State::Cancelling => {
            "is deleted, but runs on: only `cancel`, before `delete`, stops a worker"
        }
        State::Pending => {
            "is deleted, but a worker will still run it: only `cancel`, before `delete`, prevents that"
        }
        _ => "is deleted",
    }
}

const fn paused(after: State) -> &'static str {
    match after {
        State::Running => "was asked to pause, and runs until its worker releases it",
        _ => "is suspended",
    }
}

const fn resumed(before: State) -> &'static str {
    match before {
        State::Suspended => "continues, and waits for a worker",
        _ => "was not suspended; if it was asked to pause, that no longer counts",
    }
}
