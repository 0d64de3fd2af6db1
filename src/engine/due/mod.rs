//! Due records: agents poll the due indexes, read the records of the entries, and pass each record to its kind.
//!
//! [`crate::record`] defines the indexes and their agents. A kind implements
//! [`ComesDue`](self::kinds::ComesDue) for its records, or a room acts on them ([`DueRooms`](self::kinds::DueRooms)).

pub(in crate::engine) mod agents;
mod entries;
pub(in crate::engine) mod kinds;
pub(in crate::engine) mod operations;
