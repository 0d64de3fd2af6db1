//! A line on the terminal that shows how far a long command is; nothing where standard error is no terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;

/// The line. Dropping it removes it.
pub(super) struct Gauge {
    bar: ProgressBar,
}

impl Gauge {
    /// Counts, towards no known end.
    pub(super) fn counting(what: &'static str) -> Self {
        Self::new(None, &format!("{{spinner}} {{human_pos}} {what}, {{per_sec}}"))
    }

    /// Fills a bar up to `total`.
    pub(super) fn towards(total: u64, what: &'static str) -> Self {
        let template = format!("{what} {{wide_bar}} {{percent}}%  {{msg}}  {{eta}} left");
        Self::new(Some(total), &template)
    }

    fn new(total: Option<u64>, template: &str) -> Self {
        let target = if output::is_live() {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::with_draw_target(total, target);
        Self { bar: bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())) }
    }

    /// Shows this position.
    pub(super) fn at(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Shows this position, and a text beside it.
    pub(super) fn at_with(&self, position: u64, text: String) {
        self.bar.set_message(text);
        self.bar.set_position(position);
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
