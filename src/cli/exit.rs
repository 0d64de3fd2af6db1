//! How a command ends: each way has an exit code of its own, and they are contract.

use std::process::ExitCode;

use tonic::{Code, Status};

/// Why a command did not end well.
#[derive(Debug)]
pub(super) enum Failure {
    /// 1: anything that has no code of its own.
    Other(anyhow::Error),
    /// 2: the command line makes no sense.
    Usage(String),
    /// 3: the operation failed.
    OperationFailed(String),
    /// 4: the operation was cancelled.
    OperationCancelled(String),
    /// 5: there is no such operation.
    NotFound(String),
    /// 6: no server, or no answer in time.
    NoAnswer(String),
}

impl Failure {
    /// The exit code.
    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::OperationFailed(_) => 3,
            Self::OperationCancelled(_) => 4,
            Self::NotFound(_) => 5,
            Self::NoAnswer(_) => 6,
        })
    }

    /// What to say.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Other(error) => format!("{error:#}"),
            Self::Usage(text)
            | Self::OperationFailed(text)
            | Self::OperationCancelled(text)
            | Self::NotFound(text)
            | Self::NoAnswer(text) => text.clone(),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::NotFound => Self::NotFound(text),
            Code::Unavailable | Code::DeadlineExceeded => Self::NoAnswer(text),
            code => Self::Other(anyhow::anyhow!("{text} ({code:?})")),
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

impl From<crate::wire::json::JsonError> for Failure {
    fn from(error: crate::wire::json::JsonError) -> Self {
        Self::Usage(error.to_string())
    }
}
