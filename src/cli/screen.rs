//! Bars on the terminal, one for each followed operation as far as there is room. None if standard error is piped or the
//! terminal cannot move its cursor.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::labels::labels;
use super::output;
use super::table::{self, Ahead};
use crate::clock::{Clock, SystemClock};
use crate::proto::longhaul::v1::OperationMetadata;
use crate::proto::longhaul::v1::operation_record::State;

/// The terminal, if there is one.
pub(super) struct Screen {
    live: Option<Live>,
}

/// A terminal with bars.
struct Live {
    bars: MultiProgress,
    names: Vec<String>,
    /// Operations still followed, by position among the names.
    open: RefCell<BTreeSet<usize>>,
    /// Operations with a bar on the screen.
    drawn: RefCell<BTreeSet<usize>>,
    /// Operations without room for a bar.
    hidden: RefCell<BTreeSet<usize>>,
    /// The line with the number of hidden operations.
    more: RefCell<Option<ProgressBar>>,
    /// The labels of the bars, for a width.
    labels: RefCell<(usize, Vec<String>)>,
}

/// The bar of one operation. Dropping it removes the bar.
pub(super) struct Bar<'screen> {
    live: Option<&'screen Live>,
    position: usize,
    line: RefCell<Option<ProgressBar>>,
    shown: RefCell<Shown>,
}

#[derive(Default)]
struct Shown {
    server: OperationMetadata,
    ahead: Ahead,
    /// The current outage; empty if there is none.
    outage: String,
}

impl Screen {
    /// No bars.
    pub(super) const fn none() -> Self {
        Self { live: None }
    }

    /// Bars for these operations.
    pub(super) fn of(names: &[String]) -> Self {
        if !output::is_live() {
            return Self::none();
        }
        let target = ProgressDrawTarget::stderr_with_hz(20);
        Self {
            live: Some(Live {
                bars: MultiProgress::with_draw_target(target),
                names: names.to_vec(),
                open: RefCell::new((0..names.len()).collect()),
                drawn: RefCell::default(),
                hidden: RefCell::default(),
                more: RefCell::default(),
                labels: RefCell::default(),
            }),
        }
    }

    pub(super) const fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The bar of the operation at this position among the names.
    pub(super) fn bar(&self, position: usize) -> Bar<'_> {
        let bar = Bar {
            live: self.live.as_ref(),
            position,
            line: RefCell::default(),
            shown: RefCell::default(),
        };
        bar.draw();
        bar
    }

    /// Prints above the bars.
    pub(super) fn print(&self, print: impl FnOnce()) {
        match &self.live {
            Some(live) => live.bars.suspend(print),
            None => print(),
        }
    }
}

impl Live {
    /// Rows for bars: one row is for the cursor, and one for the number of hidden operations.
    fn room(&self, rows: usize) -> usize {
        let open = self.open.borrow().len();
        if open < rows { open } else { rows.saturating_sub(2).max(1) }
    }

    fn say_more(&self) {
        let hidden = self.hidden.borrow().len();
        let mut more = self.more.borrow_mut();
        if hidden == 0 {
            if let Some(line) = more.take() {
                self.remove(&line);
            }
            return;
        }
        let line = more.get_or_insert_with(|| {
            self.bars.insert_from_back(0, ProgressBar::new(FULL).with_style(style("{wide_msg}")))
        });
        line.set_message(format!("and {hidden} more, which follow as there is room"));
        line.tick();
    }

    fn label(&self, position: usize, columns: usize) -> String {
        if self.names.len() < 2 {
            return String::new();
        }
        let longest = LONGEST_LABEL.min(columns / 3);
        let mut kept = self.labels.borrow_mut();
        if kept.1.is_empty() || kept.0 != longest {
            *kept = (longest, labels(&self.names, longest));
        }
        let width = kept.1.iter().map(|label| label.chars().count()).max().unwrap_or_default();
        format!("{:<width$}  ", kept.1.get(position).map_or("", String::as_str))
    }

    fn remove(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.bars.remove(bar);
    }
}

impl Bar<'_> {
    /// Shows a state, and what the operation waits for.
    pub(super) fn show(&self, server: &OperationMetadata, ahead: &Ahead) {
        let (server, ahead) = (server.clone(), ahead.clone());
        self.shown.replace(Shown { server, ahead, outage: String::new() });
        self.draw();
    }

    /// Shows an outage instead; an empty text clears it.
    pub(super) fn show_outage(&self, outage: &str) {
        outage.clone_into(&mut self.shown.borrow_mut().outage);
        self.draw();
    }

    /// Redraws the bar for the current time and screen size.
    pub(super) fn draw(&self) {
        let Some(live) = self.live else { return };
        let (rows, columns) = Term::stderr().size_checked().unwrap_or(USUAL_SIZE);
        let (rows, columns) = (usize::from(rows), usize::from(columns));
        let room = live.room(rows);
        let rank = live.open.borrow().range(..self.position).count();
        if rank < room {
            live.hidden.borrow_mut().remove(&self.position);
            self.fill(live, columns);
        } else {
            self.hide(live);
            live.hidden.borrow_mut().insert(self.position);
        }
        live.say_more();
    }

    fn fill(&self, live: &Live, columns: usize) {
        let mut slot = self.line.borrow_mut();
        let bar = slot.get_or_insert_with(|| {
            let above = live.drawn.borrow().range(..self.position).count();
            live.drawn.borrow_mut().insert(self.position);
            let bar = live.bars.insert(above, ProgressBar::new(FULL));
            bar.enable_steady_tick(TICK);
            bar
        });
        let Shown { server, ahead, outage } = &*self.shown.borrow();
        if !outage.is_empty() {
            // The current progress is unknown.
            bar.set_style(style("{wide_msg}"));
            bar.set_message(format!("{}{outage}", live.label(self.position, columns)));
            return;
        }
        // Progress of an ended attempt does not count.
        let pending = matches!(server.state(), State::Pending | State::Unspecified);
        let fraction = table::fraction(server).filter(|_| !pending);
        // One line: a bar that wraps cannot be drawn over.
        let text = table::live(server, ahead, SystemClock::new().now());
        let label = live.label(self.position, columns);
        if columns < label.chars().count() + FIXED_WIDTH + LEAST_MESSAGE {
            let percent = fraction.map_or_else(|| " ".repeat(4), |_| table::percent(server));
            bar.set_style(style("{wide_msg}"));
            bar.set_message(format!("{label}{percent}  {text}"));
            return;
        }
        bar.set_style(style(match fraction {
            Some(_) => KNOWN,
            None if pending => WAITING,
            None => UNKNOWN,
        }));
        bar.set_position(fraction.map_or(0, |fraction| (fraction * FULL as f64) as u64));
        bar.set_prefix(label);
        bar.set_message(text);
    }

    fn hide(&self, live: &Live) {
        if let Some(bar) = self.line.take() {
            live.remove(&bar);
            live.drawn.borrow_mut().remove(&self.position);
        }
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        let Some(live) = self.live else { return };
        live.open.borrow_mut().remove(&self.position);
        live.hidden.borrow_mut().remove(&self.position);
        self.hide(live);
        live.say_more();
    }
}

fn style(template: &str) -> ProgressStyle {
    let there = (0..WIDTH - 2)
        .map(|left| format!("[{:left$}<=>{:right$}]", "", "", right = WIDTH - 3 - left));
    let mut ticks: Vec<String> = there.collect();
    ticks.extend(ticks.clone().into_iter().rev());
    let ticks: Vec<&str> = ticks.iter().map(String::as_str).collect();
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .tick_strings(&ticks)
}

const KNOWN: &str = "{prefix:.bold}[{bar:20.cyan}] {percent:>3}%  {wide_msg}";
const UNKNOWN: &str = "{prefix:.bold}{spinner:.cyan}       {wide_msg}";
const WAITING: &str = "{prefix:.bold}[                    ]       {wide_msg}";
/// Width of a bar between its brackets.
const WIDTH: usize = 20;
/// Width of a bar with its brackets and the percentage.
const FIXED_WIDTH: usize = WIDTH + 9;
/// Minimum room for text; with less, the bar is left out.
const LEAST_MESSAGE: usize = 20;
/// The bar's length: fine enough for any terminal.
const FULL: u64 = 1_000;
const TICK: Duration = Duration::from_millis(100);
const LONGEST_LABEL: usize = 20;
/// Rows and columns of a terminal of unknown size.
const USUAL_SIZE: (u16, u16) = (24, 80);
