//! The servers that run on one store.

pub(in crate::engine) mod ranks;
