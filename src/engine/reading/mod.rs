//! Reading records: each on its own, with its payloads, and the cache of recent writes.

pub(in crate::engine) mod matching;
pub(in crate::engine) mod reader;
pub(in crate::engine) mod recent;
pub(in crate::engine) mod view;
