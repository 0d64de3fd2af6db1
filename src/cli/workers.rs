//! `longhaul worker`.

use clap::{Args, Subcommand};

use super::connection::{Output, ServerArg};
use super::exit::Failure;
use super::served::columns_of;
use super::{output, plain, table};
use crate::client::Client;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::proto::longhaul::v1::{
    DrainWorkerRequest, ListWorkersRequest, ListWorkersResponse, ResumeWorkerRequest, Worker,
};

/// What `worker` takes.
#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    #[command(subcommand)]
    command: WorkerCommand,
    #[command(flatten)]
    server: ServerArg,
    /// Text is for people, proto3 JSON for programs
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

/// What is done with workers.
#[derive(Debug, Subcommand)]
enum WorkerCommand {
    /// List the workers of a queue, or of all queues, and what they hold
    List {
        /// The queue; by default all queues
        #[arg(default_value = "", hide_default_value = true)]
        queue: String,
    },
    /// Ask the workers of a name to take no more operations; those that they hold go on
    Drain(SteeredWorker),
    /// Let drained workers take operations again
    Resume(SteeredWorker),
}

/// Workers of a name.
#[derive(Debug, Args)]
struct SteeredWorker {
    /// The name of the worker, as it is in the list
    worker: String,
    /// The queue that it serves
    #[arg(long, default_value = "default", value_name = "QUEUE")]
    queue: String,
}

impl WorkerArgs {
    pub(super) fn server(&self) -> &str {
        &self.server.address
    }

    fn show(&self, workers: Vec<Worker>) {
        if self.output == Output::Json {
            let list = ListWorkersResponse { workers, next_page_token: String::new() };
            return output::message("longhaul.v1.ListWorkersResponse", &list);
        }
        if workers.is_empty() {
            return output::note("no workers");
        }
        for line in lines(&workers, SystemClock::new().now()) {
            output::text(&line);
        }
    }
}

pub(super) async fn run(args: WorkerArgs) -> Result<(), Failure> {
    let client = args.server.connect().await?;
    match &args.command {
        WorkerCommand::List { queue } => args.show(all(&client, queue).await?),
        WorkerCommand::Drain(SteeredWorker { worker, queue }) => {
            let request = DrainWorkerRequest { queue: queue.clone(), worker: worker.clone() };
            args.show(client.drain_worker(request).await?.workers);
        }
        WorkerCommand::Resume(SteeredWorker { worker, queue }) => {
            let request = ResumeWorkerRequest { queue: queue.clone(), worker: worker.clone() };
            let workers = client.resume_worker(request).await?.workers;
            if workers.is_empty() && args.output == Output::Text {
                // A drained worker may have left.
                output::note(&format!(
                    "no worker {worker} is there now; the next one gets operations"
                ));
            } else {
                args.show(workers);
            }
        }
    }
    Ok(())
}

/// All workers of a queue; an empty name is all queues.
async fn all(client: &Client, queue: &str) -> Result<Vec<Worker>, tonic::Status> {
    let mut request = ListWorkersRequest {
        queue: queue.to_owned(),
        page_size: PAGE_SIZE,
        ..ListWorkersRequest::default()
    };
    let mut all = Vec::new();
    loop {
        let page = client.list_workers(request.clone()).await?;
        all.extend(page.workers);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

/// A title, a line for each worker, and below it one for each operation that it holds.
fn lines(workers: &[Worker], now: Timestamp) -> Vec<String> {
    let title = ["WORKER", "QUEUE", "HOLDS", "SLOTS", "HEARD", "PROCESS", "SERVER", ""];
    let rows = workers.iter().map(|worker| columns_of(worker, now));
    let rows: Vec<[String; 8]> = [title.map(str::to_owned)].into_iter().chain(rows).collect();
    let mut lines = table::columns(&rows).into_iter();
    let mut all: Vec<String> = lines.next().into_iter().collect();
    for (worker, line) in workers.iter().zip(lines) {
        all.push(line);
        all.extend(worker.held_operations.iter().map(|held| {
            let since = table::ago(held.start_time.as_ref(), now);
            format!("  {}  attempt {}  {since}", plain::line(&held.operation), held.attempt)
        }));
        let named = worker.held_operations.len() as i32;
        if worker.held_count > named {
            all.push(format!("  and {} more", worker.held_count - named));
        }
    }
    all
}

const PAGE_SIZE: i32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::longhaul::v1::WorkerProcess;
    use crate::proto::longhaul::v1::worker::HeldOperation;

    #[test]
    fn workers_stand_in_columns_with_what_they_hold() {
        let now = Timestamp::from_micros(1_000_000_000);
        let ago = |seconds: u64| Some(Timestamp::from_micros((1_000 - seconds) * 1_000_000).into());
        let process = WorkerProcess {
            host: "h".to_owned(),
            process_id: 7,
            sdk_language: "rust".to_owned(),
            sdk_version: "0.1.0".to_owned(),
            ..WorkerProcess::default()
        };
        let busy = Worker {
            queue: "queues/mail".to_owned(),
            worker: "h-7".to_owned(),
            process: Some(process),
            server: "s-1".to_owned(),
            stream: true,
            slots: 4,
            held_count: 2,
            held_operations: vec![HeldOperation {
                operation: "operations/o".to_owned(),
                attempt: 1,
                start_time: ago(30),
            }],
            heard_time: ago(3),
            ..Worker::default()
        };
        let other = Worker {
            queue: "queues/q".to_owned(),
            worker: "cron".to_owned(),
            server: "s-1".to_owned(),
            heard_time: ago(0),
            drained: true,
            ..Worker::default()
        };
        let expected = [
            "WORKER  QUEUE  HOLDS  SLOTS  HEARD     PROCESS         SERVER",
            "h-7     mail   2      4      3 s ago   h:7 rust 0.1.0  s-1",
            "  operations/o  attempt 1  30 s ago",
            "  and 1 more",
            "cron    q      0      -      just now  -               s-1     DRAINED",
        ];
        assert_eq!(lines(&[busy, other], now), expected);
    }
}
