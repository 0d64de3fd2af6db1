//! The index entries of an operation: one pure function of the record, so that index changes are always the difference
//! between before and after.
//!
//! Entries in `due` may be early. The record stores where its entries are, not where they should be; the agent that finds one
//! early moves it. So a renewal need not touch an index.

use std::borrow::Cow;

use super::record::{Operation, Places, Record, State};
use super::spec::Spec;
use crate::clock::Timestamp;
use crate::limits::AGING_INTERVAL;

pub use super::due_class::DueClass;

/// The index of the operations that workers may lease from a queue.
pub fn ready_index(queue: &str) -> String {
    [READY, queue].concat()
}

/// What the names of these indexes begin with.
pub const READY: &str = "ready/";

/// Stands for the parent of an operation in its queue: workers take from the parents that have work in turn.
pub type Turn = [u8; 8];

/// What stands for that parent.
pub fn turn_of(parent: &str) -> Turn {
    blake3::hash(parent.as_bytes()).as_bytes().first_chunk().copied().unwrap_or_default()
}

/// The member of an operation in its queue: the operations of a parent lie together, in the order of their ranks.
pub fn ready_member(parent: &str, rank: i64, key: &[u8; 16]) -> Vec<u8> {
    [&turn_of(parent)[..], &sortable(rank), key].concat()
}

/// The parent and the rank in a member of a queue; `None` if it is none.
pub fn ready_place(member: &[u8]) -> Option<(Turn, i64)> {
    let (turn, rest) = member.split_first_chunk()?;
    let rank = rest.first_chunk().copied().map(u64::from_be_bytes)?;
    Some((*turn, (rank ^ SIGN) as i64))
}

/// A rank as bytes in the same order.
const fn sortable(rank: i64) -> [u8; 8] {
    ((rank as u64) ^ SIGN).to_be_bytes()
}

const SIGN: u64 = 1 << 63;

/// Every operation of a parent, in order of creation.
pub const LIST: &str = "list";
/// The failures among them, in the same order.
pub const FAILED: &str = "failed";
/// Those that have not ended, in the same order.
pub const UNFINISHED: &str = "unfinished";

/// The prefix of members of `list`, `failed` and `unfinished` for one parent.
pub fn parent_prefix(parent: &str) -> Vec<u8> {
    [parent.as_bytes(), &[0]].concat()
}

/// The member of an operation in `list`, `failed` or `unfinished`.
pub fn parent_member(parent: &str, time: Timestamp, key: &[u8; 16]) -> Vec<u8> {
    [parent.as_bytes(), &[0], &time.as_micros().to_be_bytes(), key].concat()
}

/// Index name and member of every entry that a record has.
pub fn entries(record: &Record, key: &[u8; 16]) -> Vec<(Cow<'static, str>, Vec<u8>)> {
    let due = |class: DueClass, time: Timestamp| {
        (Cow::Borrowed(class.index()), [&time.as_micros().to_be_bytes()[..], key].concat())
    };
    let operation = match record {
        Record::Tombstone(tombstone) => {
            return vec![due(DueClass::Tombstone, tombstone.forget_time)];
        }
        Record::Operation(operation) => operation,
    };
    let places = &operation.places;
    let parent = operation.name.parent();
    let mut entries = Vec::with_capacity(5);
    if places.listed {
        let member = parent_member(parent, operation.create_time, key);
        if !operation.state.is_done() {
            entries.push((UNFINISHED.into(), member.clone()));
        }
        entries.push((LIST.into(), member));
    }
    if places.failed {
        entries.push((FAILED.into(), parent_member(parent, operation.create_time, key)));
    }
    if let Some(rank) = places.ready {
        let member = ready_member(parent, rank, key);
        entries.push((ready_index(operation.spec.queue.as_str()).into(), member));
    }
    entries.extend(places.due.iter().map(|(class, time)| due(*class, *time)));
    entries
}

/// Puts the entries where they belong as of `now`; those that may stay do.
pub(super) fn settle(operation: &mut Operation, now: Timestamp) {
    let ready = match &operation.state {
        State::Pending(pending) if pending.ready_time <= now => Some(
            operation.places.ready.unwrap_or_else(|| rank(pending.ready_time, &operation.spec)),
        ),
        _ => None,
    };
    let due = times(operation, ready.is_some())
        .into_iter()
        .map(|(class, time)| {
            let lies = operation.places.due.iter().find(|(other, _)| *other == class);
            (class, lies.map_or(time, |(_, early)| time.min(*early)))
        })
        .collect();
    let failed = matches!(operation.state, State::Failed(_));
    let foreign = std::mem::take(&mut operation.places.foreign);
    operation.places = Places { listed: operation.deletion.is_none(), failed, ready, due, foreign };
}

/// The order in a queue: time became ready, with each step of priority worth some waiting.
fn rank(ready_time: Timestamp, spec: &Spec) -> i64 {
    let aging_interval = spec.aging_interval.unwrap_or(AGING_INTERVAL).as_micros() as i64;
    ready_time.as_micros() as i64 - i64::from(spec.options.priority) * aging_interval
}

/// The true due time of each class.
pub(super) fn times(operation: &Operation, ready: bool) -> Vec<(DueClass, Timestamp)> {
    let options = &operation.spec.options;
    let mut times = Vec::new();
    if let Some(deadline) = options.deadline_time.filter(|_| operation.end_time.is_none()) {
        times.push((DueClass::Deadline, deadline));
    }
    match &operation.state {
        State::Pending(pending) => {
            if !ready {
                let class = if pending.retrying { DueClass::Retry } else { DueClass::Start };
                times.push((class, pending.ready_time));
            }
            times.extend(operation.queue_deadline(pending).map(|time| (DueClass::Queue, time)));
        }
        State::Running(lease) => {
            let stalls = operation.stall_time(lease).unwrap_or(lease.expire_time);
            times.push((DueClass::Lease, lease.expire_time.min(stalls)));
            times.extend(operation.attempt_deadline(lease).map(|time| (DueClass::Attempt, time)));
        }
        State::Cancelling(lease, grace_end) => {
            times.push((DueClass::Lease, lease.expire_time));
            times.push((DueClass::Grace, *grace_end));
            times.extend(operation.attempt_deadline(lease).map(|time| (DueClass::Attempt, time)));
        }
        State::Suspended(suspension) => {
            times.extend(suspension.resume_time.map(|time| (DueClass::Resume, time)));
        }
        State::Succeeded(_) | State::Failed(_) | State::Cancelled(_) => {
            times.extend(operation.expire_time.map(|time| (DueClass::Retention, time)));
        }
    }
    times
}
