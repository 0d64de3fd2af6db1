//! What operations do when their time comes.

use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::engine::due::ComesDue;
use crate::engine::error::Reason;
use crate::engine::operations::commands::{Job, Outcome};
use crate::operation::Record;
use crate::operation::command::{Command, Due};
use crate::operation::entries::DueClass;
use crate::record::Before;
use crate::record::due::DueIndex;
use crate::store::Key;

impl ComesDue for Record {
    async fn come_due(
        engine: &Engine,
        index: &'static DueIndex,
        found: Vec<(Key, Before<Self>)>,
    ) -> usize {
        let Some(class) = DueClass::of_index(index.name) else { return 0 };
        let job = |(key, before)| (Job { key, command: come_due(class) }, before);
        let outcomes = engine.apply_to_read(found.into_iter().map(job).collect()).await;
        engine.count_changed(&outcomes)
    }
}

impl Engine {
    /// Ends leases that expired by now.
    pub(in crate::engine) async fn expire_leases(&self, keys: Vec<Key>) {
        self.end_overdue(keys.into_iter().map(|key| (DueClass::Lease, key)).collect()).await;
    }

    /// Ends operations that ran out of time.
    pub(in crate::engine) async fn end_overdue(&self, overdue: Vec<(DueClass, Key)>) {
        let jobs = overdue.into_iter().map(|(class, key)| Job { key, command: come_due(class) });
        self.count_changed(&self.apply_jobs(jobs.collect()).await);
    }

    /// The command as of this very moment, if it is about what came due: this server may have stood still since the entry was
    /// found. A lease that a stream of this server holds does not expire here: the stream renews it, or ends because its
    /// worker is silent.
    pub(in crate::engine) fn due_now(&self, key: Key, command: &Command) -> Option<Command> {
        let Command::Due(due) = command else { return None };
        let held = due.class == DueClass::Lease && self.inner.held.contains(key);
        let since = self.inner.steady.answering_since(&*self.inner.store, self.partition(key));
        let since = since.filter(|_| !held);
        Some(Command::Due(Due { answering_since: since.unwrap_or(Timestamp::MAX), ..*due }))
    }

    /// Counts the operations that changed, and logs why others could not.
    fn count_changed(&self, outcomes: &[Outcome]) -> usize {
        let changed = |outcome: &&Outcome| match outcome {
            Ok(done) => done.as_ref().is_some_and(|done| done.changed),
            Err(error) => {
                // An unreadable record was noted where it was read.
                if error.reason != Reason::Internal {
                    self.hampered("could not do what is due; trying again", error);
                }
                false
            }
        };
        outcomes.iter().filter(changed).count()
    }
}

/// Whether the store answers is asked when the command is decided.
const fn come_due(class: DueClass) -> Command {
    Command::Due(Due { class, answering_since: Timestamp::MAX })
}
