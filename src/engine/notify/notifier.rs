//! Informs the tasks of this server of changes: by its own commits, by hints of other servers, and by gaps in the hints.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::engine::context::Context;
use crate::engine::endpoints::listening::Listening;
use crate::engine::identity::authority::Authority;
use crate::engine::leases::holders::Holders;
use crate::engine::membership::ranks::Membership;
use crate::engine::notify::gate_news::GateInbox;
use crate::engine::parent_types::ParentTypes;
use crate::engine::queues::known::KnownQueues;
use crate::engine::reading::reader::Reader;
use crate::engine::reading::view::View;
use crate::engine::roster::registry::Roster;
use crate::engine::transact::{Commit, Observer, Transactor};
use crate::engine::watching::hub::Hub;
use crate::engine::watching::sets::intake::Sets;
use crate::job::{Execution, ExecutionEnd, Job};
use crate::operation::{Operation, Record, Rejection, Stamps, State};
use crate::record::event::OutboxEvent;
use crate::record::operation::{becomes_ready, ends_run, waits_for_time};
use crate::record::{Before, Change, Note};
use crate::store::{Event, Feed, Key, Partition};

/// Runs transactions on operations.
pub(in crate::engine) type OperationTransactor = Transactor<Notifier>;

/// Every task on this server that is informed.
pub(in crate::engine) struct Notifier {
    context: Arc<Context>,
    reader: Arc<Reader>,
    membership: Arc<Membership>,
    hub: Arc<Hub>,
    sets: Arc<Sets>,
    holders: Arc<Holders>,
    types: Arc<ParentTypes>,
    listening: Arc<Listening>,
    queues: Arc<KnownQueues>,
    roster: Arc<Roster>,
    gates: GateInbox,
    authority: Arc<Authority>,
    scheduler: Notify,
    courier: Notify,
}

/// The rooms whose tasks are informed.
#[derive(Clone)]
pub(in crate::engine) struct Informed {
    pub(in crate::engine) hub: Arc<Hub>,
    pub(in crate::engine) sets: Arc<Sets>,
    pub(in crate::engine) holders: Arc<Holders>,
    pub(in crate::engine) types: Arc<ParentTypes>,
    pub(in crate::engine) listening: Arc<Listening>,
    pub(in crate::engine) queues: Arc<KnownQueues>,
    pub(in crate::engine) roster: Arc<Roster>,
    pub(in crate::engine) authority: Arc<Authority>,
}

impl Observer<Record> for Notifier {
    fn complete(&self, key: Key, before: Option<&Before<Record>>, change: &mut Change<Record>) {
        let before = before.map(|before| &before.record);
        change.event = change.main.as_mut().and_then(|after| {
            let has_endpoints = self.listening.to(after.name().parent());
            OutboxEvent::of(key, before, after, has_endpoints)
        });
    }

    fn committed(&self, commit: Commit<Record>) -> Option<Record> {
        let Commit { key, before, change, committed, generation } = commit;
        let Change { mut main, event, visible, leases, .. } = change;
        if let Some(Record::Operation(operation)) = &mut main {
            let old = before.as_ref().map(|before| before.stamps).unwrap_or_default();
            operation.stamps = Stamps {
                revision: committed.revision,
                visible: if visible { committed.revision } else { old.visible },
                fencing: if leases { committed.revision } else { old.fencing },
            };
        }
        let operation = main.as_ref().and_then(Record::operation);
        if let (Some(record), Some(operation)) = (&main, operation) {
            self.reader.recent.keep(key, record, operation.stamps);
        }
        if let Some(ended) = operation.filter(|operation| operation.end_time.is_some()) {
            self.context.lately.ended(before.as_ref().map(|before| &before.record), ended);
        }
        self.holders.written(key, committed.revision, operation);
        if visible {
            self.sets.written(key, committed.revision);
        }
        if visible && self.hub.is_watched(key) {
            let state = match operation {
                // Work on it may go on, but callers see no more of it.
                Some(operation) if operation.deletion.is_some() => {
                    Some(Err(Rejection::Deleted(operation.name.clone()).into()))
                }
                // Payloads are still inline in the change, so the view needs no reading.
                operation => operation.and_then(View::of_inline).map(Ok),
            };
            match state {
                Some(state) => self.hub.offer(key, generation, committed.revision, state),
                None => self.hub.refresh(key),
            }
        }
        if event.is_some() {
            self.courier.notify_one();
        }
        self.follow_up(key, before.as_ref().map(|before| &before.record), main.as_ref());
        main
    }
}

impl Observer<Job> for Notifier {
    fn committed(&self, commit: Commit<Job>) -> Option<Job> {
        let Commit { key, before, change, committed, .. } = commit;
        let mut job = change.main?;
        let old = before.map(|before| before.stamps).unwrap_or_default();
        let visible = if change.visible { committed.revision } else { old.visible };
        job.stamps = Stamps { revision: committed.revision, visible, ..old };
        // Later ones are found in time.
        if job.due.is_some_and(|due| due.since(self.context.now(key)) < Duration::from_secs(1)) {
            self.scheduler.notify_one();
        }
        Some(job)
    }
}

/// Executions are read by their job's callers alone.
impl Observer<Execution> for Notifier {
    fn committed(&self, commit: Commit<Execution>) -> Option<Execution> {
        commit.change.main
    }
}

impl Observer<ExecutionEnd> for Notifier {
    fn committed(&self, commit: Commit<ExecutionEnd>) -> Option<ExecutionEnd> {
        commit.change.main
    }
}

impl Notifier {
    pub(in crate::engine) fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        membership: Arc<Membership>,
        informed: Informed,
    ) -> Self {
        let Informed { hub, sets, holders, types, queues, listening, roster, authority } = informed;
        let (scheduler, courier, gates) = (Notify::new(), Notify::new(), GateInbox::default());
        Self {
            context,
            reader,
            membership,
            hub,
            sets,
            holders,
            types,
            listening,
            queues,
            roster,
            gates,
            authority,
            scheduler,
            courier,
        }
    }

    /// What the gates must know of.
    pub(in crate::engine) const fn gate_inbox(&self) -> &GateInbox {
        &self.gates
    }

    /// Resolves once an entry may be due sooner than the scheduler knows.
    pub(in crate::engine) async fn scheduler_woken(&self) {
        self.scheduler.notified().await;
    }

    /// Resolves once an event was written whose receivers are not known yet.
    pub(in crate::engine) async fn courier_woken(&self) {
        self.courier.notified().await;
    }

    /// Counts a commit, and informs the scheduler and the dispatchers of this server without waiting for the hint.
    fn follow_up(&self, key: Key, before: Option<&Record>, after: Option<&Record>) {
        match before {
            Some(Record::Operation(before)) => {
                self.context.metrics.changed(before, after);
                self.count_failure(before, after);
            }
            Some(Record::Tombstone(_)) => {}
            None => self.context.metrics.started(),
        }
        self.gates.changed(key, before, after);
        if ends_run(before, after) {
            self.scheduler.notify_one();
        }
        let Some(operation) = after.and_then(Record::operation) else { return };
        if becomes_ready(before, after) {
            self.wake_by_rank(operation.spec.queue.as_str(), self.context.partition(key));
        }
        if waits_for_time(operation) {
            self.scheduler.notify_one();
        }
    }

    /// Counts a failure for its queue.
    fn count_failure(&self, before: &Operation, after: Option<&Record>) {
        let after = after.and_then(Record::operation);
        let failed = after.filter(|after| matches!(after.state, State::Failed(_)));
        if let Some(failed) = failed.filter(|_| !before.state.is_done()) {
            self.roster.activity(failed.spec.queue.as_str()).failed();
        }
    }

    /// Takes in the hints of the store, until it is closed.
    pub(in crate::engine) async fn run(self: Arc<Self>, mut feed: Feed) {
        while let Some(event) = feed.next().await {
            self.take_in(event);
        }
    }

    fn take_in(&self, event: Event) {
        match event {
            Event::Hint(hint) => {
                match Note::decode(&hint.note) {
                    Note::Changed => {}
                    Note::TypeSets => self.types.changed(),
                    Note::Queues => self.queues.changed(),
                    Note::Token => self.authority.changed(),
                    Note::Scheduled => self.schedule_by_rank(hint.partition),
                    Note::Ready(queue) => self.wake_by_rank(&queue, hint.partition),
                }
                self.holders.hint(hint.key, hint.revision);
                self.roster.hint(hint.key, hint.revision);
                self.hub.hint(hint.key, hint.revision);
                self.sets.hint(&hint);
            }
            Event::Gap(partitions) => {
                self.reader.went_back(&partitions);
                self.holders.gap(self.context.store.keyspace(), &partitions);
                self.hub.gap(&partitions);
                self.sets.gap(&partitions);
                self.types.changed();
                self.authority.changed();
                self.queues.changed();
                self.roster.gap();
                self.queues.wakes().wake_all();
                self.scheduler.notify_one();
            }
        }
    }

    /// Something became ready in a queue. A server that does not rank first there leaves it a moment to those that do.
    fn wake_by_rank(&self, queue: &str, partition: Partition) {
        let rank = self.membership.rank(partition);
        if rank == 0 {
            self.queues.wakes().wake(queue);
        } else if let Some(wake) = self.queues.wakes().delay(queue) {
            let clock = Arc::clone(&self.context.clock);
            self.context.tasks.spawn("delayed wake", async move {
                clock.sleep(HEAD_START * rank).await;
                wake.after_delay();
            });
        }
    }

    /// A hint says that an entry of this partition is due soon.
    fn schedule_by_rank(&self, partition: Partition) {
        if self.membership.rank(partition) == 0 {
            self.scheduler.notify_one();
        }
    }
}

/// Each server with a better rank adds this to the time before this server leases the work.
const HEAD_START: Duration = Duration::from_millis(2);
