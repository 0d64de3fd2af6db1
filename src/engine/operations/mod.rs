//! Operations: the verbs of producers and callers, lists, and counts.

mod attempt;
pub(in crate::engine) mod calls;
mod eager;
mod identity;
mod matching;
pub(in crate::engine) mod page_token;
pub(in crate::engine) mod pages;
mod parents;
pub(in crate::engine) mod query;
mod replays;
mod sources;
pub(in crate::engine) mod starts;
pub(in crate::engine) mod stats;
