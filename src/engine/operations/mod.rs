//! Operations: the verbs of callers and producers, commands, lists, and reading records.

pub(in crate::engine) mod calls;
pub(in crate::engine) mod commands;
mod due;
pub(in crate::engine) mod lately;
pub(in crate::engine) mod page_token;
pub(in crate::engine) mod pages;
pub(in crate::engine) mod reading;
pub(in crate::engine) mod starts;
pub(in crate::engine) mod view;
