//! What comes due: agents poll the due indexes, read the records that the entries lead to, and hand each record to its kind.
//!
//! This room knows no kind: the indexes and their agents come from [`crate::record`], and what a record does when its time
//! comes is said by its [`ComesDue`].

pub(super) mod agents;
mod dispatch;
mod entries;

pub(super) use self::dispatch::ComesDue;
pub(super) use self::entries::DueEntries;
