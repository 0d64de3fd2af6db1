//! Operations: the verbs of producers and callers, and lists.

pub(in crate::engine) mod calls;
mod matching;
mod page_token;
pub(in crate::engine) mod pages;
pub(in crate::engine) mod query;
mod sources;
pub(in crate::engine) mod starts;
