//! A whole filter, parsed and checked.

use super::check::check;
use super::condition::Condition;
use super::error::FilterError;
use super::evaluate::{Verdict, evaluate};
use super::parse::parse;
use super::seen::{Payload, Seen};
use crate::types::Registry;

/// A filter whose names and values are known to make sense.
#[derive(Clone, Debug)]
pub struct Filter {
    pub(super) condition: Condition,
    canonical: String,
    types: Registry,
}

impl Filter {
    /// Parses a filter and checks it by the types that are known. An empty text matches everything.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(text: &str, types: &Registry) -> Result<Self, FilterError> {
        let parsed = parse(text)?;
        let canonical = parsed.as_ref().map(ToString::to_string).unwrap_or_default();
        let condition = match parsed {
            Some(parsed) => check(&parsed, types)?,
            None => Condition::All(Vec::new()),
        };
        Ok(Self { condition, canonical, types: types.clone() })
    }

    /// The same for all texts of the same filter, and parsed to the same filter.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The types that it was parsed with.
    pub const fn types(&self) -> &Registry {
        &self.types
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.canonical.is_empty()
    }

    /// The same filter with fewer conditions, for operations that meet the others.
    pub(super) fn with(&self, condition: Condition) -> Self {
        Self { condition, ..self.clone() }
    }

    /// Whether it looks into that payload.
    pub fn looks_into(&self, payload: Payload) -> bool {
        self.condition.looks_into(payload)
    }

    /// Whether the operation matches.
    pub fn test(&self, operation: &dyn Seen) -> Verdict {
        evaluate(&self.condition, operation, &self.types)
    }
}
