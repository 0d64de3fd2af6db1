//! Reading records: each on its own, with its payloads, and what was written last.

pub(in crate::engine) mod reader;
pub(in crate::engine) mod recent;
pub(in crate::engine) mod view;
