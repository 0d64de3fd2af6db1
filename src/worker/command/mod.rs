//! `longhaul work`: any program as a worker.
//!
//! The program gets the request as JSON on standard input. Lines `progress 0.4 message` on its standard output become
//! progress, the JSON that ends its output the response. It fails the operation by ending with another code than 0.
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

use self::guard::Guard;
use self::lines::{Line, Lines};
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

/// How to work.
#[derive(Clone, Debug)]
pub struct Options {
    /// From which queue.
    pub queue: String,
    /// What the worker calls itself.
    pub worker: String,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// How many operations at the same time.
    pub concurrency: usize,
    /// How long each lease lasts without a word from the worker.
    pub lease: Duration,
    /// How long after SIGTERM a cancelled program is killed.
    pub kill_after: Duration,
    /// The longhaul binary, which also runs as [`guard`] and [`gate`] of the programs.
    pub longhaul: PathBuf,
}

/// Why a worker ended that runs programs.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The process that ends the programs with the worker cannot be started.
    #[error("cannot start the guard of the programs: {0}")]
    Guard(io::Error),
    /// As every worker.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Works until `stop`; what runs then is finished.
///
/// # Errors
/// As [`Worker::run_until`], and where no guard can be started.
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
    let guard = Arc::new(Guard::start(&options.longhaul).map_err(WorkError::Guard)?);
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
    guard: Arc<Guard>,
    clock: Arc<dyn Clock>,
}

/// How a program ended and what it said.
struct Ended {
    status: io::Result<ExitStatus>,
    /// It was sent a signal, since that was asked for.
    stopped: bool,
    /// The value that ended its output.
    response: Result<Option<serde_json::Value>, String>,
    complaint: String,
}

/// What is kept of what a program prints.
struct Heard<'a> {
    context: &'a Context,
    response: Response,
    /// The last lines of what the program complained about.
    complaint: VecDeque<String>,
}

impl Runner {
    async fn run(&self, context: &Context, request: Option<Any>) -> Result<Option<Any>, Stop> {
        let (operation, attempt) = (context.operation(), context.attempt());
        let program = match self.start(context) {
            Ok(program) => program,
            Err(error) => {
                tracing::error!(operation, attempt, error, "not started; given back to the queue");
                return Err(Stop::release(UNSTARTED_REST));
            }
        };
        tracing::info!(operation, attempt, method = context.method(), "started");
        let began = self.clock.elapsed();
        let input = request.map(|request| self.registry.bare(&request).to_string());
        let ended = self.attend(program, input, context).await;
        let duration = self.clock.elapsed().saturating_sub(began);
        let end = self.judge(&ended, context.response_type());
        ending::log(context, &ended, &end, duration);
        end.map(Some).map_err(|failure| Stop::fail(failure.code, failure.message))
    }

    /// It may have become impossible since the worker started; that is not the operation's fault.
    fn start(&self, context: &Context) -> Result<Program, String> {
        find_program(&self.options.command[0]).map_err(|error| error.to_string())?;
        Program::start(&self.options, &self.guard, context).map_err(|error| error.to_string())
    }

    /// Lets the program run to its end, and its streams a moment longer.
    async fn attend(
        &self,
        mut program: Program,
        input: Option<String>,
        context: &Context,
    ) -> Ended {
        let (stdin, stdout, stderr): Streams = program.streams();
        let (stdout, stderr) = (
            &mut Lines::new(stdout, MAX_PROGRAM_RESPONSE_BYTES),
            &mut Lines::new(stderr, MAX_PROGRAM_LINE_BYTES),
        );
        let heard = &mut Heard::new(context);
        let stopped = {
            let mut listening = std::pin::pin!(maybe_done(heard.listen(stdout, stderr)));
            let talking = async {
                tokio::join!(feed(stdin, input), &mut listening);
                std::future::pending::<Infallible>().await
            };
            let stopped = tokio::select! {
                stopped = self.see_to_its_end(&mut program, context) => stopped,
                never = talking => match never {},
            };
            // What it left in the background may keep the streams open for ever.
            tokio::select! { () = listening => {}, () = self.clock.sleep(LAST_WORDS) => {} }
            stopped
        };
        if let Some(line) = stdout.rest() {
            heard.take_in_output(&line);
        }
        if let Some(line) = stderr.rest() {
            heard.take_in_complaint(&line);
        }
        let status = program.finish().await;
        let (response, complaint) = heard.end();
        Ended { status, stopped, response, complaint }
    }

    /// Waits for the end of the program, and stops it where that is asked; whether it was.
    async fn see_to_its_end(&self, program: &mut Program, context: &Context) -> bool {
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

impl<'a> Heard<'a> {
    fn new(context: &'a Context) -> Self {
        Self { context, response: Response::default(), complaint: VecDeque::new() }
    }

    /// Takes in what the program prints, on both streams to their ends.
    async fn listen(
        &mut self,
        stdout: &mut Lines<impl AsyncRead + Unpin>,
        stderr: &mut Lines<impl AsyncRead + Unpin>,
    ) {
        let (mut printing, mut complaining) = (true, true);
        while printing || complaining {
            tokio::select! {
                line = stdout.next(), if printing => match line {
                    Some(line) => self.take_in_output(&line),
                    None => printing = false,
                },
                line = stderr.next(), if complaining => match line {
                    Some(line) => self.take_in_complaint(&line),
                    None => complaining = false,
                },
            }
        }
    }

    /// Progress goes on at once; anything else may be the response.
    fn take_in_output(&mut self, line: &Line<'_>) {
        match progress(line.bytes) {
            Some(progress) => self.context.progress(progress),
            None => self.response.take_in(line),
        }
    }

    /// All of it goes on to our own log.
    fn take_in_complaint(&mut self, line: &Line<'_>) {
        let mut text = String::from_utf8_lossy(line.bytes).trim_end().to_owned();
        if line.cut {
            text.push_str("...");
        }
        tracing::info!(operation = self.context.operation(), line = text, "stderr");
        if self.complaint.len() == TAIL_LINES {
            self.complaint.pop_front();
        }
        self.complaint.push_back(text.chars().take(TAIL_CHARACTERS).collect());
    }

    fn end(&mut self) -> (Result<Option<serde_json::Value>, String>, String) {
        let complaint = Vec::from(std::mem::take(&mut self.complaint)).join("\n");
        (std::mem::take(&mut self.response).end(), complaint.trim().to_owned())
    }
}

/// Opens the gate of the program and gives it the request, with an end of line. One that does not read its input is no
/// fault.
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

/// The command of longhaul that is a program's gate.
pub const GATE: &str = "work-gate";
/// The command of longhaul that is a worker's guard.
pub const GUARD: &str = "work-guard";
/// EX_TEMPFAIL of sysexits(3).
const TEMPORARY: u8 = 75;
/// How long streams may stay open that outlive their program.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long an operation rests whose program cannot be started.
const UNSTARTED_REST: Duration = Duration::from_secs(5);
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
            format!("{} s after", LAST_WORDS.as_secs()),
            format!("after {} s", UNSTARTED_REST.as_secs()),
            "`LONGHAUL_OPERATION`".to_owned(),
            "`LONGHAUL_ATTEMPT`".to_owned(),
            "`LONGHAUL_FENCING_NUMBER`".to_owned(),
            "`LONGHAUL_METHOD`".to_owned(),
        ] {
            assert!(page.contains(&text), "docs/work.md does not say {text:?}");
        }
    }
}
