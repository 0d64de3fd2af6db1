//! Due records: agents poll the due indexes, read the records of the entries, and pass each record to its kind.
//!
//! [`crate::record`] defines the indexes and their agents. Each kind implements
//! [`ComesDue`](self::kinds::ComesDue) for its records.

pub(in crate::engine) mod agents;
mod entries;
mod jobs;
pub(in crate::engine) mod kinds;
pub(in crate::engine) mod operations;
