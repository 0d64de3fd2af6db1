//! The read-only commands of callers: get, record, list, wait, watch.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::connection::Connection;
use super::exit::Failure;
use super::follow::Follower;
use super::live::LiveList;
use super::types::PayloadTypes;
use super::{output, plain, record, table};
use crate::clock::{Clock, SystemClock};
use crate::filter::Order;
use crate::proto::longhaul::v1::{
    ListOperationRecordsRequest, OperationView, WatchOperationsRequest,
};

/// One operation.
#[derive(Debug, Args)]
pub(super) struct NameArgs {
    #[command(flatten)]
    connection: Connection,
    /// Full name of the operation, such as operations/ID
    name: String,
}

/// Operations to follow to their end.
#[derive(Debug, Args)]
pub(super) struct FollowArgs {
    #[command(flatten)]
    connection: Connection,
    /// Full names of the operations
    #[arg(required = true)]
    names: Vec<String>,
    /// Give up after this long, such as 90s or 1h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

/// A page of a list.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    connection: Connection,
    /// List only the operations of this parent, such as projects/P, projects/- (`-` stands for every id) or operations
    /// (the root). By default operations of all parents are listed
    #[arg(long, default_value = EVERY_PARENT, hide_default_value = true, value_name = "PARENT")]
    parent: String,
    /// List only what matches, such as 'state() = FAILED' or 'label("team") = red AND done = false'; docs/filters.md
    /// describes the language
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "FILTER",
        allow_hyphen_values = true
    )]
    filter: String,
    /// create_time for the oldest first, 'create_time desc' for the newest first, which is the default
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ORDER")]
    order_by: String,
    /// Follow them: a live table on a terminal, else a line for each change
    #[arg(long, conflicts_with_all = ["page_size", "page_token"])]
    watch: bool,
    /// Operations in one page, at most
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "NUMBER")]
    page_size: i32,
    /// List what can be read if parts of the store do not answer
    #[arg(long)]
    partial: bool,
    /// The token that the previous page ended with
    // One token of 64 begins with a minus.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TOKEN",
        allow_hyphen_values = true
    )]
    page_token: String,
}

impl NameArgs {
    pub(super) fn server(&self) -> &str {
        self.connection.server()
    }
}

impl FollowArgs {
    pub(super) fn server(&self) -> &str {
        self.connection.server()
    }
}

impl ListArgs {
    pub(super) fn server(&self) -> &str {
        self.connection.server()
    }
}

impl FollowArgs {
    async fn follower(self) -> Result<Follower, Failure> {
        let (clock, connection) = (SystemClock::new(), &self.connection);
        let end = self.timeout.map(|timeout| clock.elapsed().saturating_add(timeout));
        let client = connection.connect_within(self.timeout).await?;
        let left = end.map(|end| end.saturating_sub(clock.elapsed()));
        let follower = Follower::new(client, connection, self.names)?;
        Ok(follower.with_timeout(self.timeout, left))
    }
}

pub(super) async fn get(args: NameArgs) -> Result<(), Failure> {
    let local = args.connection.types()?;
    let client = args.connection.connect().await?;
    let types = PayloadTypes::new(&client, local);
    if args.connection.wants_json() {
        let operation = client.get(&args.name).await?;
        output::json(&types.of(&operation).await.operation(&operation));
    } else {
        let record = client.record(&args.name, OperationView::Basic).await?;
        let registry = types.of_record(&record).await;
        output::text(&record::short(&record, &registry, SystemClock::new().now()));
    }
    Ok(())
}

pub(super) async fn record(args: NameArgs) -> Result<(), Failure> {
    let local = args.connection.types()?;
    let client = args.connection.connect().await?;
    let types = PayloadTypes::new(&client, local);
    let record = client.record(&args.name, OperationView::Full).await?;
    let registry = types.of_record(&record).await;
    if args.connection.wants_json() {
        output::json(&registry.record(&record));
    } else {
        output::text(&record::full(&record, &registry, SystemClock::new().now()));
    }
    Ok(())
}

pub(super) async fn list(args: ListArgs) -> Result<(), Failure> {
    if args.watch {
        return follow(args).await;
    }
    let local = args.connection.types()?;
    let client = args.connection.connect().await?;
    let types = PayloadTypes::new(&client, local);
    let wants_json = args.connection.wants_json();
    let mut request = ListOperationRecordsRequest {
        parent: args.parent,
        filter: args.filter,
        order_by: args.order_by,
        page_size: args.page_size,
        page_token: args.page_token,
        return_partial_success: args.partial,
        ..ListOperationRecordsRequest::default()
    };
    let page = loop {
        let page = client.list_records(request.clone()).await?;
        // A page on which nothing matched says nothing yet.
        if !page.operation_records.is_empty() || page.next_page_token.is_empty() {
            break page;
        }
        request.page_token = page.next_page_token;
    };
    if wants_json {
        let mut operations = Vec::new();
        for operation in
            page.operation_records.iter().filter_map(|record| record.operation.as_ref())
        {
            operations.push(types.of(operation).await.operation(operation));
        }
        let mut list = json!({ "operations": operations });
        if !page.next_page_token.is_empty() {
            list["nextPageToken"] = page.next_page_token.into();
        }
        if !page.unreachable.is_empty() {
            list["unreachable"] = page.unreachable.into();
        }
        output::json(&list);
        return Ok(());
    }
    for line in table::list(&page.operation_records, SystemClock::new().now()) {
        output::text(&line);
    }
    if !page.unreachable.is_empty() {
        let parts = page.unreachable.join(", ");
        output::note(&format!(
            "parts of the store do not answer, their operations are missing: {parts}"
        ));
    }
    match (page.operation_records.is_empty(), page.next_page_token.as_str()) {
        (true, "") => output::note("no operations"),
        (_, "") => {}
        (_, token) => {
            output::note(&format!("there are more: --page-token {}", plain::escaped(token)));
        }
    }
    Ok(())
}

async fn follow(args: ListArgs) -> Result<(), Failure> {
    let order = Order::parse(&args.order_by);
    let order = order.map_err(|error| Failure::Usage(format!("--order-by is wrong {error}")))?;
    let (parent, filter) = (args.parent, args.filter);
    let local = args.connection.types()?;
    let client = args.connection.connect().await?;
    let live = LiveList {
        types: PayloadTypes::new(&client, local),
        client,
        request: WatchOperationsRequest { parent, filter, ..WatchOperationsRequest::default() },
        server: args.connection.server().to_owned(),
        json: args.connection.wants_json(),
        oldest_first: order == Order::OldestFirst,
    };
    live.follow().await
}

pub(super) async fn wait(args: FollowArgs) -> Result<(), Failure> {
    args.follower().await?.follow().await
}

pub(super) async fn watch(args: FollowArgs) -> Result<(), Failure> {
    args.follower().await?.with_steps(true).follow().await
}

/// Every parent at every depth (AIP-159).
const EVERY_PARENT: &str = "-";
