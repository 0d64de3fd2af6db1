//! Bars on the terminal, one for each operation that is followed; where standard error is piped there are none.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::table;
use crate::clock::{Clock, SystemClock};
use crate::proto::longhaul::v1::OperationMetadata;
use crate::proto::longhaul::v1::operation_record::State;

/// The terminal, if there is one.
pub(super) struct Screen {
    bars: Option<MultiProgress>,
    /// Of the names in front of the bars; 0 where a bar is alone, and needs no name.
    width: usize,
}

/// The bar of one operation. It leaves the screen when it is dropped.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    shown: RefCell<Shown>,
}

#[derive(Default)]
struct Shown {
    server: OperationMetadata,
    trouble: String,
    /// What keeps the server from answering; nothing where it does.
    outage: String,
}

impl Screen {
    /// No bars.
    pub(super) const fn none() -> Self {
        Self { bars: None, width: 0 }
    }

    /// Room for the bars of these operations.
    pub(super) fn of(names: &[String]) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::none();
        }
        let target = ProgressDrawTarget::stderr_with_hz(20);
        let longest = names.iter().map(|name| label(name).len()).max().unwrap_or_default();
        Self {
            bars: Some(MultiProgress::with_draw_target(target)),
            width: if names.len() > 1 { longest } else { 0 },
        }
    }

    pub(super) const fn is_live(&self) -> bool {
        self.bars.is_some()
    }

    /// A bar below those that are there.
    pub(super) fn bar(&self, name: &str) -> Bar {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(FULL).with_style(style(WAITING)));
            if self.width > 0 {
                bar.set_prefix(format!("{:<width$}  ", label(name), width = self.width));
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Bar { bar, shown: RefCell::default() }
    }

    /// Lets something print above the bars.
    pub(super) fn print(&self, print: impl FnOnce()) {
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}

impl Bar {
    /// Shows a state, and what went wrong with the attempt before.
    pub(super) fn show(&self, server: &OperationMetadata, trouble: &str) {
        let (server, trouble) = (server.clone(), trouble.to_owned());
        self.shown.replace(Shown { server, trouble, outage: String::new() });
        self.draw();
    }

    /// Shows an outage instead, or no more.
    pub(super) fn show_outage(&self, outage: &str) {
        outage.clone_into(&mut self.shown.borrow_mut().outage);
        self.draw();
    }

    /// Shows it again, as it looks by now.
    pub(super) fn draw(&self) {
        let Some(bar) = &self.bar else { return };
        let Shown { server, trouble, outage } = &*self.shown.borrow();
        if !outage.is_empty() {
            // Nothing is known of how far it is by now.
            bar.set_style(style(WAITING));
            bar.set_message(outage.clone());
            return;
        }
        // What an attempt reported counts no more once it is over.
        let pending = matches!(server.state(), State::Pending | State::Unspecified);
        match table::fraction(server) {
            Some(fraction) if !pending => {
                bar.set_style(style(KNOWN));
                bar.set_position((fraction * FULL as f64) as u64);
            }
            _ => bar.set_style(style(if pending { WAITING } else { UNKNOWN })),
        }
        // One line: a bar that wraps cannot be drawn over.
        let text = table::live(server, trouble, SystemClock::new().now());
        bar.set_message(text.lines().collect::<Vec<_>>().join(" "));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The name in front of a bar: as short as it can be told from others.
fn label(name: &str) -> String {
    let name = name.strip_prefix("operations/").unwrap_or(name);
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= LONGEST_LABEL {
        return name.to_owned();
    }
    let (start, end) = (&letters[..LABEL_START], &letters[letters.len() - LABEL_END..]);
    start.iter().chain(&['.', '.']).chain(end).collect()
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
/// Of a bar, between its brackets.
const WIDTH: usize = 20;
/// The bar's length: fine enough for any terminal.
const FULL: u64 = 1_000;
const TICK: Duration = Duration::from_millis(100);
const LONGEST_LABEL: usize = 20;
const LABEL_START: usize = 8;
const LABEL_END: usize = 10;
