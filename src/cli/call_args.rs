//! Arguments that callbacks and webhook endpoints have in common.

use clap::ValueEnum;

use crate::proto::longhaul::v1::callback::{Event, Format};

/// An event.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum EventArg {
    /// The state changed
    StateChanged,
    /// The operation was leased for the first time
    Started,
    /// The worker reported progress
    Progress,
    /// The operation ended with any result
    Done,
    /// The operation ended with a response
    Succeeded,
    /// The operation ended with an error
    Failed,
    /// The operation was cancelled
    Cancelled,
    /// The operation was suspended
    Suspended,
}

/// A format.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum FormatArg {
    /// A body with type, timestamp and data
    StandardWebhook,
    /// A CloudEvent in JSON
    CloudeventsStructured,
    /// The response or the error alone
    ResponseBody,
}

impl EventArg {
    pub(super) const fn event(self) -> Event {
        match self {
            Self::StateChanged => Event::StateChanged,
            Self::Started => Event::Started,
            Self::Progress => Event::Progress,
            Self::Done => Event::Done,
            Self::Succeeded => Event::Succeeded,
            Self::Failed => Event::Failed,
            Self::Cancelled => Event::Cancelled,
            Self::Suspended => Event::Suspended,
        }
    }
}

impl FormatArg {
    pub(super) const fn format(self) -> Format {
        match self {
            Self::StandardWebhook => Format::StandardWebhook,
            Self::CloudeventsStructured => Format::CloudeventsStructured,
            Self::ResponseBody => Format::ResponseBody,
        }
    }
}

/// A header of a call.
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}
