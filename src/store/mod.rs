//! A small ordered record store, the same on every backend.
//!
//! Versioned records, ordered indexes, one atomic [`WriteSet`], a feed of hints. The store does not know operations
//! or any other kind of record: those belong to the layer above.
//!
//! Promises, each tested by the `conformance` suite on every backend:
//! - a write set is applied whole or not at all, and only if all its checks hold;
//! - a revision is larger than every earlier one of its partition;
//! - every later `get` and `scan` sees a commit that was acknowledged;
//! - a hint follows its commit; a lost hint is noticed as a gap within a second.

mod backend;
mod clocks;
#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
pub(crate) mod differential;
pub mod embedded;
mod error;
pub mod faulty;
mod feed;
mod index;
mod key;
mod keyspace;
mod layout;
pub mod memory;
pub mod redis;
mod sealed;
mod write_set;

pub use self::backend::{Committed, Durability, Record, Store};
pub use self::error::{CommitError, OpenError, StoreError};
pub use self::feed::{Event, Feed, Hint, Publisher};
pub use self::index::{Entry, Index, Scan};
pub use self::key::{BodyKey, Key, Partition};
pub use self::keyspace::{FORMAT, Keyspace, Origin};
pub use self::layout::Layout;
pub use self::sealed::{Resealing, Sealed, SealingKeys};
pub use self::write_set::{Check, Counter, IndexEntry, Mark, Put, WriteSet};
