//! The one place that prints: results on standard output, everything else on standard error.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Logs go to standard error; `LONGHAUL_LOG` filters them.
pub(super) fn start_logging(level: &str) {
    let filter = EnvFilter::try_from_env("LONGHAUL_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},fjall=warn,lsm_tree=warn")));
    let colours = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false);
    // What reads the log may go away; a server must not fall over that.
    subscriber.log_internal_errors(false).init();
}

/// Says what went wrong.
pub(super) fn error(message: &str) {
    eprintln!("longhaul: {message}");
}

/// Prints a text as it is.
pub(super) fn text(text: &str) {
    println!("{text}");
}

/// Prints JSON, indented.
pub(super) fn json(value: &serde_json::Value) {
    println!("{value:#}");
}

/// Says something beside the result.
pub(super) fn note(text: &str) {
    eprintln!("{text}");
}
