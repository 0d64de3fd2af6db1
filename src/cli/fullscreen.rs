//! A terminal of its own for a table that changes: only lines that differ are written, so it works on a slow link.

use std::fmt::Write as _;
use std::io::Write as _;

use console::{Term, truncate_str};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Failure;

/// The terminal while a table is shown. Dropping it brings back what was there before.
pub(super) struct FullScreen {
    term: Term,
    lines: Vec<String>,
    size: (usize, usize),
}

impl FullScreen {
    /// Takes over the terminal.
    pub(super) fn enter() -> Self {
        let screen = Self { term: Term::stderr(), lines: Vec::new(), size: (0, 0) };
        screen.write(ENTER);
        screen
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.term.size_checked().unwrap_or(USUAL_SIZE);
        (usize::from(rows), usize::from(columns))
    }

    /// Shows these lines, as far as there is room.
    pub(super) fn draw(&mut self, lines: Vec<String>) {
        let (rows, columns) = self.size();
        let mut text = String::new();
        if self.size != (rows, columns) {
            self.size = (rows, columns);
            self.lines.clear();
            text.push_str(CLEAR);
        }
        let cut = |line: String| truncate_str(&line, columns, "").into_owned();
        let lines: Vec<String> = lines.into_iter().take(rows).map(cut).collect();
        for row in 0..lines.len().max(self.lines.len()) {
            let line = lines.get(row).map_or("", String::as_str);
            if self.lines.get(row).map_or("", String::as_str) != line {
                // Writing to a String cannot fail.
                let _ = write!(text, "\x1b[{};1H{line}\x1b[0m\x1b[K", row + 1);
            }
        }
        self.lines = lines;
        if !text.is_empty() {
            self.write(&text);
        }
    }

    fn write(&self, text: &str) {
        let mut term = &self.term;
        // A closed terminal is no failure: its signal ends the process.
        let _ = term.write_all(text.as_bytes()).and_then(|()| term.flush());
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        self.write(LEAVE);
    }
}

/// The signals that end what is shown, so that the terminal is as before.
pub(super) struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl EndSignals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(anyhow::Error::from);
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: listen(interrupt)?, terminate: listen(terminate)? })
    }

    pub(super) async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The other screen, without a cursor and without wrapping.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const CLEAR: &str = "\x1b[2J";
/// Rows and columns of a terminal of unknown size.
const USUAL_SIZE: (u16, u16) = (24, 80);
