//! The state machine of an operation: pure, without I/O or clock.
//!
//! [`apply`] takes an operation, a command and the time, and returns the change or a rejection. Every pair of state and
//! command is printed into `docs/state-machine.md` by a test.

pub mod callbacks;
mod change;
pub mod command;
mod control;
pub mod counters;
mod due;
mod due_class;
pub mod entries;
pub mod events;
pub mod gate;
pub mod lease;
pub mod name;
pub mod options;
pub mod payload;
pub mod published;
mod record;
mod rejection;
mod retry;
pub mod size;
mod spec;
mod start;
mod stream;
#[cfg(test)]
mod tests;
mod transition;
mod work;
pub mod worker;

pub use self::change::{Applied, Change};
pub use self::record::{
    Deletion, Operation, Pending, Places, Record, Stamps, State, Suspension, Tombstone,
};
pub use self::rejection::Rejection;
pub use self::spec::{OfJob, SharedSpec, Spec, Trigger};
pub use self::start::{Birth, Start, start};
pub use self::transition::{AppliedBatch, apply, apply_batch};
