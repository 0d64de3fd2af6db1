//! What a filter sees of an operation, wherever that comes from.

use std::borrow::Cow;

use crate::proto::google::protobuf::Any;

use crate::clock::Timestamp;
use crate::operation::payload::Payload as Stored;
use crate::operation::{Operation, State as Stage};
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1::operation_record::State;

/// A payload that a filter may look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The metadata that callers see.
    Metadata,
    /// The response.
    Response,
    /// The request.
    Request,
}

impl Payload {
    /// The name of the field.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Response => "response",
            Self::Request => "request",
        }
    }
}

/// A payload, if it is at hand.
#[derive(Clone, Debug)]
pub enum Lookup<'a> {
    /// There is none.
    Absent,
    /// There it is.
    Here(Cow<'a, Any>),
    /// It would have to be loaded first; only its type is known.
    Elsewhere {
        /// Its type URL.
        type_url: &'a str,
    },
}

/// What a filter sees of an operation. Payloads are asked for only by conditions that need them.
pub trait Seen {
    /// Its full name.
    fn name(&self) -> &str;
    /// Where it stands.
    fn state(&self) -> State;
    /// When it was started.
    fn create_time(&self) -> Timestamp;
    /// What to do.
    fn method(&self) -> &str;
    /// The id of its queue.
    fn queue(&self) -> &str;
    /// How far it has come, from 0 to 1, if that is known.
    fn progress(&self) -> Option<f64>;
    /// One of its labels.
    fn label(&self, key: &str) -> Option<&str>;
    /// Its error, if it has ended with one.
    fn error(&self) -> Option<&Status>;
    /// One of its payloads.
    fn payload(&self, which: Payload) -> Lookup<'_>;
}

impl Seen for Operation {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn state(&self) -> State {
        self.state.published()
    }

    fn create_time(&self) -> Timestamp {
        self.create_time
    }

    fn method(&self) -> &str {
        &self.spec.method
    }

    fn queue(&self) -> &str {
        self.spec.queue.as_str()
    }

    fn progress(&self) -> Option<f64> {
        self.fraction()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.spec.options.labels.get(key).map(String::as_str)
    }

    fn error(&self) -> Option<&Status> {
        match &self.state {
            Stage::Failed(error) | Stage::Cancelled(error) => Some(error),
            _ => None,
        }
    }

    fn payload(&self, which: Payload) -> Lookup<'_> {
        if which == Payload::Metadata && (self.metadata.is_none() || self.spec.server_metadata) {
            // What the server says of itself, and the empty message of what is declared, exist nowhere else.
            return self
                .published_metadata()
                .map_or(Lookup::Absent, |any| Lookup::Here(Cow::Owned(any)));
        }
        match self.stored_payload(which) {
            None => Lookup::Absent,
            Some(Stored::Inline(any)) => Lookup::Here(Cow::Borrowed(any)),
            Some(Stored::Detached(detached)) => Lookup::Elsewhere { type_url: &detached.type_url },
        }
    }
}

impl Operation {
    /// The payload as it is stored.
    pub fn stored_payload(&self, which: Payload) -> Option<&Stored> {
        match which {
            Payload::Metadata => self.metadata.as_ref(),
            Payload::Request => self.spec.request.as_ref(),
            Payload::Response => match &self.state {
                Stage::Succeeded(response) => Some(response),
                _ => None,
            },
        }
    }
}
