//! Kinds of record: the stored form and index entries of each, and the write set of a change.
//!
//! A kind is a few pure functions ([`Kind`]). The shared parts exist once: reading ([`read`]) and the plan of a
//! write set ([`write_set`]). This module does no I/O.

mod any;
pub mod delivery;
pub mod due;
pub mod endpoint;
pub mod event;
pub mod execution;
pub mod gate;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod histories;
pub mod job;
mod kind;
mod kinds;
mod note;
pub mod operation;
mod plan;
pub mod queue;
#[cfg(test)]
mod random;
mod reading;
#[cfg(test)]
pub(crate) mod sample;
pub mod server;
pub mod tokens;
pub mod type_sets;
mod value;

pub use self::any::AnyRecord;
pub use self::kind::{Before, Derived, Kind};
pub use self::kinds::{due_indexes, layout};
pub use self::note::Note;
pub use self::plan::{Also, Change, copy_set, write_set};
pub use self::reading::{read, read_at};
