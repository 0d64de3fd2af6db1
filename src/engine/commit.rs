//! The commit loop: read, decide, write by compare-and-set; again after a conflict.

use crate::clock::Timestamp;
use crate::operation::command::Command;
use crate::operation::entries::DueClass;
use crate::operation::lease::Answer;
use crate::operation::name::Name;
use crate::operation::{Applied, Change, Operation, Record, Rejection, Stamps, apply};
use crate::store::codec::{decode, detach, encode};
use crate::store::plan::{Before, becomes_ready, write_set};
use crate::store::{CommitError, Committed, Key, Record as Stored, StoreError, WriteSet};

use super::error::{Error, Result};
use super::{Engine, view::View};

/// What a command came to.
#[derive(Clone, Debug)]
pub struct Done {
    /// What the name holds now.
    pub record: Option<Record>,
    /// What the command was told.
    pub answer: Answer,
    /// Whether this very call wrote it.
    pub changed: bool,
    /// When it was decided, by the store's clock.
    pub time: Timestamp,
}

impl Done {
    pub(super) const fn new(
        record: Option<Record>,
        answer: Answer,
        changed: bool,
        time: Timestamp,
    ) -> Self {
        Self { record, answer, changed, time }
    }

    /// The operation, unless it is gone.
    pub fn operation(&self) -> Option<&Operation> {
        self.record.as_ref().and_then(Record::operation)
    }
}

/// Where something is written, and under which generation of its partition that began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) key: Key,
    pub(super) generation: u64,
}

impl Engine {
    /// Applies a command to the operation of that name.
    pub(super) async fn apply(&self, name: &Name, command: &Command) -> Result<Done> {
        self.apply_to_key(self.key(name), command).await?.ok_or_else(|| Error::not_found(name))
    }

    /// Applies a command to the record of that key; `None` if there is none.
    pub(super) async fn apply_to_key(&self, key: Key, command: &Command) -> Result<Option<Done>> {
        let mut patience = Patience::default();
        let mut recent = self.inner.recent.take(key);
        // What may have been written, for a command that the record does not know again.
        let mut sent: Option<(u64, Change)> = None;
        loop {
            let remembered = recent.take();
            let fresh = remembered.is_none();
            let before = match remembered {
                Some(remembered) => Some(remembered),
                None => self.read(key).await?,
            };
            let Some(before) = before else { return Ok(None) };
            let partition = self.inner.store.keyspace().partition(key);
            let now = self.inner.store.now(partition);
            if let Some((revision, change)) =
                sent.take().filter(|(revision, _)| *revision != before.stamps.revision)
            {
                if is_written(key, change.record.as_ref(), &before.record) {
                    return Ok(Some(Done::new(Some(before.record), change.answer, true, now)));
                }
                tracing::warn!(
                    revision,
                    "somebody else wrote while it was not known whether a report was; leaving that to its worker"
                );
                return Err(Error::busy(&"the operation"));
            }
            let due = self.due_now(key, command);
            let change = match apply(&before.record, due.as_ref().unwrap_or(command), now) {
                Ok(Applied::Changed(change)) => change,
                // What was remembered may be out of date; only a commit upon it shows that it is not.
                _ if !fresh => continue,
                Ok(Applied::Unchanged(answer)) => {
                    return Ok(Some(Done::new(Some(before.record), answer, false, now)));
                }
                Err(rejection) => return Err(rejection.into()),
            };
            let generation = self.inner.hub.generation(partition);
            let set = self.plan(key, Some(&before), &change);
            match self.commit_one(set).await {
                Ok(committed) => {
                    let answer = change.answer;
                    let record = self.committed(
                        Spot { key, generation },
                        Some(before.stamps),
                        *change,
                        committed,
                    );
                    self.follow_up(key, Some(&before.record), record.as_ref());
                    return Ok(Some(Done::new(record, answer, true, now)));
                }
                Err(error) => {
                    if matches!(error, CommitError::Unavailable(_)) && !command.is_known_again() {
                        sent = Some((before.stamps.revision, *change));
                    }
                    patience.spend(error)?;
                }
            }
        }
    }

    pub(super) fn plan(&self, key: Key, before: Option<&Before>, change: &Change) -> WriteSet {
        let before_it = before.map(|before| &before.record);
        let note = match change.record.as_ref().and_then(Record::operation) {
            Some(operation) if becomes_ready(before_it, change.record.as_ref()) => {
                operation.spec.queue.as_str()
            }
            Some(operation) if waits_for_time(operation) => FOR_THE_SCHEDULER,
            _ => "",
        };
        write_set(self.inner.store.keyspace(), key, before, change, note)
    }

    pub(super) async fn commit_one(
        &self,
        set: WriteSet,
    ) -> std::result::Result<Committed, CommitError> {
        let results = self.inner.store.commit(vec![set]).await;
        results.into_iter().next().unwrap_or(Err(CommitError::Conflict))
    }

    /// The record with the stamps of its commit; whoever waits for it here is told at once.
    pub(super) fn committed(
        &self,
        spot: Spot,
        before: Option<Stamps>,
        change: Change,
        committed: Committed,
    ) -> Option<Record> {
        let Spot { key, generation } = spot;
        let mut record = change.record;
        if let Some(Record::Operation(operation)) = &mut record {
            let old = before.unwrap_or_default();
            operation.stamps = Stamps {
                revision: committed.revision,
                visible: if change.visible { committed.revision } else { old.visible },
                fencing: if change.leases { committed.revision } else { old.fencing },
            };
        }
        if let Some(record) = &record
            && let Some(operation) = record.operation()
        {
            self.inner.recent.keep(key, record, operation.stamps);
        }
        let operation = record.as_ref().and_then(Record::operation);
        self.inner.held.written(key, committed.revision, operation);
        if change.visible && self.inner.hub.is_watched(key) {
            let state = match record.as_ref().and_then(Record::operation) {
                // Work on it may go on, but callers see no more of it.
                Some(operation) if operation.deletion.is_some() => {
                    Some(Err(Rejection::Deleted(operation.name.clone()).into()))
                }
                // Payloads are still inline in the change, so the view needs no reading.
                operation => operation.and_then(View::of_inline).map(Ok),
            };
            match state {
                Some(state) => self.inner.hub.offer(key, generation, committed.revision, state),
                None => self.inner.hub.refresh(key),
            }
        }
        record
    }

    /// Counts a commit, and tells the agents and dispatchers of this server what they would otherwise learn by hint or by
    /// looking.
    pub(super) fn follow_up(&self, key: Key, before: Option<&Record>, after: Option<&Record>) {
        match before {
            Some(Record::Operation(before)) => self.inner.metrics.changed(before, after),
            Some(Record::Tombstone(_)) => {}
            None => self.inner.metrics.started(),
        }
        let Some(operation) = after.and_then(Record::operation) else { return };
        if becomes_ready(before, after) {
            self.wake_by_rank(operation.spec.queue.as_str(), self.partition(key));
        }
        if waits_for_time(operation) {
            self.inner.scheduler_wake.notify_one();
        }
    }
}

/// Whether the scheduler lets it go on.
fn waits_for_time(operation: &Operation) -> bool {
    let class = |class| matches!(class, DueClass::Start | DueClass::Retry | DueClass::Resume);
    operation.places.due.iter().any(|(due, _)| class(*due))
}

pub(super) fn understand(found: &Stored) -> std::result::Result<Before, StoreError> {
    let stamps = Stamps {
        revision: found.revision,
        visible: found.visible_revision,
        fencing: found.fencing_number,
    };
    Ok(Before { record: decode(found)?, stamps })
}

/// Whether that is what was to be written.
fn is_written(key: Key, sent: Option<&Record>, found: &Record) -> bool {
    sent.is_some_and(|sent| {
        let mut sent = sent.clone();
        detach(&mut sent, key);
        encode(&sent) == encode(found)
    })
}

/// How often a commit is tried again before the caller is told.
#[derive(Default)]
pub(super) struct Patience {
    conflicts: u32,
    outages: u32,
}

impl Patience {
    /// Whether to go round again.
    ///
    /// A commit that was not heard of may have been applied: reading again tells, because every command leaves in the record
    /// what a repeat of it is known by.
    pub(super) fn spend(&mut self, error: CommitError) -> Result<()> {
        match error {
            CommitError::Conflict if self.conflicts < MAX_CONFLICTS => self.conflicts += 1,
            CommitError::Unavailable(_) if self.outages < MAX_OUTAGES => self.outages += 1,
            CommitError::Unavailable(error) => return Err(error.into()),
            CommitError::Conflict => return Err(Error::busy(&"the operation")),
            CommitError::Early => return Err(Error::busy(&"the store's clock")),
        }
        Ok(())
    }
}

/// The note of a hint about something that waits for its time; no queue has that name.
pub(super) const FOR_THE_SCHEDULER: &str = "\0";
const MAX_CONFLICTS: u32 = 100;
const MAX_OUTAGES: u32 = 2;
