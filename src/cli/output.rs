//! The one place that prints: results on standard output, everything else on standard error.

use std::io::{ErrorKind, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use super::exit::Failure;

/// Logs go to standard error; `LONGHAUL_LOG` filters them.
pub(super) fn start_logging(level: &str) {
    let filter = EnvFilter::try_from_env("LONGHAUL_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},fjall=warn,lsm_tree=warn")));
    let colours = is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false);
    // What reads the log may go away; a server must not fall over that.
    subscriber.log_internal_errors(false).init();
}

/// Says what went wrong, unless that was done where it happened.
pub(super) fn failure(failure: &Failure) {
    match failure {
        Failure::Told(_) => {}
        // On a terminal the ends of operations stand below each other, good and bad.
        Failure::OperationFailed(text) if is_terminal() => note(&painted(text, RED)),
        Failure::OperationCancelled(text) if is_terminal() => note(&painted(text, YELLOW)),
        failure => note(&format!("longhaul: {}", failure.message())),
    }
}

/// Says on a terminal what went well.
pub(super) fn success(message: &str) {
    note(&painted(message, GREEN));
}

/// Prints a text as it is.
pub(super) fn text(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        // Who reads has seen enough, as in `longhaul list | head`.
        if error.kind() != ErrorKind::BrokenPipe {
            note(&format!("longhaul: cannot print: {error}"));
        }
        std::process::exit(1);
    }
}

/// Prints JSON, indented.
pub(super) fn json(value: &serde_json::Value) {
    text(&format!("{value:#}"));
}

/// Says something beside the result.
pub(super) fn note(text: &str) {
    // Where nobody listens, nothing is lost.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

fn painted(text: &str, colour: &str) -> String {
    match std::env::var_os("NO_COLOR") {
        None => format!("\x1b[{colour}m{text}\x1b[0m"),
        Some(_) => text.to_owned(),
    }
}

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
