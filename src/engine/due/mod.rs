//! What comes due: agents poll the due indexes, read the records that the entries lead to, and hand each record to its kind.
//!
//! The indexes and their agents come from [`crate::record`], and what a record does when its time
//! comes is said by its [`ComesDue`](self::kinds::ComesDue).

pub(in crate::engine) mod agents;
mod entries;
pub(in crate::engine) mod kinds;
pub(in crate::engine) mod operations;
