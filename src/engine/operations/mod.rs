//! Operations: the verbs of producers and callers, lists, and counts.

mod attempt;
pub(in crate::engine) mod calls;
mod eager;
mod gated;
mod identity;
pub(in crate::engine) mod page_token;
pub(in crate::engine) mod pages;
mod parents;
pub(in crate::engine) mod query;
mod reach;
mod replays;
pub(in crate::engine) mod reruns;
pub(in crate::engine) mod set_event;
pub(in crate::engine) mod set_watch;
mod sources;
pub(in crate::engine) mod starts;
pub(in crate::engine) mod stats;
