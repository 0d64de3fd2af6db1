//! Who calls: tokens of the API, links, and the identities that others vouch for.

pub(super) mod authority;
pub(super) mod credential;
pub(super) mod links;
pub(super) mod tokens;
