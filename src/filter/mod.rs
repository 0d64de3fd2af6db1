//! The filter language of lists (AIP-160) and their order (AIP-132): pure, and without any knowledge of where operations are
//! kept. `docs/filters.md` is its reference.
//!
//! A text is parsed (`parse`), its names and values are checked (`check`), and the result is a tree of conditions that
//! [`Filter::test`] asks of whatever can be seen as an operation ([`Seen`]). [`plan`] says which index holds what may match.

mod check;
mod evaluate;
mod literal;
mod order;
mod parse;
mod plan;
mod seen;
mod syntax;
#[cfg(test)]
mod tests;
mod typed;

use std::fmt;

pub use self::order::Order;
pub use self::plan::{Access, Plan, plan, plan_of_list};
pub use self::seen::{Lookup, Payload, Seen};

use self::literal::Literal;
use self::syntax::Comparator;
use crate::proto::longhaul::v1::operation_record::State;
use crate::types::Registry;

/// A filter whose names and values are known to make sense.
#[derive(Clone, Debug)]
pub struct Filter {
    condition: Condition,
    canonical: String,
    types: Registry,
}

/// Whether an operation matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Match,
    /// It does not.
    NoMatch,
    /// A payload decides that was not at hand ([`Lookup::Elsewhere`]).
    Unknown,
}

/// Why a filter or an order is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Where in the text, in bytes.
    pub position: usize,
    /// Why, and what is meant perhaps.
    pub message: String,
}

impl FilterError {
    fn at(position: usize, message: impl Into<String>) -> Self {
        Self { position, message: message.into() }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "at byte {}: {}", self.position, self.message)
    }
}

impl std::error::Error for FilterError {}

impl Filter {
    /// Parses a filter and checks it by the types that are known. An empty text matches everything.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(text: &str, types: &Registry) -> Result<Self, FilterError> {
        let parsed = parse::parse(text)?;
        let canonical = parsed.as_ref().map(ToString::to_string).unwrap_or_default();
        let condition = match parsed {
            Some(parsed) => check::check(&parsed, types)?,
            None => Condition::All(Vec::new()),
        };
        Ok(Self { condition, canonical, types: types.clone() })
    }

    /// The same for all texts of the same filter, and parsed to the same filter.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.canonical.is_empty()
    }

    /// Whether it looks into that payload.
    pub fn looks_into(&self, payload: Payload) -> bool {
        self.condition.looks_into(payload)
    }

    /// Whether the operation matches.
    pub fn test(&self, operation: &dyn Seen) -> Verdict {
        evaluate::evaluate(&self.condition, operation, &self.types)
    }
}

/// What must hold.
#[derive(Clone, Debug)]
enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Test(Test),
}

impl Condition {
    fn looks_into(&self, payload: Payload) -> bool {
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
struct Test {
    of: Of,
    comparator: Comparator,
    literal: Literal,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
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
const STATES: [State; 7] = [
    State::Pending,
    State::Running,
    State::Cancelling,
    State::Suspended,
    State::Succeeded,
    State::Failed,
    State::Cancelled,
];

const fn is_done(state: State) -> bool {
    matches!(state, State::Succeeded | State::Failed | State::Cancelled)
}
