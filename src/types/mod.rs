//! Message types: which ones are known by their descriptors, how their payloads are decoded, and their JSON.
//!
//! It uses neither the states of operations nor the store. A [`Registry`] is immutable: adding types makes a new one, and
//! holders of the old one keep using it.

mod direct;
mod files;
pub mod json;
mod registry;
mod sets;
mod sorted;
#[cfg(test)]
mod tests;

pub use self::files::UnreadableSet;
pub use self::registry::{BadSet, Registry, Undecoded};
pub use self::sets::SetSummary;
