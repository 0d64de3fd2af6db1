//! Takes in what a program prints: progress, the response, and the last lines on standard error.

use std::collections::VecDeque;

use tokio::io::AsyncRead;

use super::lines::{Line, LineReader};
use super::response::Response;
use crate::limits::MAX_TEXT_BYTES;
use crate::proto::longhaul::v1::Progress;
use crate::worker::context::Context;

/// The part of a program's output that is kept.
pub(super) struct ProgramOutput<'a> {
    context: &'a Context,
    response: Response,
    /// The last lines on standard error.
    stderr_tail: VecDeque<String>,
}

impl<'a> ProgramOutput<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context, response: Response::default(), stderr_tail: VecDeque::new() }
    }

    /// Reads both streams to their ends.
    pub(super) async fn listen(
        &mut self,
        stdout: &mut LineReader<impl AsyncRead + Unpin>,
        stderr: &mut LineReader<impl AsyncRead + Unpin>,
    ) {
        let (mut stdout_open, mut stderr_open) = (true, true);
        while stdout_open || stderr_open {
            tokio::select! {
                line = stdout.next(), if stdout_open => match line {
                    Some(line) => self.take_in_output(&line),
                    None => stdout_open = false,
                },
                line = stderr.next(), if stderr_open => match line {
                    Some(line) => self.take_in_stderr(&line),
                    None => stderr_open = false,
                },
            }
        }
    }

    /// Reports progress at once; other lines may be the response.
    pub(super) fn take_in_output(&mut self, line: &Line<'_>) {
        match progress(line.bytes) {
            Some(progress) => self.context.progress(progress),
            None => self.response.take_in(line),
        }
    }

    /// Logs every line, and keeps the last ones.
    pub(super) fn take_in_stderr(&mut self, line: &Line<'_>) {
        let mut text = String::from_utf8_lossy(line.bytes).trim_end().to_owned();
        if line.cut {
            text.push_str("...");
        }
        tracing::info!(operation = self.context.operation(), line = text, "stderr");
        if self.stderr_tail.len() == TAIL_LINES {
            self.stderr_tail.pop_front();
        }
        self.stderr_tail.push_back(text.chars().take(TAIL_CHARACTERS).collect());
    }

    pub(super) fn end(&mut self) -> (Result<Option<serde_json::Value>, String>, String) {
        let stderr_tail = Vec::from(std::mem::take(&mut self.stderr_tail)).join("\n");
        (std::mem::take(&mut self.response).end(), stderr_tail.trim().to_owned())
    }
}

/// Reads `progress 0.4 message`.
fn progress(line: &[u8]) -> Option<Progress> {
    let rest = line.strip_prefix(b"progress ")?;
    let rest = String::from_utf8_lossy(&rest[..rest.len().min(2 * MAX_TEXT_BYTES)]);
    let rest = rest.trim_start();
    let (number, message) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let fraction = number.parse().ok().filter(|fraction| (0.0..=1.0).contains(fraction))?;
    let message = cut(message.trim(), MAX_TEXT_BYTES).to_owned();
    Some(Progress { fraction: Some(fraction), message, ..Progress::default() })
}

/// The longest prefix of at most `most` bytes.
pub(super) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

pub(super) const TAIL_LINES: usize = 20;
pub(super) const TAIL_CHARACTERS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines_are_read_and_others_are_not() {
        let read = |line: &[u8]| {
            progress(line).map(|progress| (progress.fraction.unwrap_or_default(), progress.message))
        };
        assert_eq!(read(b"progress 0.4 half way"), Some((0.4, "half way".to_owned())));
        assert_eq!(read(b"progress 1"), Some((1.0, String::new())));
        assert_eq!(read(b"progress 1\r"), Some((1.0, String::new())));
        assert_eq!(read(b"progress  .5  \xff\r"), Some((0.5, "\u{fffd}".to_owned())));
        let long = format!("progress 0.5 {}", "\u{20ac}".repeat(MAX_TEXT_BYTES));
        let (_, message) = read(long.as_bytes()).expect("progress");
        assert_eq!(message, "\u{20ac}".repeat(MAX_TEXT_BYTES / 3));
        for line in [
            "progress",
            "progress x",
            "progress 1.5 m",
            "progressing 0.1",
            " progress 0.1",
            "progress NaN",
            "progress 1e400",
            "progress -1 m",
        ] {
            assert_eq!(read(line.as_bytes()), None, "{line}");
        }
    }
}
