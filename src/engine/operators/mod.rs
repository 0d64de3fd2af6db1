//! Queues and workers as operators see and change them.

pub(in crate::engine) mod changes;
pub(in crate::engine) mod measure;
pub(in crate::engine) mod queues;
pub(in crate::engine) mod workers;
