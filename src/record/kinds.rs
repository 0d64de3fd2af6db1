//! All kinds of record.

use super::delivery::Delivery;
use super::due::{Agent, DueIndex};
use super::event::OutboxEvent;
use super::gate::GateRecord;
use super::kind::Kind;
use super::queue::QueueRecord;
#[cfg(test)]
use super::sample::Sample;
use super::server::ServerRecord;
use super::tokens::ApiToken;
use super::type_sets::TypeSets;
use crate::job::{Execution, ExecutionEnd, Job};
use crate::operation::Record as Operation;
use crate::store::Layout;
use crate::webhook::endpoint::Endpoint;

/// The due indexes that an agent polls, in the order in which it polls them.
pub fn due_indexes(agent: Agent) -> impl Iterator<Item = &'static DueIndex> {
    all_due_indexes().filter(move |index| index.agent == agent)
}

/// How the indexes of all kinds are used.
pub fn layout() -> Layout {
    let names = |in_memory| {
        let due = all_due_indexes().filter(move |index| index.in_memory == in_memory);
        due.map(|index| index.name).collect()
    };
    Layout {
        in_memory: names(true),
        families_in_memory: KINDS.iter().flat_map(|kind| kind.passing).copied().collect(),
        drained: names(false),
    }
}

fn all_due_indexes() -> impl Iterator<Item = &'static DueIndex> {
    KINDS.iter().flat_map(|kind| kind.due)
}

/// Whether this version knows the kind whose message has that number.
pub(super) fn is_known(number: u32) -> bool {
    KINDS.iter().any(|kind| kind.numbers.contains(&number))
}

/// The properties of a kind that need no record.
struct Known {
    numbers: &'static [u32],
    due: &'static [DueIndex],
    passing: &'static [&'static str],
}

impl Known {
    const fn of<K: Kind>() -> Self {
        Self { numbers: K::NUMBERS, due: K::DUE, passing: K::PASSING }
    }
}

/// All kinds.
const KINDS: &[Known] = &[
    Known::of::<Operation>(),
    Known::of::<ServerRecord>(),
    Known::of::<TypeSets>(),
    Known::of::<GateRecord>(),
    Known::of::<Endpoint>(),
    Known::of::<Job>(),
    Known::of::<Execution>(),
    Known::of::<ExecutionEnd>(),
    Known::of::<OutboxEvent>(),
    Known::of::<Delivery>(),
    Known::of::<QueueRecord>(),
    Known::of::<ApiToken>(),
    #[cfg(test)]
    Known::of::<Sample>(),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_kinds_share_a_number_or_a_due_index() {
        let (mut numbers, mut names) = (HashSet::new(), HashSet::new());
        for kind in KINDS {
            assert!(kind.numbers.iter().all(|number| numbers.insert(number)), "{:?}", kind.numbers);
            assert!(kind.due.iter().all(|index| names.insert(index.name)), "{:?}", kind.due);
        }
        assert!(names.iter().all(|name| name.starts_with("due/")), "{names:?}");
    }

    #[test]
    fn indexes_that_may_have_an_entry_for_each_operation_stay_on_disk_and_the_others_in_memory() {
        let layout = layout();
        for index in all_due_indexes() {
            let on_disk = ["due/retention", "due/tombstone", "due/delivery"].contains(&index.name);
            assert_eq!(layout.is_drained(index.name), on_disk, "{}", index.name);
            assert_eq!(layout.is_in_memory(index.name), !on_disk, "{}", index.name);
        }
        for passing in ["ready/default", "unfinished", "waiting/default", "gate/00"] {
            assert!(layout.is_in_memory(passing), "{passing}");
        }
        for unknown in ["list", "due/of-a-newer-version", "due/", "ready"] {
            assert!(!layout.is_in_memory(unknown) && !layout.is_drained(unknown), "{unknown}");
        }
    }
}
