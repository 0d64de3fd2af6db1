//! The filter language of lists (AIP-160) and their order (AIP-132): pure, and without any knowledge of where operations are
//! kept. `docs/filters.md` is its reference.
//!
//! A text is parsed (`parse`), its names and values are checked (`check`), and the result is a tree of conditions that
//! [`Filter::test`] asks of whatever can be seen as an operation ([`Seen`]). [`plan`] says which index holds what may match.

mod check;
mod checked;
mod condition;
mod error;
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

pub use self::checked::Filter;
pub use self::error::FilterError;
pub use self::evaluate::Verdict;
pub use self::order::Order;
pub use self::plan::{Access, Plan, plan, plan_in_order};
pub use self::seen::{Lookup, Payload, Seen};
