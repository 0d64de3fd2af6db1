//! Maps the end of a program to the result of its operation, and logs it.

use std::ffi::OsStr;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;
use tonic::Code;

use super::guard::TEMPORARY;
use super::output::cut;
use crate::limits::MAX_PAYLOAD_BYTES;
use crate::operation::payload::{EMPTY, empty};
use crate::proto::google::protobuf::Any;
use crate::types::Registry;
use crate::worker::context::Context;
use crate::worker::job::Cancelled;

/// How a program ended, and its output.
pub(super) struct Finished {
    pub(super) status: io::Result<ExitStatus>,
    /// The worker sent it a signal, because the operation was cancelled or lost.
    pub(super) stopped: bool,
    /// The last value of its output.
    pub(super) response: Result<Option<serde_json::Value>, String>,
    pub(super) stderr_tail: String,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) struct AttemptFailure {
    pub(super) code: Code,
    pub(super) message: String,
}

/// The result of the operation; `declared` is the response type, or empty.
pub(super) fn result(
    ended: &Finished,
    declared: &str,
    program: &OsStr,
    registry: &Registry,
) -> Result<Any, AttemptFailure> {
    let failure = |code, message: String| Err(AttemptFailure { code, message });
    let status = match &ended.status {
        Ok(status) => status,
        Err(error) => {
            return failure(Code::Internal, format!("cannot wait for the program: {error}"));
        }
    };
    if status.success() {
        return match &ended.response {
            // Without output, a program that was told to stop has stopped.
            Ok(None) if ended.stopped => failure(Code::Cancelled, STOPPED.to_owned()),
            Ok(response) => self::response(declared, response.as_ref(), registry),
            Err(error) => failure(Code::Internal, error.clone()),
        };
    }
    if ended.stopped {
        return failure(Code::Cancelled, STOPPED.to_owned());
    }
    let temporary = status.code() == Some(i32::from(TEMPORARY));
    let code = if temporary { Code::Unavailable } else { Code::Unknown };
    let program = program.to_string_lossy();
    let how = format!("{} ended with {status}", cut(&program, MAX_PROGRAM_NAME));
    match (ended.stderr_tail.as_str(), status.code()) {
        ("", _) => failure(code, how),
        (stderr_tail, Some(_)) => failure(code, stderr_tail.to_owned()),
        // Standard error does not name the signal.
        (stderr_tail, None) => failure(code, format!("{stderr_tail}\n{how}")),
    }
}

/// The response in the declared type, or by the type of its JSON.
fn response(
    declared: &str,
    response: Option<&Value>,
    registry: &Registry,
) -> Result<Any, AttemptFailure> {
    let fault = |message| AttemptFailure { code: Code::Internal, message };
    let Some(response) = response else {
        if matches!(declared, "" | EMPTY) {
            return Ok(empty());
        }
        return Err(fault(format!("the program printed no JSON; it must print a {declared}")));
    };
    let read = match declared {
        "" => registry.read_any(response),
        EMPTY => return Ok(empty()),
        _ if response.get("@type").is_some() => registry.read_any(response),
        declared => registry.read_message(declared, response),
    };
    let read = read.map_err(|error| {
        fault(format!("the JSON that ends the program's output is not a valid response: {error}"))
    })?;
    let size = read.value.len();
    if size > MAX_PAYLOAD_BYTES {
        return Err(fault(format!(
            "the program's response has {size} bytes, and at most {MAX_PAYLOAD_BYTES} are stored; \
             store large results elsewhere and print where they are"
        )));
    }
    Ok(read)
}

/// Logs how the attempt ended.
pub(super) fn log(
    context: &Context,
    ended: &Finished,
    end: &Result<Any, AttemptFailure>,
    duration: Duration,
) {
    let (operation, attempt) = (context.operation(), context.attempt());
    let exit = match &ended.status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    match end {
        _ if context.is_cancelled() == Some(Cancelled::LeaseLost) => {
            tracing::warn!(operation, attempt, outcome = "lease lost", exit, ?duration, "ended");
        }
        Ok(_) => {
            tracing::info!(operation, attempt, outcome = "succeeded", exit, ?duration, "ended");
        }
        Err(AttemptFailure { code: Code::Cancelled, .. }) => {
            tracing::info!(operation, attempt, outcome = "cancelled", exit, ?duration, "ended");
        }
        Err(AttemptFailure { code, message }) => {
            let error = cut(message.lines().next_back().unwrap_or_default(), MAX_LOGGED);
            let outcome = "failed";
            tracing::warn!(operation, attempt, outcome, exit, ?code, error, ?duration, "ended");
        }
    }
}

const STOPPED: &str = "the program was stopped on request";
const MAX_LOGGED: usize = 400;
const MAX_PROGRAM_NAME: usize = 200;
