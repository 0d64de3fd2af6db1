//! `longhaul delivery`.

use clap::{Args, Subcommand, ValueEnum};

use super::connection::{Output, ServerArg};
use super::exit::Failure;
use super::{output, plain, table};
use crate::client::Client;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::webhook_delivery::{Attempt, State};

/// What `delivery` takes.
#[derive(Debug, Args)]
pub(super) struct DeliveryArgs {
    #[command(subcommand)]
    command: DeliveryCommand,
    #[command(flatten)]
    server: ServerArg,
    /// Text is for people, proto3 JSON for programs
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

/// What is done with deliveries.
#[derive(Debug, Subcommand)]
enum DeliveryCommand {
    /// List deliveries, newest first
    List {
        /// Full name of the webhook endpoint that they go to, or of the operation with the callbacks that they go to
        parent: String,
        /// List only those in this state
        #[arg(long, value_enum, value_name = "STATE")]
        state: Option<StateArg>,
        /// List at most this many
        #[arg(long, default_value_t = 50, value_name = "NUMBER")]
        limit: usize,
    },
    /// Show a delivery and its attempts
    Get {
        /// Full name of the delivery, as it is in the list
        name: String,
    },
    /// Send deliveries again that have ended
    Replay {
        /// Full names of the deliveries
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// A state of a delivery.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateArg {
    /// Not tried yet
    Waiting,
    /// The receiver accepted it
    Delivered,
    /// The last attempt failed, and another one follows
    Failed,
    /// It is not tried again
    GivenUp,
}

impl StateArg {
    const fn state(self) -> State {
        match self {
            Self::Waiting => State::Waiting,
            Self::Delivered => State::Delivered,
            Self::Failed => State::Failed,
            Self::GivenUp => State::GivenUp,
        }
    }
}

pub(super) async fn run(args: DeliveryArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    match &args.command {
        DeliveryCommand::List { parent, state, limit } => {
            let request = pb::ListWebhookDeliveriesRequest {
                parent: parent.clone(),
                state: state.map_or(State::Unspecified, StateArg::state).into(),
                ..pb::ListWebhookDeliveriesRequest::default()
            };
            args.show_all(first(&client, request, *limit).await?);
        }
        DeliveryCommand::Get { name } => args.show(&client.get_webhook_delivery(name).await?),
        DeliveryCommand::Replay { names } => {
            for name in names {
                args.show_replayed(&client.replay_webhook_delivery(name).await?);
            }
        }
    }
    Ok(())
}

/// The first deliveries of a list.
async fn first(
    client: &Client,
    mut request: pb::ListWebhookDeliveriesRequest,
    limit: usize,
) -> Result<Vec<pb::WebhookDelivery>, Failure> {
    let mut all = Vec::new();
    while all.len() < limit {
        request.page_size = i32::try_from(limit - all.len()).unwrap_or(i32::MAX);
        let page = client.list_webhook_deliveries(request.clone()).await?;
        all.extend(page.webhook_deliveries);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    all.truncate(limit);
    Ok(all)
}

impl DeliveryArgs {
    pub(super) fn server(&self) -> &str {
        &self.server.address
    }

    fn show_all(&self, webhook_deliveries: Vec<pb::WebhookDelivery>) {
        if self.output == Output::Json {
            let next_page_token = String::new();
            let list = pb::ListWebhookDeliveriesResponse { webhook_deliveries, next_page_token };
            return output::message("longhaul.v1.ListWebhookDeliveriesResponse", &list);
        }
        if webhook_deliveries.is_empty() {
            return output::note("no deliveries");
        }
        let now = SystemClock::new().now();
        let title = ["STATE", "AGE", "EVENT", "ATTEMPTS", "LAST", "NAME"].map(str::to_owned);
        let rows = webhook_deliveries.iter().map(|delivery| row(delivery, now));
        let rows: Vec<[String; 6]> = [title].into_iter().chain(rows).collect();
        for line in table::columns(&rows) {
            output::line(&line);
        }
    }

    fn show(&self, delivery: &pb::WebhookDelivery) {
        if self.output == Output::Json {
            return output::message("longhaul.v1.WebhookDelivery", delivery);
        }
        output::line(&delivery.name);
        let now = SystemClock::new().now();
        let time = |time: Option<&prost_types::Timestamp>| {
            time.map(|time| Timestamp::from(time).to_string()).unwrap_or_default()
        };
        for (label, value) in [
            ("state", state(delivery, now)),
            ("event", delivery.event().as_str_name().to_owned()),
            ("operation", delivery.operation.clone()),
            ("sequence", delivery.sequence.to_string()),
            ("happened", time(delivery.event_time.as_ref())),
            ("uri", delivery.uri.clone()),
            ("replayed", time(delivery.replay_time.as_ref())),
            ("ended", time(delivery.end_time.as_ref())),
            ("reply", delivery.reply.clone()),
        ] {
            if !value.is_empty() {
                output::line(&format!("  {label:<10}{value}"));
            }
        }
        let before = usize::try_from(delivery.attempt_count).unwrap_or_default();
        let before = before.saturating_sub(delivery.attempts.len());
        for (number, attempt) in delivery.attempts.iter().enumerate() {
            let time = time(attempt.start_time.as_ref());
            let number = before + number + 1;
            output::line(&format!("  attempt {number:<2}{time}  {}", outcome(attempt)));
        }
    }

    fn show_replayed(&self, delivery: &pb::WebhookDelivery) {
        if self.output == Output::Json {
            return output::message("longhaul.v1.WebhookDelivery", delivery);
        }
        let when = if delivery.next_attempt_time.is_some() {
            "is sent again now"
        } else {
            "is sent again after the earlier events of its operation that wait"
        };
        output::line(&format!("{} {when}", delivery.name));
    }
}

/// What became of a request: the status or the error, and how long it took.
pub(super) fn outcome(attempt: &Attempt) -> String {
    let latency = attempt.latency.as_ref().and_then(crate::clock::length).unwrap_or_default();
    let latency = table::span(latency);
    if attempt.status_code == 0 {
        return format!("{} ({latency})", attempt.error);
    }
    format!("{} in {latency}", attempt.status_code)
}

fn row(delivery: &pb::WebhookDelivery, now: Timestamp) -> [String; 6] {
    let created = delivery.create_time.as_ref().map(Timestamp::from).unwrap_or_default();
    let last = delivery.attempts.last().map(outcome).unwrap_or_default();
    [
        delivery.state().as_str_name().to_owned(),
        table::span(now.since(created)),
        delivery.event().as_str_name().to_owned(),
        delivery.attempt_count.to_string(),
        plain::part(&last),
        delivery.name.clone(),
    ]
}

fn state(delivery: &pb::WebhookDelivery, now: Timestamp) -> String {
    let name = delivery.state().as_str_name();
    match delivery.next_attempt_time.as_ref().map(Timestamp::from) {
        Some(next) if next > now => format!("{name}, tried in {}", table::span(next.since(now))),
        Some(_) => format!("{name}, tried now"),
        None => name.to_owned(),
    }
}
