//! `longhaul work`: any program as a worker.
//!
//! The program gets the request as JSON on standard input. Lines `progress 0.4 message` on its standard output become
//! progress, its last line of JSON the response. It fails the operation by ending with another code than 0.

use std::future::Future;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use prost_types::Any;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tonic::Code;

use super::{Cancelled, Context, RunError, Stop, Worker};
use crate::client::Client;
use crate::clock::{Clock, SystemClock};
use crate::operation::payload::{EMPTY, empty};
use crate::proto::longhaul::v1::Progress;
use crate::wire::json::Registry;

/// How to work.
#[derive(Clone, Debug)]
pub struct Options {
    /// From which queue.
    pub queue: String,
    /// What the worker calls itself.
    pub worker: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How many operations at the same time.
    pub concurrency: usize,
    /// How long each lease lasts without a word from the worker.
    pub lease: Duration,
    /// How long after SIGTERM a cancelled program is killed.
    pub kill_after: Duration,
}

/// Works until `stop`; what runs then is finished.
///
/// # Errors
/// As [`Worker::run_until`].
pub async fn work(
    client: &Client,
    registry: Registry,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let worker = Worker::builder(client)
        .queue(&options.queue)
        .name(&options.worker)
        .concurrency(options.concurrency)
        .lease_duration(options.lease);
    let runner = Arc::new(Runner { options, registry, clock: SystemClock::new() });
    let worker = worker.fallback(move |context, request| {
        let runner = runner.clone();
        async move { runner.run(&context, request).await }
    });
    worker.run_until(stop).await
}

/// Runs a program for each operation.
struct Runner {
    options: Options,
    registry: Registry,
    clock: Arc<dyn Clock>,
}

/// The processes of a program, which end with the value.
struct Group(Option<Pid>);

/// How a program ended and what it said.
struct Ended {
    status: std::io::Result<ExitStatus>,
    response: Option<Value>,
    complaint: String,
}

impl Runner {
    async fn run(&self, context: &Context, request: Option<Any>) -> Result<Option<Any>, Stop> {
        let operation = context.operation();
        tracing::info!(operation, attempt = context.attempt(), "started");
        let child = self.spawn(context).map_err(|error| {
            let message = format!("cannot run {}: {error}", self.options.command[0]);
            Stop::fail(Code::FailedPrecondition, message)
        })?;
        let input = request.map(|request| self.registry.bare(&request).to_string());
        let (ended, stopped) = self.attend(child, input.unwrap_or_default(), context).await;
        let response = self.judge(&ended, stopped)?;
        let response = self.response(context.response_type(), response);
        tracing::info!(operation, "ended");
        response.map(Some).map_err(|message| Stop::fail(Code::Internal, message))
    }

    fn spawn(&self, context: &Context) -> std::io::Result<Child> {
        Command::new(&self.options.command[0])
            .args(&self.options.command[1..])
            .env("LONGHAUL_OPERATION", context.operation())
            .env("LONGHAUL_FENCING_NUMBER", context.fencing_number().to_string())
            .env("LONGHAUL_ATTEMPT", context.attempt().to_string())
            .env("LONGHAUL_METHOD", context.method())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its children get the signals too.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Lets the program run: feeds it, listens to it, stops it where that is asked; whether it was.
    async fn attend(&self, mut child: Child, input: String, context: &Context) -> (Ended, bool) {
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let ending = async {
            let ((), response, complaint, status) = tokio::join!(
                feed(stdin, input),
                listen(stdout, context),
                keep_tail(stderr),
                child.wait()
            );
            Ended { status, response, complaint }
        };
        tokio::pin!(ending);
        let why = tokio::select! {
            ended = &mut ending => {
                group.ended();
                return (ended, false);
            }
            why = context.cancelled() => why,
        };
        let ended = match why {
            Cancelled::LeaseLost => None,
            Cancelled::Requested => {
                group.signal(Signal::TERM);
                tokio::select! {
                    ended = &mut ending => Some(ended),
                    () = self.clock.sleep(self.options.kill_after) => None,
                    // Somebody else may be at it already.
                    () = context.lease_lost() => None,
                }
            }
        };
        let ended = if let Some(ended) = ended {
            ended
        } else {
            group.signal(Signal::KILL);
            ending.await
        };
        group.ended();
        (ended, true)
    }

    /// What the end of the program means.
    fn judge(&self, ended: &Ended, stopped: bool) -> Result<Option<Value>, Stop> {
        let status = ended.status.as_ref().map_err(|error| {
            Stop::fail(Code::Internal, format!("cannot wait for the program: {error}"))
        })?;
        if status.success() {
            return Ok(ended.response.clone());
        }
        if stopped {
            return Err(Stop::fail(Code::Cancelled, "the program was stopped on request"));
        }
        let code = if status.code() == Some(TEMPORARY) { Code::Unavailable } else { Code::Unknown };
        let complaint = ended.complaint.trim();
        if complaint.is_empty() {
            let message = format!("{} ended with {status}", self.options.command[0]);
            return Err(Stop::fail(code, message));
        }
        Err(Stop::fail(code, complaint))
    }

    /// The response in the declared type, or as its JSON is.
    fn response(&self, declared: &str, response: Option<Value>) -> Result<Any, String> {
        let Some(response) = response else { return Ok(empty()) };
        let read = match declared {
            "" => self.registry.read_any(&response),
            EMPTY => return Ok(empty()),
            _ if response.get("@type").is_some() => self.registry.read_any(&response),
            declared => self.registry.read_message(declared, &response),
        };
        read.map_err(|error| format!("the program's last line of JSON is no response: {error}"))
    }
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // A group that has ended needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Its number may be somebody else's from now on.
    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// A program that does not read its input is no fault.
async fn feed(stdin: Option<impl AsyncWrite + Unpin>, input: String) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input.as_bytes()).await;
    }
}

/// Takes in what the program prints, line by line: progress goes on at once, the last line of JSON is the response.
async fn listen(stdout: Option<impl AsyncRead + Unpin>, context: &Context) -> Option<Value> {
    let mut response = None;
    let mut lines = BufReader::new(stdout?).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(progress) = progress(&line) {
            context.progress(progress);
        } else if let Ok(value) = serde_json::from_str(&line) {
            response = Some(value);
        }
    }
    response
}

/// Reads `progress 0.4 message`.
fn progress(line: &str) -> Option<Progress> {
    let rest = line.strip_prefix("progress ")?.trim_start();
    let (number, message) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let fraction = number.parse().ok().filter(|fraction| (0.0..=1.0).contains(fraction))?;
    let message = message.trim().chars().take(MAX_MESSAGE).collect();
    Some(Progress { fraction: Some(fraction), message, ..Progress::default() })
}

/// The last lines of what the program complained about; all of it goes on to our own standard error.
async fn keep_tail(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let Some(stderr) = stderr else { return String::new() };
    let mut tail = std::collections::VecDeque::new();
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::info!(line, "stderr");
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line.chars().take(MAX_MESSAGE / TAIL_LINES).collect::<String>());
    }
    Vec::from(tail).join("\n")
}

const TAIL_LINES: usize = 20;
const MAX_MESSAGE: usize = 4_000;
/// EX_TEMPFAIL of sysexits(3).
const TEMPORARY: i32 = 75;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines_are_read_and_others_are_not() {
        let read = |line| {
            progress(line).map(|progress| (progress.fraction.unwrap_or_default(), progress.message))
        };
        assert_eq!(read("progress 0.4 half way"), Some((0.4, "half way".to_owned())));
        assert_eq!(read("progress 1"), Some((1.0, String::new())));
        for line in [
            "progress",
            "progress x",
            "progress 1.5 m",
            "progressing 0.1",
            " progress 0.1",
            "progress NaN",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
