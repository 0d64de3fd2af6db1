//! Logs on standard error, one line for each event. Control characters in fields are escaped.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, SubscriberBuilder};

use super::{output, plain};

/// Starts logging; `LONGHAUL_LOG` filters.
pub(super) fn start(level: &str) {
    let filter = EnvFilter::try_from_env("LONGHAUL_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},fjall=warn,lsm_tree=warn")));
    let subscriber = plain_lines()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output::has_colours());
    // The reader of the log may go away; the server must continue.
    subscriber.log_internal_errors(false).init();
}

/// The format of every log.
fn plain_lines() -> SubscriberBuilder<PlainFields> {
    tracing_subscriber::fmt().with_target(false).fmt_fields(PlainFields)
}

/// The message, and each field as `name=value`.
struct PlainFields;

impl<'writer> FormatFields<'writer> for PlainFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = PlainVisitor { writer, begun: false, written: Ok(()) };
        fields.record(&mut visitor);
        visitor.written
    }
}

struct PlainVisitor<'writer> {
    writer: Writer<'writer>,
    begun: bool,
    written: fmt::Result,
}

impl Visit for PlainVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Fields of the crate `log` that repeat the event's metadata.
        if self.written.is_err() || field.name().starts_with("log.") {
            return;
        }
        let space = if std::mem::replace(&mut self.begun, true) { " " } else { "" };
        let value = plain::line(&format!("{value:?}"));
        self.written = match field.name() {
            "message" => write!(self.writer, "{space}{value}"),
            name => write!(self.writer, "{space}{name}={value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("a log").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_its_fields_hold() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = plain_lines()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let hostile = "a\n\u{1b}[2Jb\u{202e}";
            tracing::info!(shown = %hostile, text = hostile, number = 7, "said {hostile}");
        });
        let log = String::from_utf8(kept.0.lock().expect("a log").clone()).expect("a text");
        assert_eq!(log.matches('\n').count(), 1, "{log:?}");
        assert!(log.contains("said a\\n\\u001b[2Jb\\u202e"), "{log:?}");
        assert!(log.contains(" shown=a\\n\\u001b[2Jb\\u202e"), "{log:?}");
        assert!(log.ends_with(" number=7\n"), "{log:?}");
        assert!(!log.trim_end().chars().any(plain::is_unsafe), "{log:?}");
    }
}
