//! Jobs and their executions: the verbs of callers.

pub(in crate::engine) mod calls;
pub(in crate::engine) mod executions;
pub(in crate::engine) mod lists;
pub(in crate::engine) mod pages;
pub(in crate::engine) mod rooms;
pub(in crate::engine) mod view;
