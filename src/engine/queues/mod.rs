//! What this server knows of each queue without reading: its settings, and the dispatcher to wake.

pub(in crate::engine) mod bucket;
pub(in crate::engine) mod known;
pub(in crate::engine) mod wakes;
