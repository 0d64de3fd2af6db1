//! Follows an operation to its end, and shows the way: a live bar on a terminal, plain lines where the output is piped.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::exit::Failure;
use super::{output, table};
use crate::client::Client;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::proto::google::longrunning::{Operation, operation};
use crate::proto::longhaul::v1::watch_operation_response::Type;
use crate::proto::longhaul::v1::{OperationMetadata, WatchOperationRequest};
use crate::wire::json::Registry;

/// How to show it.
pub(super) struct Style {
    registry: Registry,
    json: bool,
    /// Every step as a line, rather than only the end.
    lines: bool,
    several: bool,
    bars: Option<MultiProgress>,
}

impl Style {
    pub(super) fn new(json: bool, every_step: bool, several: bool) -> Result<Self, Failure> {
        let live = std::io::stderr().is_terminal() && !json;
        let bars =
            live.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(20)));
        Ok(Self { registry: Registry::builtin()?, json, lines: every_step && !live, several, bars })
    }

    /// Takes the bars off the screen.
    pub(super) fn clear(&self) {
        if let Some(bars) = &self.bars {
            // A terminal that is gone needs no clearing.
            let _ = bars.clear();
        }
    }

    fn bar(&self, name: &str) -> Option<ProgressBar> {
        let bar = self.bars.as_ref()?.add(ProgressBar::new(FULL));
        bar.set_style(waiting_style());
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Some(bar)
    }
}

/// Follows one operation; an error where it did not end well.
pub(super) async fn follow(client: &Client, name: &str, style: &Style) -> Result<(), Failure> {
    let bar = style.bar(name);
    let mut watch = client
        .watch(WatchOperationRequest { name: name.to_owned(), ..WatchOperationRequest::default() });
    let mut last = None;
    while let Some(event) = watch.next().await? {
        let server = event.server_metadata.clone().unwrap_or_default();
        match event.r#type() {
            Type::Deleted => {
                finish(bar.as_ref(), "deleted");
                return Err(Failure::NotFound(format!("{name} was deleted")));
            }
            Type::Heartbeat | Type::Unspecified => continue,
            _ => {}
        }
        if let Some(bar) = &bar {
            draw(bar, &server, SystemClock::new().now());
        }
        if style.lines && last.as_ref() != Some(&server) {
            let line = if style.json {
                event
                    .operation
                    .as_ref()
                    .map(|operation| style.registry.operation(operation).to_string())
                    .unwrap_or_default()
            } else {
                table::step(if style.several { name } else { "" }, &server)
            };
            output::text(&line);
        }
        last = Some(server);
        if let Some(operation) = event.operation.filter(|operation| operation.done) {
            finish(bar.as_ref(), "");
            return end(&operation, style);
        }
    }
    Err(Failure::NoAnswer(format!("the watch of {name} ended before the operation did")))
}

fn end(operation: &Operation, style: &Style) -> Result<(), Failure> {
    match (&operation.result, style.json) {
        // Lines of JSON already end with the last state.
        (_, true) if style.lines => {}
        (_, true) => output::json(&style.registry.operation(operation)),
        (Some(operation::Result::Response(response)), false) => {
            let response = table::response(&style.registry, response);
            if !response.is_empty() {
                output::text(&if style.several {
                    format!("{}: {response}", operation.name)
                } else {
                    response
                });
            }
        }
        _ => {}
    }
    match &operation.result {
        Some(operation::Result::Error(error)) if error.code == tonic::Code::Cancelled as i32 => {
            Err(Failure::OperationCancelled(format!(
                "{}: cancelled: {}",
                operation.name, error.message
            )))
        }
        Some(operation::Result::Error(error)) => {
            let code = tonic::Code::from_i32(error.code);
            Err(Failure::OperationFailed(format!(
                "{}: failed: {} ({code:?})",
                operation.name, error.message
            )))
        }
        _ => Ok(()),
    }
}

fn draw(bar: &ProgressBar, server: &OperationMetadata, now: Timestamp) {
    let progress = server.progress.clone().unwrap_or_default();
    match table::fraction(server) {
        Some(fraction) => {
            bar.set_style(known_style());
            bar.set_position((fraction * FULL as f64) as u64);
        }
        None => bar.set_style(waiting_style()),
    }
    bar.set_message(
        [table::doing(server), table::units(&progress), table::remaining(server, now)]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("  "),
    );
}

fn finish(bar: Option<&ProgressBar>, message: &str) {
    if let Some(bar) = bar {
        if message.is_empty() { bar.finish() } else { bar.finish_with_message(message.to_owned()) }
    }
}

fn known_style() -> ProgressStyle {
    style("{prefix:.bold} {bar:30.cyan/black.bright} {percent:>3}%  {wide_msg}")
}

fn waiting_style() -> ProgressStyle {
    style("{prefix:.bold} {spinner:.cyan} {wide_msg}")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// The bar's length: fine enough for any terminal.
const FULL: u64 = 1_000;
