//! Logs on standard error, one line for each event. Control characters in fields are escaped. Lines of the audit log go to a
//! file of their own, if there is one.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, PoisonError, RwLock};

use anyhow::Context;
use tokio::signal::unix::Signal;
use tracing::Metadata;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter, SubscriberBuilder};

use super::{output, plain};
use crate::engine::AUDIT;

/// Starts logging; `LONGHAUL_LOG` filters.
pub(super) fn start(level: &str) {
    let filter = EnvFilter::try_from_env("LONGHAUL_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},fjall=warn,lsm_tree=warn")));
    // The audit log is whole, whatever the log leaves out.
    let filter = match format!("{AUDIT}={}", LevelFilter::INFO).parse() {
        Ok(always) => filter.add_directive(always),
        Err(_) => filter,
    };
    let subscriber = plain_lines()
        .with_env_filter(filter)
        .with_writer(LogWriters)
        .with_ansi(output::has_colours());
    // The reader of the log may go away; the server must continue.
    subscriber.log_internal_errors(false).init();
}

/// Appends the lines of the audit log to that file from now on, which only its owner can read.
pub(super) fn audit_to(path: &Path) -> anyhow::Result<()> {
    let file = RwLock::new(open(path)?);
    // A second server in this process would use the same file.
    drop(AUDIT_FILE.set(AuditFile { path: path.to_owned(), file }));
    Ok(())
}

/// Opens the file of the audit log again at each SIGHUP, so that it can be moved away.
pub(super) async fn follow_audit(mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let Some(audit) = AUDIT_FILE.get() else { return };
        match open(&audit.path) {
            Ok(file) => *audit.file.write().unwrap_or_else(PoisonError::into_inner) = file,
            Err(error) => tracing::error!(%error, "the audit log goes on in the former file"),
        }
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    let opened = File::options().create(true).append(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot open the audit log {}", path.display()))
}

/// The file of the audit log.
struct AuditFile {
    path: PathBuf,
    file: RwLock<File>,
}

static AUDIT_FILE: OnceLock<AuditFile> = OnceLock::new();

/// Standard error, and the file of the audit log for its lines.
struct LogWriters;

enum LogWriter {
    Stderr(io::Stderr),
    Audit(&'static AuditFile),
}

impl MakeWriter<'_> for LogWriters {
    type Writer = LogWriter;

    fn make_writer(&self) -> LogWriter {
        LogWriter::Stderr(io::stderr())
    }

    fn make_writer_for(&self, event: &Metadata<'_>) -> LogWriter {
        match AUDIT_FILE.get() {
            Some(file) if event.target() == AUDIT => LogWriter::Audit(file),
            _ => self.make_writer(),
        }
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr(stderr) => stderr.write(line),
            Self::Audit(audit) => {
                // The colours are for the terminal that the other lines go to.
                let text = String::from_utf8_lossy(line);
                let mut file = &*audit.file.read().unwrap_or_else(PoisonError::into_inner);
                file.write_all(console::strip_ansi_codes(&text).as_bytes())?;
                Ok(line.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
