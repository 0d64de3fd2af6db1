//! Printing, in one place: results on standard output, everything else on standard error.

use std::io::{ErrorKind, IsTerminal, Write};

use prost::Message;

use super::exit::Failure;
use super::plain;
use crate::types::Registry;

/// Reports a failure, unless it was reported already.
pub(super) fn failure(failure: &Failure) {
    match failure {
        Failure::Told(_) => {}
        // On a terminal, successes and failures of operations are printed in one column.
        Failure::OperationFailed(text) if is_terminal() => note(&painted(text, RED)),
        Failure::OperationCancelled(text) if is_terminal() => note(&painted(text, YELLOW)),
        failure => note(&format!("longhaul: {}", plain::line(&failure.message()))),
    }
}

/// Reports a success, on a terminal only.
pub(super) fn success(message: &str) {
    note(&painted(message, GREEN));
}

/// Prints a line of text.
pub(super) fn line(line: &str) {
    text(&plain::line(line));
}

/// Prints a text unchanged. Texts from outside must be escaped already.
pub(super) fn text(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        // The reader has seen enough, as in `longhaul list | head`.
        if error.kind() != ErrorKind::BrokenPipe {
            note(&format!("longhaul: cannot print: {error}"));
        }
        std::process::exit(1);
    }
}

/// Prints JSON, indented.
pub(super) fn json(value: &serde_json::Value) {
    exact(&format!("{value:#}"));
}

/// Prints a message as proto3 JSON; `name` is the full name of its type.
pub(super) fn message(name: &str, message: &impl Message) {
    if let Some(value) = Registry::builtin().json_of(name, &message.encode_to_vec()) {
        json(&value);
    }
}

/// Prints JSON unchanged; on a terminal with unsafe characters escaped.
pub(super) fn exact(json: &str) {
    if std::io::stdout().is_terminal() { text(&plain::json(json)) } else { text(json) }
}

/// Prints a message on standard error.
pub(super) fn note(text: &str) {
    // A closed standard error is no failure.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether standard error is a terminal that can move its cursor.
pub(super) fn is_live() -> bool {
    is_terminal() && std::env::var_os("TERM").is_some_and(|kind| kind != "dumb" && !kind.is_empty())
}

/// Whether to use colours on standard error.
pub(super) fn has_colours() -> bool {
    is_live() && std::env::var_os("NO_COLOR").is_none()
}

fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

fn painted(text: &str, colour: &str) -> String {
    let text = plain::line(text);
    if has_colours() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text }
}

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
