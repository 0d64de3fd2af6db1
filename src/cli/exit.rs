//! How a command ends: each way has an exit code of its own, and they are contract.

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
    /// 130: Ctrl-C ended the command, and not the operations that it followed.
    Interrupted,
    /// One of these, which has been told already.
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
            Self::NoAnswer(_) => 6,
            Self::Interrupted => 130,
            Self::Told(code) => *code,
        }
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
            Self::Interrupted => {
                "no longer watching; the work goes on unless it is cancelled".to_owned()
            }
            Self::Told(_) => String::new(),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = match status.message() {
            "" => format!("the server said no more than: {}", status.code()),
            message => message.to_owned(),
        };
        match status.code() {
            Code::NotFound => Self::NotFound(text),
            Code::Unavailable | Code::DeadlineExceeded => Self::NoAnswer(text),
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

impl From<crate::wire::json::JsonError> for Failure {
    fn from(error: crate::wire::json::JsonError) -> Self {
        Self::Usage(error.to_string())
    }
}
