//! Processes due operations.

use crate::clock::Timestamp;
use crate::engine::commands::apply::{CommandOutcome, Commands, KeyedCommand};
use crate::engine::due::kinds::ComesDue;
use crate::engine::error::Reason;
use crate::operation::Record;
use crate::operation::command::{Command, Due};
use crate::operation::entries::DueClass;
use crate::record::Before;
use crate::record::due::DueIndex;
use crate::store::Key;

impl ComesDue for Record {
    async fn come_due(
        commands: &Commands,
        index: &'static DueIndex,
        found: Vec<(Key, Before<Self>)>,
    ) -> usize {
        let Some(class) = DueClass::of_index(index.name) else { return 0 };
        let keyed = |(key, before)| (KeyedCommand { key, command: come_due(class) }, before);
        let outcomes = commands.apply_to_read(found.into_iter().map(keyed).collect()).await;
        count_changed(commands, &outcomes)
    }
}

/// Ends operations that ran out of time.
pub(in crate::engine) async fn end_overdue(commands: &Commands, overdue: Vec<(DueClass, Key)>) {
    let keyed = |(class, key)| KeyedCommand { key, command: come_due(class) };
    let outcomes = commands.apply_all(overdue.into_iter().map(keyed).collect()).await;
    count_changed(commands, &outcomes);
}

/// Ends leases that expired by now.
pub(in crate::engine) async fn expire_leases(commands: &Commands, keys: Vec<Key>) {
    end_overdue(commands, keys.into_iter().map(|key| (DueClass::Lease, key)).collect()).await;
}

/// Counts the changed operations, and logs the errors of the others.
fn count_changed(commands: &Commands, outcomes: &[CommandOutcome]) -> usize {
    let changed = |outcome: &&CommandOutcome| match outcome {
        Ok(done) => done.as_ref().is_some_and(|done| done.changed),
        Err(error) => {
            // An unreadable record was noted where it was read.
            if error.reason != Reason::Internal {
                commands
                    .context()
                    .log_failure("could not process a due operation; trying again", error);
            }
            false
        }
    };
    outcomes.iter().filter(changed).count()
}

/// The decision checks whether the store responds.
const fn come_due(class: DueClass) -> Command {
    Command::Due(Due { class, answering_since: Timestamp::MAX })
}
