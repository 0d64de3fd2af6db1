//! Between JSON and messages that are known by their descriptors.

pub mod read;
pub mod write;
