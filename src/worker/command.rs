//! `longhaul work`: any program as a worker.
//!
//! The program gets the request as JSON on standard input. Lines `progress 0.4 message` on its standard output become
//! progress, its last line of JSON the response. It fails the operation by ending with another code than 0.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::clock::{Clock, SystemClock};
use crate::operation::payload::{EMPTY, empty};
use crate::proto::google::rpc;
use crate::proto::longhaul::v1::workers_client::WorkersClient;
use crate::proto::longhaul::v1::{
    CompleteOperationRequest, FailOperationRequest, Lease, LeaseOperationsRequest, Progress,
    ReportProgressRequest,
};
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
    /// How long each lease lasts without a renewal.
    pub lease: Duration,
    /// How long after SIGTERM a cancelled program is killed.
    pub kill_after: Duration,
}

/// A worker that runs a program for each operation.
#[derive(Clone)]
pub struct CommandWorker {
    workers: WorkersClient<Channel>,
    options: Arc<Options>,
    registry: Registry,
    clock: Arc<dyn Clock>,
}

/// A program that runs, with its children.
struct Program {
    group: Option<Pid>,
    /// Since when it has been asked to stop.
    stopping: Option<Duration>,
}

/// What was reported so far.
#[derive(Default)]
struct Reports {
    number: i64,
    last: Option<Progress>,
}

/// Somebody else has the operation, or nobody.
struct LeaseLost;

/// What a program has said so far.
#[derive(Clone, Debug, Default)]
struct Said {
    progress: Option<Progress>,
    response: Option<Value>,
}

impl CommandWorker {
    /// A worker on a connection.
    pub fn new(channel: Channel, registry: Registry, options: Options) -> Self {
        let workers =
            WorkersClient::new(channel).max_decoding_message_size(crate::limits::MAX_MESSAGE_BYTES);
        Self { workers, options: Arc::new(options), registry, clock: SystemClock::new() }
    }

    /// Works until `drain`; what runs then is finished. `abort` kills it and gives it back.
    pub async fn run(self, drain: CancellationToken, abort: CancellationToken) {
        let slots = (0..self.options.concurrency.max(1))
            .map(|_| self.clone().serve_slot(drain.clone(), abort.clone()));
        futures_util::future::join_all(slots).await;
    }

    async fn serve_slot(mut self, drain: CancellationToken, abort: CancellationToken) {
        while !drain.is_cancelled() {
            let request = LeaseOperationsRequest {
                queue: self.options.queue.clone(),
                worker: self.options.worker.clone(),
                max_operations: 1,
                lease_duration: prost_types::Duration::try_from(self.options.lease).ok(),
                wait_duration: prost_types::Duration::try_from(LONG_POLL).ok(),
            };
            let leased = tokio::select! {
                leased = self.workers.lease_operations(request) => leased,
                () = drain.cancelled() => return,
            };
            match leased {
                Ok(reply) => {
                    for lease in reply.into_inner().leases {
                        self.work_on(lease, &abort).await;
                    }
                }
                Err(status) => {
                    tracing::warn!(%status, "no work to be had; trying again");
                    self.clock.sleep(PAUSE).await;
                }
            }
        }
    }

    async fn work_on(&mut self, lease: Lease, abort: &CancellationToken) {
        let name = lease.operation.clone();
        tracing::info!(operation = name, attempt = lease.attempt, "started");
        let outcome = match self.spawn(&lease) {
            Ok(child) => self.attend(child, &lease, abort).await,
            Err(error) => Err(failure(
                Code::FailedPrecondition,
                format!("cannot run {}: {error}", self.options.command[0]),
            )),
        };
        let told = match outcome {
            Ok(None) => {
                tracing::warn!(operation = name, "the lease is lost; the program was stopped");
                return;
            }
            Ok(Some(said)) => self.complete(&lease, said).await,
            Err(error) => self.fail(&lease, error).await,
        };
        match told {
            Ok(()) => tracing::info!(operation = name, "ended"),
            Err(status) => tracing::warn!(operation = name, %status, "could not say how it ended"),
        }
    }

    fn spawn(&self, lease: &Lease) -> std::io::Result<Child> {
        Command::new(&self.options.command[0])
            .args(&self.options.command[1..])
            .env("LONGHAUL_OPERATION", &lease.operation)
            .env("LONGHAUL_FENCING_NUMBER", lease.fencing_number.to_string())
            .env("LONGHAUL_ATTEMPT", lease.attempt.to_string())
            .env("LONGHAUL_METHOD", &lease.method)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its children get the signals too.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Lets the program run: feeds it, listens to it, renews its lease, stops it where that is asked. What it said where it
    /// ended well, nothing where the lease was lost.
    async fn attend(
        &mut self,
        mut child: Child,
        lease: &Lease,
        abort: &CancellationToken,
    ) -> Result<Option<Said>, rpc::Status> {
        let mut program = Program {
            group: child.id().and_then(|id| Pid::from_raw(id.cast_signed())),
            stopping: None,
        };
        let (said, mut news) = watch::channel(Said::default());
        let input = lease
            .request
            .as_ref()
            .map(|request| self.registry.bare(request).to_string())
            .unwrap_or_default();
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let ending = async {
            let ((), _said, tail, status) = tokio::join!(
                feed(stdin, input),
                listen(stdout, said),
                keep_tail(stderr),
                child.wait()
            );
            (tail, status)
        };
        tokio::pin!(ending);
        let mut reports = Reports::default();
        let mut next_beat = self.clock.elapsed() + self.options.lease / 3;
        loop {
            tokio::select! {
                (tail, status) = &mut ending => {
                    return self.judge(status, &tail, program.stopping.is_some(), news.borrow().clone()).map(Some);
                }
                () = self.clock.sleep(next_beat.saturating_sub(self.clock.elapsed())) => {}
                _ = news.changed() => {}
                () = abort.cancelled(), if program.stopping.is_none() => program.stop(self.clock.elapsed()),
            }
            program.kill_if_late(self.clock.elapsed(), self.options.kill_after);
            match self.report(lease, &news, &mut reports, program.stopping.is_some()).await {
                Ok(true) if program.stopping.is_none() => program.stop(self.clock.elapsed()),
                Ok(_) => {}
                Err(LeaseLost) => {
                    program.signal(Signal::KILL);
                    return Ok(None);
                }
            }
            let beat = if program.stopping.is_some() {
                self.options.kill_after / 4
            } else {
                self.options.lease / 3
            };
            next_beat = self.clock.elapsed() + beat;
            // Progress is no faster than this, however fast the program talks.
            tokio::select! {
                () = self.clock.sleep(REPORT_INTERVAL) => {}
                (tail, status) = &mut ending => {
                    return self.judge(status, &tail, program.stopping.is_some(), news.borrow().clone()).map(Some);
                }
            }
        }
    }

    /// Reports what is new, which also renews the lease; whether the server wants the program stopped.
    async fn report(
        &mut self,
        lease: &Lease,
        news: &watch::Receiver<Said>,
        reports: &mut Reports,
        stopping: bool,
    ) -> Result<bool, LeaseLost> {
        let progress = news.borrow().progress.clone();
        reports.number += 1;
        let request = ReportProgressRequest {
            name: lease.operation.clone(),
            lease_token: lease.lease_token.clone(),
            progress: progress.clone().filter(|_| progress != reports.last),
            cancel_acknowledged: stopping,
            report_number: reports.number,
            ..ReportProgressRequest::default()
        };
        match self.workers.report_progress(request).await {
            Ok(reply) => {
                reports.last = progress;
                Ok(reply.into_inner().directive.is_some_and(|directive| directive.cancel_requested))
            }
            Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::NotFound) => {
                Err(LeaseLost)
            }
            Err(status) => {
                tracing::warn!(operation = lease.operation, %status, "could not report; trying again");
                Ok(false)
            }
        }
    }

    /// What the end of the program means.
    fn judge(
        &self,
        status: std::io::Result<ExitStatus>,
        tail: &str,
        stopped: bool,
        said: Said,
    ) -> Result<Said, rpc::Status> {
        let status = status.map_err(|error| {
            failure(Code::Internal, format!("cannot wait for the program: {error}"))
        })?;
        if status.success() {
            return Ok(said);
        }
        if stopped {
            return Err(failure(Code::Cancelled, "the program was stopped on request".to_owned()));
        }
        let code = if status.code() == Some(TEMPORARY) { Code::Unavailable } else { Code::Unknown };
        let message = if tail.trim().is_empty() {
            format!("{} ended with {status}", self.options.command[0])
        } else {
            tail.trim().to_owned()
        };
        Err(failure(code, message))
    }

    async fn complete(&mut self, lease: &Lease, said: Said) -> Result<(), Status> {
        let response = match self.response(lease, said.response) {
            Ok(response) => response,
            Err(message) => return self.fail(lease, failure(Code::Internal, message)).await,
        };
        let request = CompleteOperationRequest {
            name: lease.operation.clone(),
            lease_token: lease.lease_token.clone(),
            response: Some(response),
            progress: said.progress,
            ..CompleteOperationRequest::default()
        };
        match self.workers.complete_operation(request).await {
            // Refused for its type or size: the lease goes on, so the operation is told.
            Err(status) if status.code() == Code::InvalidArgument => {
                self.fail(lease, failure(Code::Internal, status.message().to_owned())).await
            }
            told => told.map(drop),
        }
    }

    /// The response in the declared type, or as its JSON is.
    fn response(&self, lease: &Lease, response: Option<Value>) -> Result<prost_types::Any, String> {
        let Some(response) = response else { return Ok(empty()) };
        let declared = lease.response_type.as_str();
        let read = match declared {
            "" => self.registry.read_any(&response),
            EMPTY => return Ok(empty()),
            _ if response.get("@type").is_some() => self.registry.read_any(&response),
            declared => self.registry.read_message(declared, &response),
        };
        read.map_err(|error| format!("the program's last line of JSON is no response: {error}"))
    }

    async fn fail(&mut self, lease: &Lease, error: rpc::Status) -> Result<(), Status> {
        let request = FailOperationRequest {
            name: lease.operation.clone(),
            lease_token: lease.lease_token.clone(),
            error: Some(error),
            ..FailOperationRequest::default()
        };
        self.workers.fail_operation(request).await.map(drop)
    }
}

impl Program {
    fn stop(&mut self, now: Duration) {
        self.signal(Signal::TERM);
        self.stopping = Some(now);
    }

    fn kill_if_late(&self, now: Duration, patience: Duration) {
        if self.stopping.is_some_and(|since| now >= since + patience) {
            self.signal(Signal::KILL);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // A group that has ended needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// A program that does not read its input is no fault.
async fn feed(stdin: Option<impl AsyncWrite + Unpin>, input: String) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input.as_bytes()).await;
    }
}

/// Takes in what the program prints, line by line. The sender is given back, so that it lives until the program has ended.
async fn listen(
    stdout: Option<impl AsyncRead + Unpin>,
    said: watch::Sender<Said>,
) -> watch::Sender<Said> {
    let Some(stdout) = stdout else { return said };
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(progress) = progress(&line) {
            said.send_modify(|said| said.progress = Some(progress));
        } else if let Ok(value) = serde_json::from_str::<Value>(&line) {
            // No news until the end: only the last one counts.
            said.send_if_modified(|said| {
                said.response = Some(value);
                false
            });
        }
    }
    said
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

fn failure(code: Code, message: String) -> rpc::Status {
    rpc::Status { code: code as i32, message, details: Vec::new() }
}

const LONG_POLL: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);
const REPORT_INTERVAL: Duration = Duration::from_millis(200);
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
