//! Runs a program for an operation: starts it, feeds it, listens to it and stops it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::maybe_done;
use rustix::process::Signal;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::ending::{self, Finished};
use super::guard::ProgramGuard;
use super::lines::LineReader;
use super::lookup::find_program;
use super::options::Options;
use super::output::ProgramOutput;
use super::program::{Program, Streams};
use crate::clock::Clock;
use crate::limits::{MAX_PROGRAM_LINE_BYTES, MAX_PROGRAM_RESPONSE_BYTES};
use crate::proto::google::protobuf::Any;
use crate::types::Registry;
use crate::worker::context::Context;
use crate::worker::job::Cancelled;
use crate::worker::stop::Stop;

/// Runs a program for each operation.
pub(super) struct Runner {
    pub(super) options: Options,
    pub(super) registry: Registry,
    pub(super) guard: Arc<ProgramGuard>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Runner {
    pub(super) async fn run(
        &self,
        context: &Context,
        request: Option<Any>,
    ) -> Result<Option<Any>, Stop> {
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
        let end = ending::result(
            &ended,
            context.response_type(),
            &self.options.command[0],
            &self.registry,
        );
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

/// Opens the gate of the program and writes the request and a newline. A program may ignore its input.
async fn feed(stdin: Option<impl AsyncWrite + Unpin>, input: Option<String>) {
    if let Some(mut stdin) = stdin {
        let input = input.map(|input| input + "\n").unwrap_or_default();
        let _ = stdin.write_all(format!("\n{input}").as_bytes()).await;
    }
}

/// How long to read streams that outlive their program.
const STREAMS_GRACE: Duration = Duration::from_secs(1);
/// Delay before an operation whose program cannot be started can be leased again.
const UNSTARTED_DELAY: Duration = Duration::from_secs(5);
#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_TEXT_BYTES;
    use crate::worker::command::guard::TEMPORARY;
    use crate::worker::command::output::{TAIL_CHARACTERS, TAIL_LINES};

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
