//! `longhaul work`: any program as a worker.
//!
//! The program gets the request as JSON on standard input. Lines `progress 0.4 message` on its standard output become
//! progress, and the JSON that ends its output becomes the response. An exit code other than 0 fails the operation.
//! `docs/work.md` has the whole contract.

mod ending;
mod guard;
mod lines;
mod lookup;
mod program;
mod response;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::maybe_done;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use self::guard::ProgramGuard;
use self::lines::{Line, LineReader};
use self::program::{Program, Streams};
use self::response::Response;
use super::{Cancelled, Context, RunError, Stop, Worker};
use crate::client::Client;
use crate::clock::{Clock, SystemClock};
use crate::limits::{MAX_PROGRAM_LINE_BYTES, MAX_PROGRAM_RESPONSE_BYTES, MAX_TEXT_BYTES};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1::Progress;
use crate::types::Registry;

pub use self::guard::{gate, guard};
pub use self::lookup::{ProgramError, find_program};

/// Options of the worker.
#[derive(Clone, Debug)]
pub struct Options {
    /// The queue.
    pub queue: String,
    /// The worker's name.
    pub worker: String,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// How many operations run at the same time.
    pub concurrency: usize,
    /// How long each lease lasts from the last message of the worker.
    pub lease: Duration,
    /// How long after SIGTERM a cancelled program is killed.
    pub kill_after: Duration,
    /// The longhaul binary, which also runs as [`guard`] and [`gate`] of the programs.
    pub longhaul: PathBuf,
}

/// Why a worker that runs programs ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The process that ends the programs with the worker cannot be started.
    #[error("cannot start the guard of the programs: {0}")]
    Guard(io::Error),
    /// The worker itself ended.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Works until `stop`, then waits for running programs.
///
/// # Errors
/// As [`Worker::run_until`], and if the guard cannot be started.
pub async fn work(
    client: &Client,
    registry: Registry,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Result<(), WorkError> {
    let worker = Worker::builder(client)
        .queue(&options.queue)
        .name(&options.worker)
        .concurrency(options.concurrency)
        .lease_duration(options.lease);
    let guard = Arc::new(ProgramGuard::start(&options.longhaul).map_err(WorkError::Guard)?);
    let runner = Arc::new(Runner { options, registry, guard, clock: SystemClock::new() });
    let worker = worker.fallback(move |context, request| {
        let runner = runner.clone();
        async move { runner.run(&context, request).await }
    });
    Ok(worker.run_until(stop).await?)
}

/// Runs a program for each operation.
struct Runner {
    options: Options,
    registry: Registry,
    guard: Arc<ProgramGuard>,
    clock: Arc<dyn Clock>,
}

/// How a program ended, and its output.
struct Finished {
    status: io::Result<ExitStatus>,
    /// The worker sent it a signal, because the operation was cancelled or lost.
    stopped: bool,
    /// The last value of its output.
    response: Result<Option<serde_json::Value>, String>,
    stderr_tail: String,
}

/// The part of a program's output that is kept.
struct ProgramOutput<'a> {
    context: &'a Context,
    response: Response,
    /// The last lines on standard error.
    stderr_tail: VecDeque<String>,
}

impl Runner {
    async fn run(&self, context: &Context, request: Option<Any>) -> Result<Option<Any>, Stop> {
        let (operation, attempt) = (context.operation(), context.attempt());
        let program = match self.start(context) {
            Ok(program) => program,
            Err(error) => {
                tracing::error!(
                    operation,
                    attempt,
                    error,
                    "cannot start the program; the operation is released to the queue"
                );
                return Err(Stop::release(UNSTARTED_DELAY));
            }
        };
        tracing::info!(operation, attempt, method = context.method(), "started");
        let began = self.clock.elapsed();
        let input = request.map(|request| self.registry.bare(&request).to_string());
        let ended = self.supervise(program, input, context).await;
        let duration = self.clock.elapsed().saturating_sub(began);
        let end = self.result(&ended, context.response_type());
        ending::log(context, &ended, &end, duration);
        end.map(Some).map_err(|failure| Stop::fail(failure.code, failure.message))
    }

    /// The program may have gone since the worker started, which is not the operation's fault.
    fn start(&self, context: &Context) -> Result<Program, String> {
        find_program(&self.options.command[0]).map_err(|error| error.to_string())?;
        Program::start(&self.options, &self.guard, context).map_err(|error| error.to_string())
    }

    /// Runs the program to its end, and reads its streams a moment longer.
    async fn supervise(
        &self,
        mut program: Program,
        input: Option<String>,
        context: &Context,
    ) -> Finished {
        let (stdin, stdout, stderr): Streams = program.streams();
        let (stdout, stderr) = (
            &mut LineReader::new(stdout, MAX_PROGRAM_RESPONSE_BYTES),
            &mut LineReader::new(stderr, MAX_PROGRAM_LINE_BYTES),
        );
        let output = &mut ProgramOutput::new(context);
        let stopped = {
            let mut listening = std::pin::pin!(maybe_done(output.listen(stdout, stderr)));
            let talking = async {
                tokio::join!(feed(stdin, input), &mut listening);
                std::future::pending::<Infallible>().await
            };
            let stopped = tokio::select! {
                stopped = self.wait_or_stop(&mut program, context) => stopped,
                never = talking => match never {},
            };
            // Background processes may keep the streams open for ever.
            tokio::select! { () = listening => {}, () = self.clock.sleep(STREAMS_GRACE) => {} }
            stopped
        };
        if let Some(line) = stdout.rest() {
            output.take_in_output(&line);
        }
        if let Some(line) = stderr.rest() {
            output.take_in_stderr(&line);
        }
        let status = program.finish().await;
        let (response, stderr_tail) = output.end();
        Finished { status, stopped, response, stderr_tail }
    }

    /// Waits for the end of the program, and stops it if asked to. Returns whether it was stopped.
    async fn wait_or_stop(&self, program: &mut Program, context: &Context) -> bool {
        let group = program.group;
        let mut ended = std::pin::pin!(program.ended());
        let why = tokio::select! {
            biased;
            () = &mut ended => return false,
            why = context.cancelled() => why,
        };
        if why == Cancelled::Requested {
            group.signal(Signal::TERM);
            tokio::select! {
                biased;
                () = &mut ended => return true,
                () = self.clock.sleep(self.options.kill_after) => {}
                // Another worker may have the operation already.
                () = context.lease_lost() => {}
            }
        }
        group.signal(Signal::KILL);
        ended.await;
        true
    }
}

impl<'a> ProgramOutput<'a> {
    fn new(context: &'a Context) -> Self {
        Self { context, response: Response::default(), stderr_tail: VecDeque::new() }
    }

    /// Reads both streams to their ends.
    async fn listen(
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
    fn take_in_output(&mut self, line: &Line<'_>) {
        match progress(line.bytes) {
            Some(progress) => self.context.progress(progress),
            None => self.response.take_in(line),
        }
    }

    /// Logs every line, and keeps the last ones.
    fn take_in_stderr(&mut self, line: &Line<'_>) {
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

    fn end(&mut self) -> (Result<Option<serde_json::Value>, String>, String) {
        let stderr_tail = Vec::from(std::mem::take(&mut self.stderr_tail)).join("\n");
        (std::mem::take(&mut self.response).end(), stderr_tail.trim().to_owned())
    }
}

/// Opens the gate of the program and writes the request and a newline. A program may ignore its input.
async fn feed(stdin: Option<impl AsyncWrite + Unpin>, input: Option<String>) {
    if let Some(mut stdin) = stdin {
        let input = input.map(|input| input + "\n").unwrap_or_default();
        let _ = stdin.write_all(format!("\n{input}").as_bytes()).await;
    }
}

/// Reads `progress 0.4 message`.
fn progress(line: &[u8]) -> Option<Progress> {
    let rest = line.strip_prefix(b"progress ")?;
    let rest = String::from_utf8_lossy(&rest[..rest.len().min(2 * MAX_TEXT_BYTES)]);
    let rest = rest.trim_start();
    let (number, message) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let fraction = number.parse().ok().filter(|fraction| (0.0..=1.0).contains(fraction))?;
    let message = ending::cut(message.trim(), MAX_TEXT_BYTES).to_owned();
    Some(Progress { fraction: Some(fraction), message, ..Progress::default() })
}

/// The subcommand of longhaul that runs as a program's gate.
pub const GATE: &str = "work-gate";
/// The subcommand of longhaul that runs as a worker's guard.
pub const GUARD: &str = "work-guard";
/// EX_TEMPFAIL of sysexits(3).
const TEMPORARY: u8 = 75;
/// How long to read streams that outlive their program.
const STREAMS_GRACE: Duration = Duration::from_secs(1);
/// Delay before an operation whose program cannot be started can be leased again.
const UNSTARTED_DELAY: Duration = Duration::from_secs(5);
const TAIL_LINES: usize = 20;
const TAIL_CHARACTERS: usize = 200;

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

    #[test]
    fn the_documented_contract_is_what_the_code_does() {
        let page = include_str!("../../../docs/work.md");
        for text in [
            format!("| {TEMPORARY} |"),
            format!("the last {TAIL_LINES} lines"),
            format!("{TAIL_CHARACTERS} characters"),
            format!("{} MiB of JSON", MAX_PROGRAM_RESPONSE_BYTES >> 20),
            format!("{} MiB once encoded", crate::limits::MAX_PAYLOAD_BYTES >> 20),
            format!("{} KiB of a line", MAX_PROGRAM_LINE_BYTES >> 10),
            format!("{} KiB of a message", MAX_TEXT_BYTES >> 10),
            format!("{} s after", STREAMS_GRACE.as_secs()),
            format!("after {} s", UNSTARTED_DELAY.as_secs()),
            "`LONGHAUL_OPERATION`".to_owned(),
            "`LONGHAUL_ATTEMPT`".to_owned(),
            "`LONGHAUL_FENCING_NUMBER`".to_owned(),
            "`LONGHAUL_METHOD`".to_owned(),
        ] {
            assert!(page.contains(&text), "docs/work.md does not say {text:?}");
        }
    }
}
