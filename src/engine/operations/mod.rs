//! Operations: the verbs of producers and callers, and lists.

mod attempt;
pub(in crate::engine) mod calls;
mod identity;
mod matching;
pub(in crate::engine) mod page_token;
pub(in crate::engine) mod pages;
pub(in crate::engine) mod query;
pub(in crate::engine) mod reruns;
mod sources;
pub(in crate::engine) mod starts;
