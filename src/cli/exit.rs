//! Exit codes of the commands, which are contract.

use tonic::{Code, Status};

use crate::client::{Outage, cause, outage};

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// 1: any other error.
    Other(anyhow::Error),
    /// 2: the command line is invalid.
    Usage(String),
    /// 3: the operation failed.
    OperationFailed(String),
    /// 4: the operation was cancelled.
    OperationCancelled(String),
    /// 5: there is no such operation.
    NotFound(String),
    /// 6: no server, or no answer in time.
    NoAnswer(String),
    /// 6: a call was not answered; [`Failure::of`] names the server.
    Unanswered(Box<Status>),
    /// 130: Ctrl-C ended the command, but not the operations that it followed.
    Interrupted,
    /// One of these, which was printed already.
    Told(u8),
}

impl Failure {
    /// The exit code.
    pub(super) const fn code(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::OperationFailed(_) => 3,
            Self::OperationCancelled(_) => 4,
            Self::NotFound(_) => 5,
            Self::NoAnswer(_) | Self::Unanswered(_) => 6,
            Self::Interrupted => 130,
            Self::Told(code) => *code,
        }
    }

    /// The message.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Other(error) => format!("{error:#}"),
            Self::Usage(text)
            | Self::OperationFailed(text)
            | Self::OperationCancelled(text)
            | Self::NotFound(text)
            | Self::NoAnswer(text) => text.clone(),
            Self::Unanswered(status) => cause(status),
            Self::Interrupted => {
                "stopped watching; the operation continues unless it is cancelled".to_owned()
            }
            Self::Told(_) => String::new(),
        }
    }

    /// The same, with the name of the server that did not answer.
    pub(super) fn of(self, server: &str) -> Self {
        match self {
            Self::Unanswered(status) => {
                Self::NoAnswer(format!("{}; {ANOTHER}", no_answer(server, &status)))
            }
            failure => failure,
        }
    }
}

/// Describes an outage.
pub(super) fn no_answer(server: &str, status: &Status) -> String {
    match outage(status) {
        Some(Outage::NotGrpc) => {
            format!("{server} is not a gRPC server: {}", cause(status))
        }
        Some(Outage::Silent) => format!("the server at {server} did not answer in time"),
        Some(Outage::Broken) => format!(
            "the connection to {server} broke: {}; if it always does, {server} is not a gRPC server",
            cause(status)
        ),
        _ if !status.details().is_empty() => {
            format!("the server at {server} cannot answer: {}", status.message())
        }
        _ => format!("no server answers at {server}: {}", cause(status)),
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if outage(&status).is_some() {
            return Self::Unanswered(Box::new(status));
        }
        let text = match status.message() {
            "" => format!("the server returned {} without a message", status.code()),
            message => message.to_owned(),
        };
        match status.code() {
            Code::NotFound => Self::NotFound(text),
            _ => Self::Other(anyhow::Error::msg(text)),
        }
    }
}

impl From<crate::client::ConnectError> for Failure {
    fn from(error: crate::client::ConnectError) -> Self {
        Self::NoAnswer(format!(
            "{error}; start one with `longhaul dev`, or name another with --server HOST:PORT"
        ))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<crate::types::json::JsonError> for Failure {
    fn from(error: crate::types::json::JsonError) -> Self {
        Self::Usage(error.to_string())
    }
}

const ANOTHER: &str = "try again later, or name another server with --server HOST:PORT";
