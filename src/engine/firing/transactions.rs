//! The transactions of jobs and executions.

use crate::clock::Timestamp;
use crate::engine::transact::{Assumed, Decision, Transaction};
use crate::job::{Execution, ExecutionEnd, Job};
use crate::operation::Record;
use crate::record::execution::end_key;
use crate::record::{Also, Before, Change};
use crate::store::Key;

/// A change of a job that a function decides.
pub(in crate::engine) struct JobTransaction<F> {
    key: Key,
    assumed: Assumed<Job>,
    decide: F,
}

impl<F> JobTransaction<F>
where
    F: FnMut(Option<&Before<Job>>, Timestamp) -> Decision<Job>,
{
    /// On the job of that key.
    pub(in crate::engine) const fn new(key: Key, decide: F) -> Self {
        Self { key, assumed: Assumed::Nothing, decide }
    }

    /// On a job of that key, which is probably not there.
    pub(in crate::engine) const fn absent(key: Key, decide: F) -> Self {
        Self { key, assumed: Assumed::Absent, decide }
    }

    /// On this job, which the caller has just read.
    pub(in crate::engine) const fn on(key: Key, read: Before<Job>, decide: F) -> Self {
        Self { key, assumed: Assumed::Read(read), decide }
    }
}

impl<F> Transaction for JobTransaction<F>
where
    F: FnMut(Option<&Before<Job>>, Timestamp) -> Decision<Job>,
{
    type Kind = Job;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<Job> {
        std::mem::replace(&mut self.assumed, Assumed::Nothing)
    }

    fn decide(&mut self, before: Option<&Before<Job>>, _: bool, now: Timestamp) -> Decision<Job> {
        (self.decide)(before, now)
    }

    fn recognises_itself(&self) -> bool {
        false
    }
}

/// Writes what `change` makes of a job that is there; nothing if it changes nothing.
pub(in crate::engine) fn changed(
    mut change: impl FnMut(&mut Job, Timestamp),
) -> impl FnMut(Option<&Before<Job>>, Timestamp) -> Decision<Job> {
    move |before, now| {
        let Some(Before { record, .. }) = before else { return Decision::Keep };
        let mut job = record.clone();
        change(&mut job, now);
        let due = job.due;
        // A job with steps is due at once: it does not matter since when.
        if !job.steps().is_empty() && record.due.is_some_and(|due| due <= now) {
            job.due = record.due;
        }
        if job == *record {
            return Decision::Keep;
        }
        Decision::Commit(Box::new(Change::of(Some(Job { due, ..job }))))
    }
}

/// The start of the operation of a run, with the beginning of its execution.
pub(super) struct BeginRun {
    pub(super) key: Key,
    pub(super) change: Option<Box<Change<Record>>>,
}

impl Transaction for BeginRun {
    type Kind = Record;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<Record> {
        Assumed::Absent
    }

    /// The id belongs to this run alone: an operation of that name is that of an earlier try.
    fn decide(
        &mut self,
        before: Option<&Before<Record>>,
        _: bool,
        _: Timestamp,
    ) -> Decision<Record> {
        match self.change.take() {
            Some(change) if before.is_none() => Decision::Commit(change),
            change => {
                self.change = change;
                Decision::Keep
            }
        }
    }

    fn withdrawn(&mut self, change: Change<Record>) {
        self.change = Some(Box::new(change));
    }
}

/// The job of an execution that is over knows it.
pub(super) struct SettleEnd {
    pub(super) key: Key,
    pub(super) read: Option<Before<ExecutionEnd>>,
}

impl Transaction for SettleEnd {
    type Kind = ExecutionEnd;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<ExecutionEnd> {
        self.read.take().map_or(Assumed::Nothing, Assumed::Read)
    }

    fn decide(
        &mut self,
        before: Option<&Before<ExecutionEnd>>,
        _: bool,
        _: Timestamp,
    ) -> Decision<ExecutionEnd> {
        let Some(open) = before.filter(|before| !before.record.settled) else {
            return Decision::Keep;
        };
        let settled = ExecutionEnd { settled: true, ..open.record.clone() };
        Decision::Commit(Box::new(Change::of(Some(settled))))
    }
}

/// The removal of an execution.
pub(super) struct RemoveExecution {
    /// Of its operation.
    pub(super) operation: Key,
    pub(super) key: Key,
    pub(super) end: Option<Before<ExecutionEnd>>,
}

impl Transaction for RemoveExecution {
    type Kind = Execution;

    fn key(&self) -> Key {
        self.key
    }

    fn decide(
        &mut self,
        before: Option<&Before<Execution>>,
        _: bool,
        _: Timestamp,
    ) -> Decision<Execution> {
        if before.is_none() {
            return Decision::Keep;
        }
        let end =
            |end: &Before<ExecutionEnd>| Also::replace(end_key(self.operation), end.clone(), None);
        let also = self.end.iter().map(end).collect();
        Decision::Commit(Box::new(Change { also, ..Change::of(None) }))
    }
}
