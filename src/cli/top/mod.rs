//! `top`: a terminal dashboard of a server.

mod board;
mod draw;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::{Stream, unfold};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::sync::{mpsc, watch};

use self::board::{AfterKey, Board, Fetched};
use super::connection::{ServerArg, TypesArg};
use super::exit::Failure;
use super::fullscreen::EndSignals;
use super::{output, plain, record};
use crate::client::Client;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::proto::longhaul::v1::{
    ListOperationRecordsRequest, ListQueuesRequest, ListWorkersRequest, OperationRecord,
    OperationView, Queue, Worker,
};
use crate::types::Registry;

/// What to show.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    server: ServerArg,
    #[command(flatten)]
    types: TypesArg,
    /// Show only the operations of this parent, such as projects/P, projects/- (`-` stands for every id) or operations
    /// (the root). By default operations of all parents are shown, and the queues
    #[arg(default_value = "-", hide_default_value = true, value_name = "PARENT")]
    parent: String,
    /// Print the dashboard once and exit, as without a terminal
    #[arg(long)]
    once: bool,
    /// How often to ask the server, at most every 200ms
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    interval: Duration,
}

impl TopArgs {
    pub(super) fn server(&self) -> &str {
        &self.server.address
    }
}

/// Asks the server for what the board shows.
struct Polls {
    client: Client,
    registry: Registry,
    parent: String,
    clock: Arc<SystemClock>,
    interval: Duration,
    /// The operation whose details are open.
    opened: watch::Sender<Option<String>>,
}

pub(super) async fn run(args: TopArgs) -> Result<(), Failure> {
    let registry = args.types.registry()?;
    let client = Client::connect(&args.server.address).await?;
    let clock = SystemClock::new();
    let interval = args.interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
    let mut board = Board::new(&args.server.address, &args.parent, interval, clock.now());
    let (opened, _) = watch::channel(None);
    let polls = Polls { client, registry, parent: args.parent, clock, interval, opened };
    board.take(Ok(polls.poll().await?));
    if args.once || !output::is_live() || !std::io::stdout().is_terminal() {
        for line in draw::plain_lines(&board) {
            output::text(&line);
        }
        return Ok(());
    }
    let ended = EndSignals::listen()?;
    let mut terminal = ratatui::try_init().map_err(anyhow::Error::from)?;
    let shown = show(&mut terminal, &mut board, &polls, ended).await;
    ratatui::restore();
    Ok(shown?)
}

/// Draws the board whenever something has changed, until a key or a signal ends it.
async fn show(
    terminal: &mut DefaultTerminal,
    board: &mut Board,
    polls: &Polls,
    mut ended: EndSignals,
) -> anyhow::Result<()> {
    let mut answers = pin!(polls.answers());
    let mut events = events()?;
    let mut pressed = Vec::new();
    loop {
        terminal.draw(|frame| draw::draw(board, frame.area(), frame.buffer_mut()))?;
        tokio::select! {
            biased;
            () = ended.told() => return Ok(()),
            // On a slow link, several keys are drawn at once.
            read = events.recv_many(&mut pressed, MAX_EVENTS) => {
                let quits = pressed.drain(..).any(|event| board.step(event) == AfterKey::Quit);
                if quits || read == 0 {
                    return Ok(());
                }
                polls.open(board.opened());
            }
            polled = answers.next() => {
                if let Some(polled) = polled {
                    board.take(polled);
                }
            }
            // The ages grow, also while the server does not answer.
            () = polls.clock.sleep(SECOND) => {}
        }
        board.tick(polls.clock.now());
    }
}

/// Key presses and changes of the terminal's size, read by a thread of their own, which ends with the process.
fn events() -> std::io::Result<mpsc::Receiver<Event>> {
    let (sender, receiver) = mpsc::channel(MAX_EVENTS);
    let read = move || {
        while let Ok(event) = event::read() {
            let matters = match &event {
                Event::Key(key) => key.kind != KeyEventKind::Release,
                Event::Resize(..) => true,
                _ => false,
            };
            if matters && sender.blocking_send(event).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(receiver)
}

impl Polls {
    /// An answer of the server, or why there is none, after each interval, and when details are opened.
    fn answers(&self) -> impl Stream<Item = Result<Fetched, String>> + '_ {
        unfold(self.opened.subscribe(), async |mut opened| {
            tokio::select! {
                () = self.clock.sleep(self.interval) => {}
                _ = opened.changed() => {}
            }
            let polled = tokio::select! {
                polled = self.poll() => polled.map_err(|failure| failure.message()),
                () = self.clock.sleep(PATIENCE) => Err("it is silent".to_owned()),
            };
            Some((polled, opened))
        })
    }

    /// Names the operation whose details are wanted.
    fn open(&self, name: Option<&str>) {
        self.opened.send_if_modified(|opened| {
            let is_other = opened.as_deref() != name;
            if is_other {
                *opened = name.map(str::to_owned);
            }
            is_other
        });
    }

    async fn poll(&self) -> Result<Fetched, Failure> {
        let opened = self.opened.borrow().clone();
        let (stats, mut running, mut failures, queues, workers) = tokio::try_join!(
            self.client.stats(&self.parent),
            self.records(RUNNING, "create_time", MAX_RUNNING),
            self.records(FAILED, "", MAX_FAILURES),
            self.queues(),
            self.workers(),
        )?;
        let now = self.clock.now();
        // The server sorts by parent first.
        running.sort_by_key(created);
        failures.sort_by_key(|record| std::cmp::Reverse(ended(record)));
        let details = match opened {
            Some(name) => Some((name.clone(), self.details(&name, now).await?)),
            None => None,
        };
        Ok(Fetched { now, stats, running, failures, queues, workers, details })
    }

    /// One operation as text.
    async fn details(&self, name: &str, now: Timestamp) -> Result<String, Failure> {
        match self.client.record(name, OperationView::Basic).await.map_err(Failure::from) {
            Ok(found) => Ok(record::full(&found, &self.registry, now)),
            Err(Failure::NotFound(text)) => Ok(plain::line(&text)),
            Err(failure) => Err(failure),
        }
    }

    /// The queues, if all operations are shown.
    async fn queues(&self) -> Result<Vec<Queue>, tonic::Status> {
        if self.parent != EVERY {
            return Ok(Vec::new());
        }
        let request = ListQueuesRequest { page_size: MAX_QUEUES, ..ListQueuesRequest::default() };
        Ok(self.client.list_queues(request).await?.queues)
    }

    /// The workers, if all operations are shown.
    async fn workers(&self) -> Result<Vec<Worker>, tonic::Status> {
        if self.parent != EVERY {
            return Ok(Vec::new());
        }
        let request =
            ListWorkersRequest { page_size: MAX_WORKERS, ..ListWorkersRequest::default() };
        Ok(self.client.list_workers(request).await?.workers)
    }

    async fn records(
        &self,
        filter: &str,
        order_by: &str,
        page_size: i32,
    ) -> Result<Vec<OperationRecord>, tonic::Status> {
        let request = ListOperationRecordsRequest {
            parent: self.parent.clone(),
            filter: filter.to_owned(),
            order_by: order_by.to_owned(),
            page_size,
            ..ListOperationRecordsRequest::default()
        };
        Ok(self.client.list_records(request).await?.operation_records)
    }
}

fn created(record: &OperationRecord) -> Option<Timestamp> {
    record.server_metadata.as_ref()?.create_time.as_ref().map(Timestamp::from)
}

fn ended(record: &OperationRecord) -> Option<Timestamp> {
    record.server_metadata.as_ref()?.end_time.as_ref().map(Timestamp::from)
}

const RUNNING: &str = "state() = (RUNNING OR CANCELLING)";
const FAILED: &str = "state() = FAILED";
/// The parent that stands for all.
const EVERY: &str = "-";
/// Queues in one poll.
const MAX_QUEUES: i32 = 200;
/// Workers in one poll.
const MAX_WORKERS: i32 = 100;
/// Running operations in one poll.
const MAX_RUNNING: i32 = 100;
/// Failures in one poll.
const MAX_FAILURES: i32 = 50;
/// Key presses that are read before they are drawn.
const MAX_EVENTS: usize = 16;
/// How long a poll may take before the next one.
const PATIENCE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);
const LONGEST_INTERVAL: Duration = Duration::from_hours(1);
