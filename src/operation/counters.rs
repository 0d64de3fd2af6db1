//! What an operation counts in: a pure function of the record, so that counters change by the difference between before and
//! after.
//!
//! A counter holds two counts, one in each half of its number. So two counts cost one addition, and a start that commits with
//! its lease, and the completion of it, change one counter of the parent and one of the queue each. The counter of sizes has what
//! operations take beyond their first block, so that small ones do not change it.

use super::record::{Operation, Record, State};
use super::size::BLOCK_BYTES;
use crate::proto::longhaul::v1::operation_record::State as Published;

/// The counters of parents: the operations that callers see, by state.
pub const OF_PARENTS: &str = "parent";
/// The counters of queues: the operations that wait, and those that workers hold.
pub const OF_QUEUES: &str = "queue";

/// How a commit changes a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterChange {
    /// The counters that it belongs to.
    pub family: &'static str,
    /// Which of them.
    pub name: Vec<u8>,
    /// The amount to add.
    pub change: i64,
}

/// The operations of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCount {
    /// Those that wait: for a worker, for their time, or for their next attempt.
    pub pending: u64,
    /// Those that workers hold.
    pub running: u64,
}

/// How a commit that replaces one record by another changes the counters. An operation keeps its parent and its queue.
pub fn counter_changes(before: Option<&Record>, after: Option<&Record>) -> Vec<CounterChange> {
    let (before, after) = (before.and_then(Record::operation), after.and_then(Record::operation));
    let Some(operation) = after.or(before) else { return Vec::new() };
    let share = |of: fn(&Operation) -> Share| (before.map(of), after.map(of));
    let (was, is) = share(share_of_parent);
    let mut changes = Vec::new();
    for pair in PAIRS {
        let change = amount(is, pair) - amount(was, pair);
        if change != 0 {
            let name = parent_counter(operation.name.parent(), pair);
            changes.push(CounterChange { family: OF_PARENTS, name, change });
        }
    }
    let blocks =
        |operation: Option<&Operation>| operation.map_or(0, |it| i64::from(it.further_blocks));
    let change = blocks(after) - blocks(before);
    if change != 0 {
        let name = parent_counter(operation.name.parent(), SIZE);
        changes.push(CounterChange { family: OF_PARENTS, name, change });
    }
    let (was, is) = share(share_of_queue);
    let change = amount(is, QUEUE) - amount(was, QUEUE);
    if change != 0 {
        let name = operation.spec.queue.as_str().as_bytes().to_vec();
        changes.push(CounterChange { family: OF_QUEUES, name, change });
    }
    changes
}

/// The names of the counters of a parent.
pub fn parent_counters(parent: &str) -> [Vec<u8>; PARENT_COUNTERS] {
    let [active, waiting, unsuccessful, cancelling] = PAIRS;
    [active, waiting, unsuccessful, cancelling, SIZE].map(|counter| parent_counter(parent, counter))
}

/// The parent that a counter of parents belongs to, and its share in the operations of that parent.
pub fn stored_in(name: &[u8], counter: i64) -> Option<(&str, StoredAmount)> {
    let (kind, rest) = name.split_last()?;
    let parent = std::str::from_utf8(rest.strip_suffix(&[0])?).ok()?;
    let stored = if *kind == SIZE {
        StoredAmount { operations: 0, further_blocks: counter }
    } else {
        let (upper, lower) = counts(counter);
        StoredAmount { operations: upper + lower, further_blocks: 0 }
    };
    Some((parent, stored))
}

/// How many operations there are, and how much they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredAmount {
    /// How many.
    pub operations: u64,
    /// The blocks that they take beyond the first of each.
    further_blocks: i64,
}

impl StoredAmount {
    /// Adds others.
    pub const fn add(&mut self, other: Self) {
        self.operations = self.operations.saturating_add(other.operations);
        self.further_blocks = self.further_blocks.saturating_add(other.further_blocks);
    }

    /// How many bytes they take, about.
    pub const fn bytes(&self) -> u64 {
        // A sum over several partitions that are read one after the other may be below zero for a moment.
        let further = if self.further_blocks < 0 { 0 } else { self.further_blocks as u64 };
        self.operations.saturating_add(further).saturating_mul(BLOCK_BYTES)
    }
}

/// The counts in the counters of a parent, or in their sums over several parents.
pub fn parent_counts(
    [active, waiting, unsuccessful, cancelling, _]: [i64; PARENT_COUNTERS],
) -> [(Published, u64); 7] {
    let [active, waiting, unsuccessful, cancelling] =
        [active, waiting, unsuccessful, cancelling].map(counts);
    [
        (Published::Pending, waiting.0),
        (Published::Running, active.0),
        (Published::Cancelling, cancelling.0),
        (Published::Suspended, waiting.1),
        (Published::Succeeded, active.1),
        (Published::Failed, unsuccessful.0),
        (Published::Cancelled, unsuccessful.1),
    ]
}

/// What the counters of a parent, or their sums over several parents, say of the space that the operations take. `expired` is
/// left out.
pub fn stored_bytes(counters: [i64; PARENT_COUNTERS], expired: StoredAmount) -> u64 {
    let [.., further_blocks] = counters;
    let operations = parent_counts(counters).iter().map(|(_, count)| count).sum::<u64>();
    let operations = operations.saturating_sub(expired.operations);
    let further_blocks = further_blocks.saturating_sub(expired.further_blocks);
    StoredAmount { operations, further_blocks }.bytes()
}

/// The counts in the counter of a queue.
pub const fn queue_count(counter: i64) -> QueueCount {
    let (pending, running) = counts(counter);
    QueueCount { pending, running }
}

impl Operation {
    /// What it counts with, itself included.
    pub fn stored(&self) -> StoredAmount {
        StoredAmount { operations: 1, further_blocks: i64::from(self.further_blocks) }
    }
}

/// In which counter an operation counts, and its amount there.
type Share = Option<(u8, i64)>;

/// Callers do not see a deleted operation that its worker still holds.
fn share_of_parent(operation: &Operation) -> Share {
    let share = match operation.state {
        State::Running(_) => (ACTIVE, UPPER),
        State::Succeeded(_) => (ACTIVE, LOWER),
        State::Pending(_) => (WAITING, UPPER),
        State::Suspended(_) => (WAITING, LOWER),
        State::Failed(_) => (UNSUCCESSFUL, UPPER),
        State::Cancelled(_) => (UNSUCCESSFUL, LOWER),
        State::Cancelling(..) => (CANCELLING, UPPER),
    };
    operation.deletion.is_none().then_some(share)
}

fn share_of_queue(operation: &Operation) -> Share {
    match operation.state {
        State::Pending(_) => Some((QUEUE, UPPER)),
        State::Running(_) | State::Cancelling(..) => Some((QUEUE, LOWER)),
        State::Suspended(_) | State::Succeeded(_) | State::Failed(_) | State::Cancelled(_) => None,
    }
}

/// The share of a record in one counter.
fn amount(share: Option<Share>, counter: u8) -> i64 {
    share.flatten().filter(|(other, _)| *other == counter).map_or(0, |(_, amount)| amount)
}

fn parent_counter(parent: &str, pair: u8) -> Vec<u8> {
    [parent.as_bytes(), &[0, pair]].concat()
}

/// The upper and the lower count of a counter.
const fn counts(counter: i64) -> (u64, u64) {
    // A count below zero would otherwise be taken from the other one.
    let lower = counter as i32 as i64;
    let upper = (counter - lower) >> 32;
    (if upper < 0 { 0 } else { upper as u64 }, if lower < 0 { 0 } else { lower as u64 })
}

/// One operation in the upper count of a counter.
const UPPER: i64 = 1 << 32;
/// One in the lower.
const LOWER: i64 = 1;
/// RUNNING and SUCCEEDED.
const ACTIVE: u8 = b'a';
/// PENDING and SUSPENDED.
const WAITING: u8 = b'w';
/// FAILED and CANCELLED.
const UNSUCCESSFUL: u8 = b'u';
/// CANCELLING.
const CANCELLING: u8 = b'c';
/// The counters of each parent that hold two counts.
const PAIRS: [u8; 4] = [ACTIVE, WAITING, UNSUCCESSFUL, CANCELLING];
/// Blocks.
const SIZE: u8 = b's';
/// How many counters a parent has.
pub const PARENT_COUNTERS: usize = PAIRS.len() + 1;
/// The only counter of a queue, which its name has no room for.
const QUEUE: u8 = b'q';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_counts_share_a_number_and_come_apart_again() {
        let most = u32::MAX >> 1;
        for (upper, lower) in [(0, 0), (1, 0), (0, 1), (7, 9), (most, most)] {
            let counter = i64::from(upper) * UPPER + i64::from(lower) * LOWER;
            assert_eq!(counts(counter), (u64::from(upper), u64::from(lower)));
        }
        // One that went below zero does not spoil the other.
        assert_eq!(counts(5 * UPPER - LOWER), (5, 0));
        assert_eq!(counts(5 * LOWER - UPPER), (0, 5));
    }
}
