//! The comments of the definitions.

use crate::proto::COMMENTS;

/// The comment of a definition, by its full name; empty without one.
pub(super) fn described(name: &str) -> &'static str {
    let found = COMMENTS.binary_search_by_key(&name, |(name, _)| name);
    found.map_or("", |place| COMMENTS[place].1)
}
