//! `stats`: how many operations there are.

use clap::Args;

use super::connection::Connection;
use super::exit::Failure;
use super::{output, plain};
use crate::proto::longhaul::v1::OperationStats;

/// Which operations to count.
#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    connection: Connection,
    /// Count only the operations of this parent, such as projects/P, projects/- (`-` stands for every id) or operations
    /// (the root). By default operations of all parents are counted, and the queues are shown
    #[arg(default_value = "-", hide_default_value = true, value_name = "PARENT")]
    parent: String,
}

impl StatsArgs {
    pub(super) fn server(&self) -> &str {
        self.connection.server()
    }
}

pub(super) async fn run(args: StatsArgs) -> Result<(), Failure> {
    let registry = args.connection.types()?;
    let client = args.connection.connect().await?;
    let stats = client.stats(&args.parent).await?;
    if args.connection.wants_json() {
        output::json(&registry.stats(&stats));
    } else {
        for line in lines(&stats) {
            output::text(&line);
        }
    }
    Ok(())
}

/// A line for each state, their sum, the bytes that they take, and a line for each queue.
fn lines(stats: &OperationStats) -> Vec<String> {
    let total: i64 = stats.counts.iter().map(|count| count.operations).sum();
    let states = stats.counts.iter().map(|count| (count.state().as_str_name(), count.operations));
    let states: Vec<_> = states.chain([("total", total), ("bytes", stats.stored_bytes)]).collect();
    let widest = |numbers: &mut dyn Iterator<Item = i64>, title: usize| {
        numbers.map(|number| number.to_string().len()).max().unwrap_or_default().max(title)
    };
    let width = widest(&mut states.iter().map(|(_, count)| *count), 0);
    let mut lines: Vec<String> =
        states.iter().map(|(state, count)| format!("{state:<10}  {count:>width$}")).collect();
    if stats.queue_counts.is_empty() {
        return lines;
    }
    let names: Vec<String> = stats
        .queue_counts
        .iter()
        .map(|count| plain::line(count.queue.trim_start_matches("queues/")))
        .collect();
    let name_width = names.iter().map(String::len).max().unwrap_or_default().max(QUEUE.len());
    let mut counts = stats.queue_counts.iter().map(|count| count.pending_operations);
    let pending = widest(&mut counts, PENDING.len());
    let mut counts = stats.queue_counts.iter().map(|count| count.running_operations);
    let running = widest(&mut counts, RUNNING.len());
    lines.push(String::new());
    lines.push(format!("{QUEUE:<name_width$}  {PENDING:>pending$}  {RUNNING:>running$}"));
    for (name, count) in names.iter().zip(&stats.queue_counts) {
        lines.push(format!(
            "{name:<name_width$}  {:>pending$}  {:>running$}",
            count.pending_operations, count.running_operations
        ));
    }
    lines
}

const QUEUE: &str = "queue";
const PENDING: &str = "pending";
const RUNNING: &str = "running";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::longhaul::v1::operation_record::State;
    use crate::proto::longhaul::v1::operation_stats::{Count, QueueCount};

    #[test]
    fn numbers_stand_in_columns_and_names_control_no_terminal() {
        let count = |state: State, operations| Count { state: state.into(), operations };
        let counts = vec![count(State::Pending, 12), count(State::Succeeded, 1_234_567)];
        let queue = |queue: &str, pending_operations, running_operations| QueueCount {
            queue: format!("queues/{queue}"),
            pending_operations,
            running_operations,
        };
        let mut stats =
            OperationStats { counts, stored_bytes: 98_304, ..OperationStats::default() };
        let states = [
            "PENDING          12",
            "SUCCEEDED   1234567",
            "total       1234579",
            "bytes         98304",
        ];
        assert_eq!(lines(&stats), states);
        stats.queue_counts = vec![queue("default", 12, 0), queue("\x1b[2J", 1, 123_456_789)];
        let queues = [
            "",
            "queue      pending    running",
            "default         12          0",
            "\\u001b[2J        1  123456789",
        ];
        assert_eq!(lines(&stats), [&states[..], &queues].concat());
    }
}
