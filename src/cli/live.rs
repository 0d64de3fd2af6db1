//! `longhaul list --watch`: a table that follows a set of operations, or a line for each change if the output is piped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::IsTerminal;
use std::time::Duration;

use serde_json::json;
use tonic::Status;

use super::exit::{Failure, no_answer};
use super::fullscreen::{EndSignals, FullScreen};
use super::labels::labels;
use super::table::{self, Ahead};
use super::types::PayloadTypes;
use super::{output, plain};
use crate::client::{Client, Step, cause};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::proto::longhaul::v1::operation_record::State;
use crate::proto::longhaul::v1::watch_operations_response::Type;
use crate::proto::longhaul::v1::{
    OperationRecord, WatchOperationsRequest, WatchOperationsResponse,
};

/// What is followed, and how it is shown.
pub(super) struct LiveList {
    pub(super) client: Client,
    pub(super) request: WatchOperationsRequest,
    pub(super) types: PayloadTypes,
    pub(super) server: String,
    pub(super) json: bool,
    /// The oldest operation is the first line.
    pub(super) oldest_first: bool,
}

/// The operations of the set, without their payloads.
#[derive(Default)]
struct LiveRows {
    records: HashMap<String, OperationRecord>,
    /// Names in order of creation.
    order: BTreeSet<((i64, i32), String)>,
    states: BTreeMap<i32, usize>,
    complete: bool,
    /// The current outage; empty if there is none.
    outage: String,
    /// Whether the screen shows them as they are.
    is_drawn: bool,
}

/// What was printed of each operation, so that each change is a line.
#[derive(Default)]
struct Printed {
    lines: HashMap<String, String>,
    /// Operations that were known before a RESYNC and that the snapshot has not shown yet.
    stale: BTreeSet<String>,
}

impl Printed {
    /// Whether this line of an operation is new.
    fn is_new(&mut self, name: &str, line: &str) -> bool {
        self.stale.remove(name);
        self.lines.insert(name.to_owned(), line.to_owned()).is_none_or(|last| last != line)
    }

    /// Known operations that this event removes.
    fn removed(&mut self, event: &WatchOperationsResponse) -> Vec<String> {
        let mut names = match event.r#type() {
            Type::Removed => vec![event.name.clone()],
            Type::SnapshotComplete => std::mem::take(&mut self.stale).into_iter().collect(),
            Type::Resync => {
                self.stale = self.lines.keys().cloned().collect();
                return Vec::new();
            }
            _ => return Vec::new(),
        };
        names.retain(|name| self.lines.remove(name).is_some());
        names
    }
}

impl LiveRows {
    fn apply(&mut self, event: WatchOperationsResponse) {
        self.outage.clear();
        match event.r#type() {
            Type::Snapshot | Type::Update => {
                self.remove(&event.name);
                let Some(mut record) = event.record else { return };
                if let Some(operation) = &mut record.operation {
                    operation.metadata = None;
                }
                *self.states.entry(record.state).or_default() += 1;
                self.order.insert((time_of(&record), event.name.clone()));
                self.records.insert(event.name, record);
            }
            Type::Removed => self.remove(&event.name),
            Type::SnapshotComplete => self.complete = true,
            Type::Resync => *self = Self::default(),
            Type::Unspecified | Type::Bookmark | Type::Reconnect => {}
        }
    }

    fn remove(&mut self, name: &str) {
        let Some(record) = self.records.remove(name) else { return };
        self.order.remove(&(time_of(&record), name.to_owned()));
        if let Some(count) = self.states.get_mut(&record.state) {
            *count -= 1;
        }
    }

    /// The first records.
    fn first(&self, count: usize, oldest_first: bool) -> Vec<&OperationRecord> {
        let name = |(_, name): &'_ ((i64, i32), String)| self.records.get(name);
        if oldest_first {
            self.order.iter().take(count).filter_map(name).collect()
        } else {
            self.order.iter().rev().take(count).filter_map(name).collect()
        }
    }

    /// How many operations there are, by state.
    fn summary(&self) -> String {
        let count = self.records.len();
        let all = match (count, self.complete) {
            (0, false) => return "loading ...".to_owned(),
            (0, true) => return "no operations".to_owned(),
            (1, _) => "1 operation".to_owned(),
            _ => format!("{count} operations"),
        };
        let of_state = |(state, count): (&i32, &usize)| {
            let state = State::try_from(*state).unwrap_or_default();
            painted(&format!("{count} {}", state.as_str_name()), colour(state))
        };
        let states = self.states.iter().filter(|(_, count)| **count > 0).map(of_state);
        let parts: Vec<String> = std::iter::once(all).chain(states).collect();
        parts.join("  ") + if self.complete { "" } else { "  loading ..." }
    }
}

impl LiveList {
    /// Follows the set until the process is told to end.
    pub(super) async fn follow(self) -> Result<(), Failure> {
        let is_live = !self.json && output::is_live() && std::io::stdout().is_terminal();
        if is_live { self.draw().await } else { self.print().await }
    }

    async fn draw(self) -> Result<(), Failure> {
        let clock = SystemClock::new();
        let mut watch = self.client.watch_operations(self.request.clone());
        let mut rows = LiveRows::default();
        let mut ended = EndSignals::listen()?;
        let mut screen = FullScreen::enter();
        let mut drawn = Duration::ZERO;
        let result = loop {
            let step = watch.step();
            tokio::pin!(step);
            let step = loop {
                // Many changes are shown a few times a second, and the ages grow without any.
                let pause = if rows.is_drawn { SECOND } else { FRAME };
                let left = (drawn + pause).saturating_sub(clock.elapsed());
                tokio::select! {
                    biased;
                    () = ended.told() => break Ok(Step::End),
                    () = clock.sleep(left), if left.is_zero() => {}
                    step = &mut step => break step,
                    () = clock.sleep(left) => {}
                }
                drawn = clock.elapsed();
                rows.is_drawn = true;
                let lines = self.frame(&rows, screen.size(), clock.now());
                screen.draw(lines);
            };
            rows.is_drawn = false;
            match step {
                Ok(Step::Event(event)) => rows.apply(*event),
                Ok(Step::Outage(status)) => rows.outage = self.lost(&status),
                Ok(Step::End) => break Ok(()),
                Err(status) => break Err(status.into()),
            }
        };
        let size = screen.size();
        drop(screen);
        self.frame(&rows, size, clock.now()).iter().for_each(|line| output::note(line));
        result
    }

    fn lost(&self, status: &Status) -> String {
        format!("reconnecting to {} ... {}", self.server, plain::line(&cause(status)))
    }

    /// All lines of the screen.
    fn frame(
        &self,
        rows: &LiveRows,
        (height, columns): (usize, usize),
        now: Timestamp,
    ) -> Vec<String> {
        let mut lines = vec![rows.summary()];
        if !rows.outage.is_empty() {
            lines.push(painted(&rows.outage, YELLOW));
        }
        let room = height.saturating_sub(lines.len() + 1);
        let all = rows.records.len();
        let shown = if all <= room { all } else { room.saturating_sub(1) };
        let records = rows.first(shown, self.oldest_first);
        lines.extend(table_of(&records, columns, now));
        if shown < all {
            lines.push(format!("and {} more", all - shown));
        }
        lines
    }

    /// A line for each change.
    async fn print(self) -> Result<(), Failure> {
        let clock = SystemClock::new();
        let mut watch = self.client.watch_operations(self.request.clone());
        let mut printed = Printed::default();
        let mut told = false;
        loop {
            match watch.step().await? {
                Step::Event(event) => {
                    told = false;
                    self.print_event(&event, &mut printed, clock.now()).await;
                }
                Step::Outage(status) if !std::mem::replace(&mut told, true) => {
                    output::note(&format!("longhaul: {}", no_answer(&self.server, &status)));
                }
                Step::Outage(_) => {}
                Step::End => return Ok(()),
            }
        }
    }

    async fn print_event(
        &self,
        event: &WatchOperationsResponse,
        printed: &mut Printed,
        now: Timestamp,
    ) {
        if let (Type::Snapshot | Type::Update, Some(record)) = (event.r#type(), &event.record) {
            let line = self.line(event, record, now).await;
            if printed.is_new(&event.name, &line) {
                output::exact(&line);
            }
        }
        for name in printed.removed(event) {
            output::exact(&self.removed(&name));
        }
    }

    async fn line(
        &self,
        event: &WatchOperationsResponse,
        record: &OperationRecord,
        now: Timestamp,
    ) -> String {
        if self.json {
            let operation = match &record.operation {
                Some(operation) => Some(self.types.of(operation).await.operation(operation)),
                None => None,
            };
            let (kind, state) = (event.r#type().as_str_name(), record.state().as_str_name());
            return json!({"type": kind, "state": state, "operation": operation}).to_string();
        }
        let server = record.server_metadata.clone().unwrap_or_default();
        let step = table::step(&server, &Ahead::of(record), now);
        format!("{}  {step}", plain::line(&record.name))
    }

    fn removed(&self, name: &str) -> String {
        if self.json {
            json!({"type": "REMOVED", "name": name}).to_string()
        } else {
            format!("{}  REMOVED", plain::line(name))
        }
    }
}

/// A heading and a line for each record.
fn table_of(records: &[&OperationRecord], columns: usize, now: Timestamp) -> Vec<String> {
    if records.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = records.iter().map(|record| record.name.clone()).collect();
    let names = labels(&names, (columns / 3).clamp(12, 40));
    let queues: Vec<String> =
        records.iter().map(|record| plain::part(&table::queue(record))).collect();
    let widest = |texts: &[String], least: usize| {
        texts.iter().map(|text| text.chars().count()).max().unwrap_or_default().max(least)
    };
    let (name_width, queue_width) = (widest(&names, 4), widest(&queues, 5));
    let has_bars = columns >= name_width + queue_width + BAR + WITHOUT_BAR;
    let progress = if has_bars {
        format!("{:<width$}", "PROGRESS", width = BAR + 7)
    } else {
        "PROG".to_owned()
    };
    let heading = format!(
        "{:<name_width$}  {:>9}  {progress}  {:<queue_width$}  STATE",
        "NAME", "AGE", "QUEUE"
    );
    let mut lines = vec![painted(&heading, DIM)];
    for ((record, name), queue) in records.iter().zip(&names).zip(&queues) {
        let server = record.server_metadata.clone().unwrap_or_default();
        let age = table::ago(server.create_time.as_ref(), now);
        let percent = format!("{:>4}", table::percent(&server));
        let progress =
            if has_bars { format!("{} {percent}", bar(table::fraction(&server))) } else { percent };
        let state = table::joined([table::doing(&server), table::why(record, now)]);
        let state = painted(&plain::line(&state), colour(server.state()));
        lines.push(format!(
            "{name:<name_width$}  {age:>9}  {progress}  {queue:<queue_width$}  {state}"
        ));
    }
    lines
}

fn bar(fraction: Option<f64>) -> String {
    let Some(fraction) = fraction else { return " ".repeat(BAR + 2) };
    let done = (fraction * BAR as f64) as usize;
    let tip = if done < BAR { ">" } else { "" };
    format!("[{:<BAR$}]", "=".repeat(done) + tip)
}

const fn colour(state: State) -> &'static str {
    match state {
        State::Succeeded => "32",
        State::Failed => "31",
        State::Cancelled | State::Cancelling | State::Suspended => YELLOW,
        State::Running => "36",
        State::Pending | State::Unspecified => "",
    }
}

fn painted(text: &str, colour: &str) -> String {
    let is_plain = colour.is_empty() || !output::has_colours();
    if is_plain { text.to_owned() } else { format!("\x1b[{colour}m{text}\x1b[0m") }
}

fn time_of(record: &OperationRecord) -> (i64, i32) {
    let server = record.server_metadata.as_ref();
    let time = server.and_then(|server| server.create_time.as_ref());
    time.map_or((0, 0), |time| (time.seconds, time.nanos))
}

const YELLOW: &str = "33";
const DIM: &str = "2";
/// Width of a bar between its brackets.
const BAR: usize = 12;
/// Columns of a line with a bar besides the name, the queue and the bar.
const WITHOUT_BAR: usize = 48;
/// The shortest time between two frames.
const FRAME: Duration = Duration::from_millis(200);
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Type, name: &str) -> WatchOperationsResponse {
        let (r#type, name) = (kind as i32, name.to_owned());
        WatchOperationsResponse { r#type, name, ..WatchOperationsResponse::default() }
    }

    #[test]
    fn what_a_new_snapshot_no_longer_has_is_printed_as_removed() {
        let mut printed = Printed::default();
        for name in ["a", "b", "c", "d"] {
            assert!(printed.is_new(name, "PENDING"));
        }
        assert!(printed.removed(&event(Type::SnapshotComplete, "")).is_empty());
        assert!(printed.removed(&event(Type::Resync, "")).is_empty());
        assert!(!printed.is_new("a", "PENDING"), "nothing has changed");
        assert!(printed.is_new("b", "RUNNING"));
        assert_eq!(printed.removed(&event(Type::Removed, "c")), ["c"]);
        assert_eq!(printed.removed(&event(Type::SnapshotComplete, "")), ["d"]);
        assert!(printed.removed(&event(Type::Removed, "d")).is_empty());
        assert!(printed.is_new("d", "PENDING"), "it is back");
    }
}
