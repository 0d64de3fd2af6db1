//! A filter as a tree of conditions whose names and values make sense.

use super::literal::Literal;
use super::seen::Payload;
use super::syntax::Comparator;
use crate::proto::longhaul::v1::operation_record::State;

/// What must hold.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Test(Test),
}

impl Condition {
    pub(super) fn looks_into(&self, payload: Payload) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().any(|part| part.looks_into(payload))
            }
            Self::Not(part) => part.looks_into(payload),
            Self::Test(test) => matches!(&test.of, Of::Payload(of, _) if *of == payload),
        }
    }
}

/// A comparison.
#[derive(Clone, Debug)]
pub(super) struct Test {
    pub(super) of: Of,
    pub(super) comparator: Comparator,
    pub(super) literal: Literal,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Name,
    Done,
    State,
    CreateTime,
    Method,
    Queue,
    Progress,
    Label(String),
    Error(Vec<String>),
    Payload(Payload, Vec<String>),
}

/// Every state in which an operation can be.
pub(super) const STATES: [State; 7] = [
    State::Pending,
    State::Running,
    State::Cancelling,
    State::Suspended,
    State::Succeeded,
    State::Failed,
    State::Cancelled,
];

pub(super) const fn is_done(state: State) -> bool {
    matches!(state, State::Succeeded | State::Failed | State::Cancelled)
}

/// The type of a payload, as a field of it.
pub(super) const TYPE: &str = "@type";
