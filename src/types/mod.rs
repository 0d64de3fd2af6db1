//! Message types: which ones are known by their descriptors, how their payloads are decoded, and their JSON.
//!
//! It knows nothing of operations' states or of the store. A [`Registry`] never changes: one that knows more types is another
//! one, so whoever holds a registry goes on with it while a newer one takes its place.

mod files;
pub mod json;
mod registry;
#[cfg(test)]
mod tests;

pub use self::files::UnreadableSet;
pub use self::registry::{BadSet, Registry, Undecoded};
