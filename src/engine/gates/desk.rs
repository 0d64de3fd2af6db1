//! The gates of one server: what operations ask of them, and what is to be done at each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::turn::{GateTurn, Queued, Want};
use super::usage::SlotUsage;
use crate::engine::commands::apply::{CommandOutcome, Commands, KeyedCommand};
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::notify::gate_news::GateNews;
use crate::engine::notify::notifier::Notifier;
use crate::engine::queues::known::KnownQueues;
use crate::engine::reading::reader::Reader;
use crate::engine::transact::{Ended, Transactor, Unobserved};
use crate::operation::command::{Command, Evict};
use crate::operation::entries::preempts;
use crate::operation::gate::{GateLimit, GateName};
use crate::operation::{Operation, Record};
use crate::record::Before;
use crate::record::gate::{GateRecord, GateSlot};
use crate::store::{Entry, Index, Key, Scan, StoreError};

pub(in crate::engine) use super::turn::Passage;

/// The gates that this server has something to do with.
pub(in crate::engine) struct Gates {
    context: Arc<Context>,
    reader: Arc<Reader>,
    transactor: Transactor<Unobserved>,
    commands: Arc<Commands>,
    notifier: Arc<Notifier>,
    queues: Arc<KnownQueues>,
    usage: SlotUsage,
    /// A gate with an entry has a task.
    errands: Mutex<HashMap<Key, Errands>>,
}

/// What is to be done at one gate.
#[derive(Default)]
struct Errands {
    wants: Vec<(Want, oneshot::Sender<Result<Passage>>)>,
    freed: Vec<GateSlot>,
    /// An operation waits.
    serve: bool,
    /// Its slots are to be checked.
    check: bool,
    /// Who waits until nothing is left to do; told how many commits it took.
    ends: Vec<oneshot::Sender<usize>>,
}

impl Gates {
    pub(in crate::engine) fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        commands: Arc<Commands>,
        notifier: Arc<Notifier>,
        queues: Arc<KnownQueues>,
    ) -> Self {
        let transactor = Transactor::new(context.clone(), reader.clone(), Arc::new(Unobserved));
        let usage = SlotUsage::new(context.clone(), reader.clone());
        let errands = Mutex::default();
        Self { context, reader, transactor, commands, notifier, queues, usage, errands }
    }

    /// Asks for a slot for the operation of that key. An operation that has one already keeps it.
    pub(in crate::engine) async fn pass(
        self: &Arc<Self>,
        name: &GateName,
        limit: GateLimit,
        key: Key,
    ) -> Result<Passage> {
        let (reply, answer) = oneshot::channel();
        self.post(name, |errands| errands.wants.push((Want { key, limit }, reply)));
        answer.await.unwrap_or_else(|_| Err(Error::draining()))
    }

    /// Frees slots whose operations do not use them.
    pub(in crate::engine) fn free(self: &Arc<Self>, name: &GateName, slots: Vec<GateSlot>) {
        self.post(name, |errands| errands.freed.extend(slots));
    }

    /// Checks the slots of gates whose time has come; returns how many changed.
    pub(in crate::engine) async fn check(self: &Arc<Self>, gates: Vec<GateName>) -> usize {
        let mut ends = Vec::with_capacity(gates.len());
        for name in gates {
            let (end, ended) = oneshot::channel();
            self.post(&name, |errands| {
                errands.check = true;
                errands.ends.push(end);
            });
            ends.push(ended);
        }
        let mut changed = 0;
        for ended in ends {
            changed += usize::from(ended.await.unwrap_or(0) > 0);
        }
        changed
    }

    /// Takes in what happens to operations, until the engine is dropped.
    pub(in crate::engine) async fn run(self: Arc<Self>) {
        loop {
            for news in self.notifier.gate_inbox().take().await {
                match news {
                    GateNews::Freed(name, slot) => self.free(&name, vec![slot]),
                    GateNews::Arrived(name) => self.post(&name, |errands| errands.serve = true),
                }
            }
        }
    }

    /// Adds to what is to be done at a gate, and begins with it if nothing else was to be done.
    fn post(self: &Arc<Self>, name: &GateName, add: impl FnOnce(&mut Errands)) {
        let key = GateRecord::key(self.context.store.keyspace(), name);
        let mut all = self.lock();
        let begins = !all.contains_key(&key);
        add(all.entry(key).or_default());
        drop(all);
        if begins {
            let (gates, name) = (Arc::clone(self), name.clone());
            self.context.tasks.spawn("gate", async move { gates.attend(key, name).await });
        }
    }

    /// Does what is to be done at a gate, until nothing is left.
    async fn attend(self: Arc<Self>, key: Key, name: GateName) {
        let (mut ends, mut commits) = (Vec::new(), 0);
        loop {
            let mut errands = {
                let mut all = self.lock();
                match all.get_mut(&key) {
                    Some(errands) if !errands.is_done() => std::mem::take(errands),
                    _ => {
                        all.remove(&key);
                        break;
                    }
                }
            };
            ends.append(&mut errands.ends);
            commits += usize::from(self.turn(key, &name, errands).await);
        }
        for end in ends {
            // Fails if nobody waits any more.
            let _ = end.send(commits);
        }
    }

    /// One commit of a gate and what follows from it. Returns whether the gate changed.
    async fn turn(self: &Arc<Self>, key: Key, name: &GateName, errands: Errands) -> bool {
        let Errands { wants, freed, serve, check, ends: _ } = errands;
        let (wants, replies): (Vec<Want>, Vec<_>) = wants.into_iter().unzip();
        let looks = serve || check || !freed.is_empty();
        let mut turn = GateTurn { freed, wants, check, ..GateTurn::new(key, name) };
        if let Err(error) = self.look(&mut turn, looks).await {
            let error = Box::<Error>::from(error);
            refuse_all(replies, &error);
            self.context.log_failure("could not look who waits at a gate", &error);
            return false;
        }
        let ended = self.commit(&mut turn).await;
        let changed = matches!(ended, Ok(Ended::Written { .. }));
        match ended {
            Ok(_) => {
                let passages = std::mem::take(&mut turn.passages);
                for (reply, passage) in replies.into_iter().zip(passages) {
                    // If nobody waits any more, the slot is found unused.
                    let _ = reply.send(Ok(passage));
                }
                self.follow(name, turn).await;
            }
            Err(error) => {
                refuse_all(replies, &error);
                self.context.log_failure("could not write a gate; it is checked later", &error);
            }
        }
        changed
    }

    /// Reads what a turn needs to know: which slots are unused if it checks them, and who waits if it `looks`.
    async fn look(
        &self,
        turn: &mut GateTurn<'_>,
        looks: bool,
    ) -> std::result::Result<(), StoreError> {
        if turn.check {
            self.check_slots(turn).await?;
        }
        if !looks {
            return Ok(());
        }
        let mut queued = Queued::default();
        if turn.name.queue().is_none() {
            queued = self.queued(turn.name).await?;
            if turn.wants.is_empty() {
                turn.limit = self.limit_of_first(turn.key, &queued).await?;
            }
        }
        turn.queued = Some(queued);
        Ok(())
    }

    /// Finds slots that are not used, and counts the leases of a limited queue that have none.
    async fn check_slots(&self, turn: &mut GateTurn<'_>) -> std::result::Result<(), StoreError> {
        let found = self.reader.read_each::<GateRecord>(&[turn.key]).await?.pop();
        let Some(Ok(Some(Before { record: gate, .. }))) = found else { return Ok(()) };
        turn.freed.extend(self.usage.unused(turn.key, &gate).await?);
        let Some(queue) = turn.name.queue() else { return Ok(()) };
        turn.limit = self.queues.limit_of(queue);
        if turn.limit.is_some() {
            turn.unslotted = Some(self.usage.unslotted(queue, Some(&gate)).await?);
        }
        Ok(())
    }

    /// Commits a turn, and counts the leases without a slot if that must come first.
    async fn commit(&self, turn: &mut GateTurn<'_>) -> Result<Ended<GateRecord>> {
        let ended = self.transactor.transact_one(turn).await;
        let Some(queue) = turn.name.queue().filter(|_| turn.must_count) else {
            return ended.into_result();
        };
        turn.unslotted = Some(self.usage.unslotted(queue, turn.gate.as_ref()).await?);
        self.transactor.transact_one(turn).await.into_result()
    }

    /// Tells the operations that were admitted, and ends those whose slots newer ones take.
    async fn follow(self: &Arc<Self>, name: &GateName, turn: GateTurn<'_>) {
        let GateTurn { admitted, queued, gate, former_limit, .. } = turn;
        let Some(gate) = gate else { return };
        if let Some(former) = former_limit {
            let limit = gate.limit.most;
            tracing::info!(gate = %name, former, limit, "the newest limit of running operations replaces the former one");
        }
        let Some(queued) = queued else {
            if former_limit.is_some_and(|former| former < gate.limit.most) {
                self.post(name, |errands| errands.serve = true);
            }
            return;
        };
        let admits =
            |slot: &GateSlot| KeyedCommand { key: slot.key, command: Command::Admit(slot.since) };
        let outcomes = self.commands.apply_all(admitted.iter().map(admits).collect()).await;
        let gone = admitted.iter().zip(&outcomes).filter(|(_, outcome)| does_not_wait(outcome));
        let gone: Vec<GateSlot> = gone.map(|(slot, _)| *slot).collect();
        if !gone.is_empty() {
            self.free(name, gone);
        }
        if queued.more && admitted.len() == queued.keys.len() {
            self.post(name, |errands| errands.serve = true);
        }
        let preempting = queued.keys.iter().take(queued.preempting);
        let preempting: Vec<Key> =
            preempting.filter(|key| gate.find(**key).is_none()).copied().collect();
        if !preempting.is_empty()
            && let Err(error) = self.preempt(name, &gate, &preempting).await
        {
            let error = Box::<Error>::from(error);
            self.context
                .log_failure("could not end operations that are preempted; trying again", &error);
        }
    }

    /// Ends the oldest operations, so that the newest of those that wait have a slot.
    async fn preempt(
        self: &Arc<Self>,
        name: &GateName,
        gate: &GateRecord,
        waiting: &[Key],
    ) -> std::result::Result<(), StoreError> {
        let newest = waiting.len().saturating_sub(gate.limit.most.max(1));
        let (older, newer) = waiting.split_at(newest);
        let records = self.reader.read_each::<Record>(newer).await?;
        let operation = |record: Option<&Record>| record.and_then(Record::operation).cloned();
        let by: Vec<Operation> = records
            .iter()
            .filter_map(|record| operation(record.as_ref().ok()?.as_ref().map(|it| &it.record)))
            .collect();
        let Some(last) = by.last() else { return Ok(()) };
        let evict = |key: Key, by: &Operation| {
            let evict = Evict { by: by.name.clone(), create_time: by.create_time };
            KeyedCommand { key, command: Command::Evict(Box::new(evict)) }
        };
        let too_many = (gate.slots.len() + by.len()).saturating_sub(gate.limit.most);
        let holders = gate.slots.iter().take(too_many).zip(by.iter().cycle());
        let holders: Vec<_> = holders.map(|(slot, by)| evict(slot.key, by)).collect();
        let count = holders.len();
        let all = holders.into_iter().chain(older.iter().map(|key| evict(*key, last))).collect();
        let outcomes = self.commands.apply_all(all).await;
        // The end of the others is news of its own.
        let over = |outcome: &CommandOutcome| match outcome {
            Ok(None) => true,
            Ok(Some(done)) => !done.changed && done.operation().is_none_or(|it| it.state.is_done()),
            Err(error) => is_gone(error.reason),
        };
        let gone = gate.slots.iter().zip(&outcomes[..count]).filter(|(_, outcome)| over(outcome));
        let gone: Vec<GateSlot> = gone.map(|(slot, _)| *slot).collect();
        if !gone.is_empty() {
            self.free(name, gone);
        }
        Ok(())
    }

    /// Who waits.
    async fn queued(&self, name: &GateName) -> std::result::Result<Queued, StoreError> {
        let scan = Scan::first(Index::new(name.index()), AT_ONCE);
        let entries = self.context.store.scan(scan).await?;
        Ok(Queued {
            keys: entries.iter().filter_map(Entry::key).collect(),
            preempting: entries.iter().filter(|entry| preempts(&entry.member)).count(),
            more: entries.len() == AT_ONCE,
        })
    }

    /// The limit of the first operation that waits, in case that the gate has no record.
    async fn limit_of_first(
        &self,
        key: Key,
        queued: &Queued,
    ) -> std::result::Result<Option<GateLimit>, StoreError> {
        let Some(first) = queued.keys.first() else { return Ok(None) };
        if matches!(self.reader.read_each::<GateRecord>(&[key]).await?.pop(), Some(Ok(Some(_)))) {
            return Ok(None);
        }
        let found = self.reader.read_each::<Record>(&[*first]).await?.pop();
        let Some(Ok(Some(before))) = found else { return Ok(None) };
        let concurrency = before.record.operation().and_then(|operation| {
            let concurrency = operation.spec.options.concurrency.as_ref()?;
            Some(GateLimit::of_start(concurrency.limit))
        });
        Ok(concurrency)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Errands>> {
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Gates {
    /// Whether nothing is left to do, as far as this server knows.
    pub(in crate::engine) fn is_idle(&self) -> bool {
        self.lock().is_empty() && self.notifier.gate_inbox().is_empty()
    }
}

impl Errands {
    const fn is_done(&self) -> bool {
        self.wants.is_empty() && self.freed.is_empty() && !self.serve && !self.check
    }
}

/// Tells those that ask why they get no answer.
fn refuse_all(replies: Vec<oneshot::Sender<Result<Passage>>>, error: &Error) {
    for reply in replies {
        // Fails if nobody waits any more.
        let _ = reply.send(Err(Box::new(error.clone())));
    }
}

/// Whether an operation that was to be admitted does not wait any more.
fn does_not_wait(outcome: &CommandOutcome) -> bool {
    match outcome {
        Ok(done) => done.is_none(),
        Err(error) => is_gone(error.reason),
    }
}

/// Whether that is an answer of the operation, rather than trouble on the way to it.
const fn is_gone(reason: Reason) -> bool {
    matches!(reason, Reason::InvalidState | Reason::OperationDeleted | Reason::OperationExpired)
}

/// Operations that are read, or admitted, together.
const AT_ONCE: usize = 64;
