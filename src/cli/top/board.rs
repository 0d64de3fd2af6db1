//! What the dashboard shows, and what keys do with it.

use std::time::Duration;

use ratatui::crossterm::event::{Event, KeyCode, KeyModifiers};

use crate::clock::Timestamp;
use crate::proto::longhaul::v1::operation_record::State;
use crate::proto::longhaul::v1::{OperationRecord, OperationStats, Queue, Worker};

/// The answer of the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetched {
    /// When, by this machine's clock.
    pub(super) now: Timestamp,
    pub(super) stats: OperationStats,
    pub(super) running: Vec<OperationRecord>,
    pub(super) failures: Vec<OperationRecord>,
    /// Only if operations of all parents are shown.
    pub(super) queues: Vec<Queue>,
    pub(super) workers: Vec<Worker>,
    /// The opened operation, and its record as text that is escaped already.
    pub(super) details: Option<(String, String)>,
}

/// Everything that is shown.
#[derive(Clone, Debug)]
pub(super) struct Board {
    pub(super) server: String,
    pub(super) parent: String,
    pub(super) now: Timestamp,
    /// The last answer; empty before the first.
    pub(super) polled: Fetched,
    /// Between the last two counts; `None` before the second.
    pub(super) rates: Option<Rates>,
    /// Why the last poll had no answer.
    outage: Option<String>,
    /// The row of the selected operation: running ones first, then failures.
    pub(super) selected: usize,
    /// The operation whose details are shown, and the first line of them.
    opened: Option<(String, usize)>,
    /// The counts that the next rates are measured from.
    counted: Option<OperationStats>,
    /// An answer that is older is late.
    late: Duration,
}

/// Operations in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    pub(super) started: f64,
    pub(super) ended: f64,
    pub(super) failed: f64,
}

/// What follows a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterKey {
    Stay,
    Quit,
}

impl Board {
    pub(super) fn new(server: &str, parent: &str, interval: Duration, now: Timestamp) -> Self {
        Self {
            server: server.to_owned(),
            parent: parent.to_owned(),
            now,
            polled: Fetched { now, ..Fetched::default() },
            rates: None,
            outage: None,
            selected: 0,
            opened: None,
            counted: None,
            late: interval + GRACE,
        }
    }

    /// Takes in an answer, or why there is none. The last one stays on the board meanwhile.
    pub(super) fn take(&mut self, polled: Result<Fetched, String>) {
        let polled = match polled {
            Ok(polled) => polled,
            Err(outage) => {
                self.outage = Some(outage);
                (self.rates, self.counted) = (None, None);
                return;
            }
        };
        self.outage = None;
        self.now = polled.now;
        self.count(&polled.stats);
        // The selection stays on its operation while that is shown.
        let selected = self.selected_name().map(str::to_owned);
        self.polled = polled;
        let row = selected.and_then(|name| self.rows().position(|record| record.name == name));
        self.selected = row.unwrap_or(self.selected).min(self.last_row());
    }

    /// Takes rates over a second at least: opened details make polls that follow sooner.
    fn count(&mut self, stats: &OperationStats) {
        let Some(before) = &self.counted else {
            self.counted = Some(stats.clone());
            return;
        };
        if passed(before, stats).is_some_and(|passed| passed >= SHORTEST_MEASURE) {
            self.rates = rates(before, stats);
            self.counted = Some(stats.clone());
        }
    }

    /// Time goes on without an answer.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// How long there has been no answer, and why if that is known.
    pub(super) fn outage(&self) -> Option<(Duration, &str)> {
        let silence = self.now.since(self.polled.now);
        let cause = self.outage.as_deref();
        (cause.is_some() || silence > self.late).then(|| (silence, cause.unwrap_or_default()))
    }

    /// The operations that can be selected.
    pub(super) fn rows(&self) -> impl Iterator<Item = &OperationRecord> {
        self.polled.running.iter().chain(&self.polled.failures)
    }

    fn last_row(&self) -> usize {
        self.rows().count().saturating_sub(1)
    }

    fn selected_name(&self) -> Option<&str> {
        self.rows().nth(self.selected).map(|record| record.name.as_str())
    }

    /// The operation whose details are shown.
    pub(super) fn opened(&self) -> Option<&str> {
        self.opened.as_ref().map(|(name, _)| name.as_str())
    }

    /// The lines of the opened details from the first that is shown, once they are there.
    pub(super) fn details(&self) -> Option<impl Iterator<Item = &str>> {
        let (name, first) = self.opened.as_ref()?;
        Some(self.text_of(name)?.lines().skip(*first))
    }

    fn text_of(&self, name: &str) -> Option<&str> {
        let details = self.polled.details.as_ref();
        details.filter(|(of, _)| of == name).map(|(_, text)| text.as_str())
    }

    /// Does what a key asks for.
    pub(super) fn step(&mut self, event: Event) -> AfterKey {
        let Event::Key(key) = event else { return AfterKey::Stay };
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if is_control => return AfterKey::Quit,
            KeyCode::Char('q') => return AfterKey::Quit,
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => self.opened = None,
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::PageUp => self.go(-PAGE),
            KeyCode::PageDown => self.go(PAGE),
            KeyCode::Home => self.go(isize::MIN),
            KeyCode::End => self.go(isize::MAX),
            KeyCode::Enter | KeyCode::Right => self.open(),
            _ => {}
        }
        AfterKey::Stay
    }

    fn go(&mut self, rows: isize) {
        let lines = self.opened().and_then(|name| self.text_of(name)).map(|text| text.lines());
        let last = lines.map_or(self.last_row(), |lines| lines.count().saturating_sub(1));
        let place = self.opened.as_mut().map_or(&mut self.selected, |(_, line)| line);
        *place = place.saturating_add_signed(rows).min(last);
    }

    fn open(&mut self) {
        if self.opened.is_none() {
            self.opened = self.selected_name().map(|name| (name.to_owned(), 0));
        }
    }
}

fn passed(before: &OperationStats, after: &OperationStats) -> Option<Duration> {
    let time = |stats: &OperationStats| stats.read_time.as_ref().map(Timestamp::from);
    Some(time(after)?.since(time(before)?))
}

/// What expires or is deleted meanwhile hides starts and ends, so these are estimates.
fn rates(before: &OperationStats, after: &OperationStats) -> Option<Rates> {
    let seconds = passed(before, after)?.as_secs_f64();
    let rate =
        |states: &[State]| (count(after, states) - count(before, states)).max(0) as f64 / seconds;
    let failed = rate(&[State::Failed]);
    Some(Rates { started: rate(&ALL), ended: rate(&ENDED), failed })
}

/// The operations in these states.
pub(super) fn count(stats: &OperationStats, states: &[State]) -> i64 {
    let counts = stats.counts.iter().filter(|count| states.contains(&count.state()));
    counts.map(|count| count.operations).sum()
}

/// All states, in the order in which they are shown: what needs attention first.
pub(super) const ALL: [State; 7] = [
    State::Pending,
    State::Running,
    State::Cancelling,
    State::Suspended,
    State::Failed,
    State::Cancelled,
    State::Succeeded,
];
const ENDED: [State; 3] = [State::Failed, State::Cancelled, State::Succeeded];
/// Rows of a step by page.
const PAGE: isize = 10;
/// How much longer than the interval an answer may take before the board says so.
const GRACE: Duration = Duration::from_secs(2);
/// The shortest time that rates are taken over.
const SHORTEST_MEASURE: Duration = Duration::from_millis(900);
