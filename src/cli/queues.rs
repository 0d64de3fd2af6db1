//! `longhaul queue`.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use super::connection::{Output, ServerArg};
use super::exit::Failure;
use super::{output, plain, served, table};
use crate::client::Client;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::proto::longhaul::v1::{
    ListQueuesRequest, ListQueuesResponse, PauseQueueRequest, Queue, ResumeQueueRequest,
    UpdateQueueRequest,
};

/// What `queue` takes.
#[derive(Debug, Args)]
pub(super) struct QueueArgs {
    #[command(subcommand)]
    command: QueueCommand,
    #[command(flatten)]
    server: ServerArg,
    /// Text is for people, proto3 JSON for programs
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

/// What is done with queues.
#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// List the queues that have operations to do, workers, or settings of their own
    List,
    /// Show a queue and its settings
    Get {
        /// The queue, such as default or queues/default
        name: String,
    },
    /// Pause queues: no worker gets an operation of them until they are resumed; what runs goes on
    Pause(SteeredArgs),
    /// Resume queues
    Resume(SteeredArgs),
    /// Change the limits of a queue; what runs is not stopped
    Update(UpdateArgs),
}

/// Queues to pause or resume.
#[derive(Debug, Args)]
struct SteeredArgs {
    /// The queues
    #[arg(required = true)]
    names: Vec<String>,
    /// Only if the settings still have this etag
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ETAG")]
    etag: String,
}

/// New limits.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("limits").required(true).multiple(true)))]
struct UpdateArgs {
    /// The queue
    name: String,
    /// Most operations that run at the same time; 0 is no limit
    #[arg(long, value_name = "NUMBER", group = "limits", allow_negative_numbers = true)]
    max_running: Option<i32>,
    /// Most leases in a second, evenly spread; 0 is no limit
    #[arg(
        long = "max-leases-per-second",
        value_name = "NUMBER",
        group = "limits",
        allow_negative_numbers = true
    )]
    rate: Option<f64>,
    /// Waiting this long counts as one step of priority; 0s is the default of 60s
    #[arg(long, value_name = "DURATION", group = "limits", value_parser = humantime::parse_duration)]
    aging_interval: Option<Duration>,
    /// Only if the settings still have this etag
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ETAG")]
    etag: String,
}

impl QueueArgs {
    pub(super) fn server(&self) -> &str {
        &self.server.address
    }

    fn show(&self, queue: &Queue) {
        if self.output == Output::Json {
            return output::message("longhaul.v1.Queue", queue);
        }
        for line in details(queue, SystemClock::new().now()) {
            output::text(&line);
        }
    }

    fn show_all(&self, queues: Vec<Queue>) {
        if self.output == Output::Json {
            let list = ListQueuesResponse { queues, next_page_token: String::new() };
            return output::message("longhaul.v1.ListQueuesResponse", &list);
        }
        if queues.is_empty() {
            return output::note("no queues");
        }
        for line in lines(&queues, SystemClock::new().now()) {
            output::text(&line);
        }
    }
}

pub(super) async fn run(args: QueueArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    match &args.command {
        QueueCommand::List => args.show_all(all(&client).await?),
        QueueCommand::Get { name } => args.show(&client.queue(name).await?),
        QueueCommand::Pause(steered) => {
            for name in &steered.names {
                let etag = steered.etag.clone();
                let request = PauseQueueRequest { name: name.clone(), etag };
                args.show(&client.pause_queue(request).await?);
            }
        }
        QueueCommand::Resume(steered) => {
            for name in &steered.names {
                let etag = steered.etag.clone();
                let request = ResumeQueueRequest { name: name.clone(), etag };
                args.show(&client.resume_queue(request).await?);
            }
        }
        QueueCommand::Update(update) => {
            args.show(&client.update_queue(update.request()).await?);
        }
    }
    Ok(())
}

/// All queues.
async fn all(client: &Client) -> Result<Vec<Queue>, tonic::Status> {
    let mut request = ListQueuesRequest { page_size: PAGE_SIZE, ..ListQueuesRequest::default() };
    let mut all = Vec::new();
    loop {
        let page = client.list_queues(request.clone()).await?;
        all.extend(page.queues);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

impl UpdateArgs {
    fn request(&self) -> UpdateQueueRequest {
        let given = [
            ("max_running", self.max_running.is_some()),
            ("max_leases_per_second", self.rate.is_some()),
            ("aging_interval", self.aging_interval.is_some()),
        ];
        let paths = given.iter().filter(|(_, given)| *given).map(|(path, _)| (*path).to_owned());
        let queue = Queue {
            name: self.name.clone(),
            max_running: self.max_running.unwrap_or_default(),
            max_leases_per_second: self.rate.unwrap_or_default(),
            aging_interval: self.aging_interval.and_then(|interval| interval.try_into().ok()),
            etag: self.etag.clone(),
            ..Queue::default()
        };
        let update_mask = Some(prost_types::FieldMask { paths: paths.collect() });
        UpdateQueueRequest { queue: Some(queue), update_mask }
    }
}

/// A title and a line for each queue.
fn lines(queues: &[Queue], now: Timestamp) -> Vec<String> {
    let rows = queues.iter().map(|queue| {
        let rate = format!("{:.1}", queue.leases_per_second);
        [
            plain::line(served::id(queue)),
            queue.pending_operations.to_string(),
            queue.running_operations.to_string(),
            served::age(queue, now),
            queue.workers.to_string(),
            rate,
            served::remarks(queue),
        ]
    });
    let title = ["QUEUE", "PENDING", "RUNNING", "OLDEST", "WORKERS", "LEASES/S", ""];
    let rows: Vec<[String; 7]> = [title.map(str::to_owned)].into_iter().chain(rows).collect();
    table::columns(&rows)
}

fn details(queue: &Queue, now: Timestamp) -> Vec<String> {
    let time = |time: Option<&prost_types::Timestamp>| match time {
        None => "-".to_owned(),
        Some(time) => table::when(time.into(), now),
    };
    let limit = |is_set: bool, value: String| if is_set { value } else { "no limit".to_owned() };
    let aging = queue.aging_interval.as_ref().and_then(crate::clock::length).unwrap_or_default();
    let workers = match (queue.workers, queue.unserved) {
        (workers, false) => workers.to_string(),
        (workers, true) => format!("{workers} (operations wait, and no worker serves the queue)"),
    };
    let rows = [
        ("name", plain::line(&queue.name)),
        ("state", queue.state().as_str_name().to_owned()),
        ("pending", queue.pending_operations.to_string()),
        ("running", queue.running_operations.to_string()),
        ("oldest pending", time(queue.oldest_pending_time.as_ref())),
        ("workers", workers),
        ("last lease request", time(queue.last_lease_request_time.as_ref())),
        ("leases/s", format!("{:.1}", queue.leases_per_second)),
        ("max running", limit(queue.max_running > 0, queue.max_running.to_string())),
        (
            "max leases/s",
            limit(queue.max_leases_per_second > 0.0, queue.max_leases_per_second.to_string()),
        ),
        ("aging interval", table::span(aging)),
        ("etag", plain::line(&queue.etag)),
    ];
    rows.into_iter().map(|(name, value)| format!("{name:<18}  {value}")).collect()
}

const PAGE_SIZE: i32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::longhaul::v1::queue::State;

    #[test]
    fn queues_stand_in_columns_and_say_what_is_wrong() {
        let now = Timestamp::from_micros(1_000_000_000);
        let busy = Queue {
            name: "queues/mail".to_owned(),
            pending_operations: 1_234,
            running_operations: 5,
            oldest_pending_time: Some(Timestamp::from_micros(940_000_000).into()),
            workers: 2,
            leases_per_second: 3.25,
            max_leases_per_second: 2.5,
            ..Queue::default()
        };
        let stuck = Queue {
            name: "queues/a".to_owned(),
            state: State::Paused.into(),
            pending_operations: 1,
            unserved: true,
            ..Queue::default()
        };
        let expected = [
            "QUEUE  PENDING  RUNNING  OLDEST     WORKERS  LEASES/S",
            "mail   1234     5        1 min 0 s  2        3.2       at most 2.5 leases/s",
            "a      1        0        -          0        0.0       PAUSED, NO WORKER",
        ];
        assert_eq!(lines(&[busy, stuck], now), expected);
    }

    #[test]
    fn a_change_names_what_is_given() {
        let update = UpdateArgs {
            name: "q".to_owned(),
            max_running: None,
            rate: Some(0.0),
            aging_interval: Some(Duration::from_secs(5)),
            etag: "e".to_owned(),
        };
        let request = update.request();
        let paths = request.update_mask.expect("a mask").paths;
        assert_eq!(paths, ["max_leases_per_second", "aging_interval"]);
        assert_eq!(request.queue.expect("a queue").etag, "e");
    }
}
