//! Runs commands on operations: one, or many in one call of the store. All commands for one operation become one write set.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::engine::commands::coalescer::Coalescer;
use crate::engine::context::Context;
use crate::engine::error::{Error, Result};
use crate::engine::leases::holders::Holders;
use crate::engine::notify::notifier::OperationTransactor;
use crate::engine::reading::reader::Reader;
use crate::engine::transact::{Assumed, Decision, Ended, Transaction};
use crate::operation::command::{Command, Due};
use crate::operation::entries::DueClass;
use crate::operation::lease::Answer;
use crate::operation::name::Name;
use crate::operation::{Operation, Record, Rejection, apply_batch};
use crate::record::execution::end_of_run;
use crate::record::{Before, Change};
use crate::store::Key;

/// Applies commands to operations.
pub(in crate::engine) struct Commands {
    context: Arc<Context>,
    reader: Arc<Reader>,
    transactor: Arc<OperationTransactor>,
    holders: Arc<Holders>,
    coalescer: Arc<Coalescer>,
}

/// One command to the operation of a key.
#[derive(Clone, Debug)]
pub(in crate::engine) struct KeyedCommand {
    pub(in crate::engine) key: Key,
    pub(in crate::engine) command: Command,
}

/// The outcome of a command; `None`: there is no such operation.
pub(in crate::engine) type CommandOutcome = Result<Option<Done>>;

/// The result of a command.
#[derive(Clone, Debug)]
pub struct Done {
    /// The record after the command.
    pub record: Option<Record>,
    /// The answer to the command.
    pub answer: Answer,
    /// Whether this very call wrote it.
    pub changed: bool,
    /// When it was decided, by the store's clock.
    pub time: Timestamp,
}

impl Done {
    /// The operation, unless it is gone.
    pub fn operation(&self) -> Option<&Operation> {
        self.record.as_ref().and_then(Record::operation)
    }
}

/// The commands to one operation, in their order: one transaction.
struct Batch<'a> {
    commands: &'a Commands,
    key: Key,
    steps: Vec<BatchStep>,
    assumed: Assumed<Record>,
    /// The answers to the steps, from the latest decision.
    answers: Vec<std::result::Result<Answer, Rejection>>,
}

struct BatchStep {
    /// Index of its outcome. `None` for held-back progress, which has no waiting caller.
    position: Option<usize>,
    command: Command,
}

impl Commands {
    pub(in crate::engine) fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        transactor: Arc<OperationTransactor>,
        holders: Arc<Holders>,
        coalescer: Arc<Coalescer>,
    ) -> Self {
        Self { context, reader, transactor, holders, coalescer }
    }

    pub(in crate::engine) fn transactor(&self) -> &OperationTransactor {
        &self.transactor
    }

    pub(in crate::engine) fn context(&self) -> &Context {
        &self.context
    }

    pub(in crate::engine) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Applies a command to the operation of that name.
    pub(in crate::engine) async fn apply(&self, name: &Name, command: Command) -> Result<Done> {
        self.apply_to_key(self.context.key(name), command)
            .await?
            .ok_or_else(|| Error::not_found(name))
    }

    /// Applies a command to the record of that key; `None` if there is none.
    pub(in crate::engine) async fn apply_to_key(
        &self,
        key: Key,
        command: Command,
    ) -> CommandOutcome {
        let mut batch = self.batch(key);
        batch.steps.push(BatchStep { position: Some(0), command });
        let mut outcomes = vec![None];
        self.run_batches(vec![batch], &mut outcomes).await;
        outcomes.pop().flatten().unwrap_or(Ok(None))
    }

    /// Applies a command to each of these records, which the caller has just read; outcomes in their order.
    pub(in crate::engine) async fn apply_to_read(
        &self,
        found: Vec<(KeyedCommand, Before<Record>)>,
    ) -> Vec<CommandOutcome> {
        let mut outcomes: Vec<Option<CommandOutcome>> = found.iter().map(|_| None).collect();
        let batch = |(position, (KeyedCommand { key, command }, before))| Batch {
            commands: self,
            key,
            steps: vec![BatchStep { position: Some(position), command }],
            assumed: Assumed::Read(before),
            answers: Vec::new(),
        };
        let batches = found.into_iter().enumerate().map(batch).collect();
        self.run_batches(batches, &mut outcomes).await;
        outcomes.into_iter().map(|outcome| outcome.unwrap_or(Ok(None))).collect()
    }

    /// Applies commands, those to one operation in their order; outcomes in their order.
    pub(in crate::engine) async fn apply_all(
        &self,
        commands: Vec<KeyedCommand>,
    ) -> Vec<CommandOutcome> {
        let mut outcomes: Vec<Option<CommandOutcome>> = commands.iter().map(|_| None).collect();
        let batches = self.gather(commands);
        self.run_batches(batches, &mut outcomes).await;
        outcomes.into_iter().map(|outcome| outcome.unwrap_or(Ok(None))).collect()
    }

    fn batch(&self, key: Key) -> Batch<'_> {
        let assumed = self.reader.recent.take(key).map_or(Assumed::Nothing, Assumed::Known);
        Batch { commands: self, key, steps: Vec::with_capacity(1), assumed, answers: Vec::new() }
    }

    /// Groups commands by operation, with the held-back progress of each.
    fn gather(&self, commands: Vec<KeyedCommand>) -> Vec<Batch<'_>> {
        let mut places: HashMap<Key, usize> = HashMap::with_capacity(commands.len());
        let mut batches: Vec<Batch<'_>> = Vec::with_capacity(commands.len());
        for (position, KeyedCommand { key, command }) in commands.into_iter().enumerate() {
            let place = *places.entry(key).or_insert_with(|| {
                batches.push(self.batch(key));
                batches.len() - 1
            });
            let held = command.token().and_then(|token| self.coalescer.take(key, token));
            let held =
                held.map(|report| BatchStep { position: None, command: Command::Report(report) });
            batches[place].steps.extend(held);
            batches[place].steps.push(BatchStep { position: Some(position), command });
        }
        batches
    }

    async fn run_batches(
        &self,
        mut batches: Vec<Batch<'_>>,
        outcomes: &mut [Option<CommandOutcome>],
    ) {
        let ends = self.transactor.transact(&mut batches).await;
        for (batch, ended) in batches.into_iter().zip(ends) {
            match ended {
                // Steps that would recognise themselves get their answers one by one.
                Ended::Unknown if batch.steps.len() > 1 => {
                    let key = batch.key;
                    for step in batch.steps {
                        let alone = Batch { steps: vec![step], ..self.batch(key) };
                        Box::pin(self.run_batches(vec![alone], outcomes)).await;
                    }
                }
                ended => self.conclude(batch, ended, outcomes),
            }
        }
    }

    /// Sets the outcome of each command of a batch.
    fn conclude(
        &self,
        batch: Batch<'_>,
        ended: Ended<Record>,
        outcomes: &mut [Option<CommandOutcome>],
    ) {
        let (mut record, changed, time) = match ended {
            Ended::Written { record, now } => {
                self.note_progress(&batch, record.as_ref());
                (record, true, now)
            }
            Ended::Kept { before: Some(before), now } => (Some(before.record), false, now),
            Ended::Kept { before: None, .. } => return batch.tell_all(outcomes, || Ok(None)),
            failed => {
                self.put_back(&batch);
                let error = failed.into_result().err();
                let error = error.unwrap_or_else(|| Error::busy(&"the operation"));
                return batch.tell_all(outcomes, || Err(error.clone()));
            }
        };
        let count = batch.steps.len();
        for (number, (step, answer)) in batch.steps.into_iter().zip(batch.answers).enumerate() {
            let Some(position) = step.position else { continue };
            // Most batches have one step, which needs no copy.
            let record = if number + 1 == count { record.take() } else { record.clone() };
            let done = |answer| Some(Done { record, answer, changed, time });
            outcomes[position] = Some(answer.map(done).map_err(Into::into));
        }
    }

    /// The command with the present time, if it comes from a due entry: this server may have stood still since the entry was
    /// read. A lease that a stream of this server holds does not expire here: the stream renews it, or ends because its
    /// worker is silent.
    fn due_now(&self, key: Key, command: &Command) -> Option<Command> {
        let Command::Due(due) = command else { return None };
        let held = due.class == DueClass::Lease && self.holders.contains(key);
        let since = self.context.standstill.answering_since(self.context.partition(key));
        let since = since.filter(|_| !held);
        Some(Command::Due(Due { answering_since: since.unwrap_or(Timestamp::MAX), ..*due }))
    }

    /// The store did not take it: progress that was held back waits for the next commit again.
    fn put_back(&self, batch: &Batch<'_>) {
        for step in batch.steps.iter().filter(|step| step.position.is_none()) {
            if let Command::Report(report) = &step.command {
                self.coalescer.put_back(batch.key, report.clone());
            }
        }
    }

    fn note_progress(&self, batch: &Batch<'_>, record: Option<&Record>) {
        let works = |step: &BatchStep| step.command.token().is_some();
        if !batch.steps.iter().any(works) {
            return;
        }
        let operation = record.and_then(Record::operation);
        match operation.filter(|operation| operation.state.lease().is_some()) {
            None => self.coalescer.forget(batch.key),
            Some(operation) => {
                let reports = |step: &BatchStep| matches!(step.command, Command::Report(_));
                if batch.steps.iter().any(reports) {
                    self.coalescer.mark(batch.key, operation);
                }
            }
        }
    }
}

impl Transaction for Batch<'_> {
    type Kind = Record;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<Record> {
        std::mem::replace(&mut self.assumed, Assumed::Nothing)
    }

    fn decide(
        &mut self,
        before: Option<&Before<Record>>,
        certain: bool,
        now: Timestamp,
    ) -> Decision<Record> {
        let Some(before) = before else { return Decision::Keep };
        for step in &mut self.steps {
            // A standstill of the server may have been noticed meanwhile.
            if let Some(due) = self.commands.due_now(self.key, &step.command) {
                step.command = due;
            }
        }
        let commands = self.steps.iter().map(|step| &step.command);
        let applied = apply_batch(&before.record, commands, now);
        let refused = |(step, answer): (&BatchStep, &std::result::Result<_, _>)| {
            step.position.is_some() && answer.is_err()
        };
        let refuses = self.steps.iter().zip(&applied.answers).any(refused);
        // The assumed record may be out of date; only a successful commit proves it current.
        if !certain && (applied.change.is_none() || refuses) {
            return Decision::Read;
        }
        self.answers = applied.answers;
        let Some(change) = applied.change else { return Decision::Keep };
        let end = end_of_run(self.key, &before.record, &change, now);
        let change = Change { also: end.into_iter().collect(), ..(*change).into() };
        Decision::Commit(Box::new(change))
    }

    fn recognises_itself(&self) -> bool {
        self.steps.iter().all(|step| step.command.is_known_again())
    }
}

impl Batch<'_> {
    fn tell_all(
        &self,
        outcomes: &mut [Option<CommandOutcome>],
        outcome: impl Fn() -> CommandOutcome,
    ) {
        for position in self.steps.iter().filter_map(|step| step.position) {
            outcomes[position] = Some(outcome());
        }
    }
}
