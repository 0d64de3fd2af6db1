//! The one place that prints: results on standard output, everything else on standard error.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Logs go to standard error; `LONGHAUL_LOG` filters them.
pub(super) fn start_logging() {
    let filter = EnvFilter::try_from_env("LONGHAUL_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,fjall=warn,lsm_tree=warn"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .init();
}

/// Says what went wrong.
pub(super) fn error(error: &anyhow::Error) {
    eprintln!("longhaul: {error:#}");
}

/// Prints a text as it is.
pub(super) fn text(text: &str) {
    println!("{text}");
}
