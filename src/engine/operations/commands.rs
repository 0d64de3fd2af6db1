//! Commands to operations: one, or many that go to the store together. What concerns one operation becomes one write set.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::engine::error::{Error, Result};
use crate::engine::operations::view::View;
use crate::engine::transact::{Assumed, Commit, Decision, Ended, Observed, Transaction};
use crate::operation::command::Command;
use crate::operation::lease::Answer;
use crate::operation::name::Name;
use crate::operation::{Operation, Record, Rejection, Stamps, apply_in_turn};
use crate::record::operation::{becomes_ready, waits_for_time};
use crate::record::{Before, Change};
use crate::store::Key;

/// One command to one operation.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Job {
    pub(in crate::engine) key: Key,
    pub(in crate::engine) command: Command,
}

/// What came of a job; `None`: there is no such operation.
pub(in crate::engine) type Outcome = Result<Option<Done>>;

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
    /// The operation, unless it is gone.
    pub fn operation(&self) -> Option<&Operation> {
        self.record.as_ref().and_then(Record::operation)
    }
}

/// The commands to one operation, in their order: one transaction.
struct Batch {
    key: Key,
    steps: Vec<Step>,
    assumed: Assumed<Record>,
    /// What each step was told, as last decided.
    answers: Vec<std::result::Result<Answer, Rejection>>,
}

struct Step {
    /// The position of its job. Progress that was held back has none: nobody waits for its answer.
    job: Option<usize>,
    command: Command,
}

impl Engine {
    /// Applies a command to the operation of that name.
    pub(in crate::engine) async fn apply(&self, name: &Name, command: Command) -> Result<Done> {
        self.apply_to_key(self.key(name), command).await?.ok_or_else(|| Error::not_found(name))
    }

    /// Applies a command to the record of that key; `None` if there is none.
    pub(in crate::engine) async fn apply_to_key(&self, key: Key, command: Command) -> Outcome {
        let mut batch = self.batch(key);
        batch.steps.push(Step { job: Some(0), command });
        let mut outcomes = vec![None];
        self.run(vec![batch], &mut outcomes).await;
        outcomes.pop().flatten().unwrap_or(Ok(None))
    }

    /// Applies a command to each of these records, which the caller has just read; outcomes in their order.
    pub(in crate::engine) async fn apply_to_read(
        &self,
        found: Vec<(Job, Before<Record>)>,
    ) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = found.iter().map(|_| None).collect();
        let batch = |(position, (Job { key, command }, before))| Batch {
            key,
            steps: vec![Step { job: Some(position), command }],
            assumed: Assumed::Read(before),
            answers: Vec::new(),
        };
        let batches = found.into_iter().enumerate().map(batch).collect();
        self.run(batches, &mut outcomes).await;
        outcomes.into_iter().map(|outcome| outcome.unwrap_or(Ok(None))).collect()
    }

    /// Applies commands, those to one operation in their order; outcomes in the order of the jobs.
    pub(in crate::engine) async fn apply_jobs(&self, jobs: Vec<Job>) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = jobs.iter().map(|_| None).collect();
        let batches = self.gather(jobs);
        self.run(batches, &mut outcomes).await;
        outcomes.into_iter().map(|outcome| outcome.unwrap_or(Ok(None))).collect()
    }

    fn batch(&self, key: Key) -> Batch {
        let assumed = self.inner.recent.take(key).map_or(Assumed::Nothing, Assumed::Known);
        Batch { key, steps: Vec::with_capacity(1), assumed, answers: Vec::new() }
    }

    /// Sorts jobs by operation, each with what was held back of its progress.
    fn gather(&self, jobs: Vec<Job>) -> Vec<Batch> {
        let mut places: HashMap<Key, usize> = HashMap::with_capacity(jobs.len());
        let mut batches: Vec<Batch> = Vec::with_capacity(jobs.len());
        for (position, Job { key, command }) in jobs.into_iter().enumerate() {
            let place = *places.entry(key).or_insert_with(|| {
                batches.push(self.batch(key));
                batches.len() - 1
            });
            let held = command.token().and_then(|token| self.inner.pace.take(key, token));
            let held = held.map(|report| Step { job: None, command: Command::Report(report) });
            batches[place].steps.extend(held);
            batches[place].steps.push(Step { job: Some(position), command });
        }
        batches
    }

    async fn run(&self, mut batches: Vec<Batch>, outcomes: &mut [Option<Outcome>]) {
        let ends = self.transact(&mut batches).await;
        for (batch, ended) in batches.into_iter().zip(ends) {
            match ended {
                // Steps that would recognise themselves get their answers one by one.
                Ended::Unknown if batch.steps.len() > 1 => {
                    let key = batch.key;
                    for step in batch.steps {
                        let alone = Batch { steps: vec![step], ..self.batch(key) };
                        Box::pin(self.run(vec![alone], outcomes)).await;
                    }
                }
                ended => self.conclude(batch, ended, outcomes),
            }
        }
    }

    /// Tells each job of a batch what came of it.
    fn conclude(&self, batch: Batch, ended: Ended<Record>, outcomes: &mut [Option<Outcome>]) {
        let (record, changed, time) = match ended {
            Ended::Written { record, now } => {
                self.keep_pace(&batch, record.as_ref());
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
        for (step, answer) in batch.steps.into_iter().zip(batch.answers) {
            if let Some(job) = step.job {
                let done = |answer| Some(Done { record: record.clone(), answer, changed, time });
                outcomes[job] = Some(answer.map(done).map_err(Into::into));
            }
        }
    }

    /// The store did not take it: progress that was held back waits for the next commit again.
    fn put_back(&self, batch: &Batch) {
        for step in batch.steps.iter().filter(|step| step.job.is_none()) {
            if let Command::Report(report) = &step.command {
                self.inner.pace.put_back(batch.key, report.clone(), self.inner.clock.elapsed());
            }
        }
    }

    fn keep_pace(&self, batch: &Batch, record: Option<&Record>) {
        let works = |step: &Step| step.command.token().is_some();
        if !batch.steps.iter().any(works) {
            return;
        }
        let operation = record.and_then(Record::operation);
        match operation.filter(|operation| operation.state.lease().is_some()) {
            None => self.inner.pace.forget(batch.key),
            Some(operation) => {
                let reports = |step: &Step| matches!(step.command, Command::Report(_));
                if batch.steps.iter().any(reports) {
                    self.inner.pace.mark(batch.key, operation, self.inner.clock.elapsed());
                }
            }
        }
    }
}

impl Transaction for Batch {
    type Kind = Record;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<Record> {
        std::mem::replace(&mut self.assumed, Assumed::Nothing)
    }

    fn decide(
        &mut self,
        engine: &Engine,
        before: Option<&Before<Record>>,
        certain: bool,
        now: Timestamp,
    ) -> Decision<Record> {
        let Some(before) = before else { return Decision::Keep };
        for step in &mut self.steps {
            // Whether the server stood still is known better by now.
            if let Some(due) = engine.due_now(self.key, &step.command) {
                step.command = due;
            }
        }
        let commands = self.steps.iter().map(|step| &step.command);
        let turn = apply_in_turn(&before.record, commands, now);
        let refused = |(step, answer): (&Step, &std::result::Result<_, _>)| {
            step.job.is_some() && answer.is_err()
        };
        let refuses = self.steps.iter().zip(&turn.answers).any(refused);
        // What was assumed may be out of date; only a commit upon it shows that it is not.
        if !certain && (turn.change.is_none() || refuses) {
            return Decision::Read;
        }
        self.answers = turn.answers;
        turn.change.map_or(Decision::Keep, |change| Decision::Commit(Box::new((*change).into())))
    }

    fn recognises_itself(&self) -> bool {
        self.steps.iter().all(|step| step.command.is_known_again())
    }
}

impl Batch {
    fn tell_all(&self, outcomes: &mut [Option<Outcome>], outcome: impl Fn() -> Outcome) {
        for job in self.steps.iter().filter_map(|step| step.job) {
            outcomes[job] = Some(outcome());
        }
    }
}

impl Observed for Record {
    fn observe(engine: &Engine, commit: Commit<Self>) -> Option<Self> {
        let Commit { key, before, change, committed, generation } = commit;
        let Change { mut main, visible, leases, .. } = change;
        if let Some(Self::Operation(operation)) = &mut main {
            let old = before.as_ref().map(|before| before.stamps).unwrap_or_default();
            operation.stamps = Stamps {
                revision: committed.revision,
                visible: if visible { committed.revision } else { old.visible },
                fencing: if leases { committed.revision } else { old.fencing },
            };
        }
        let operation = main.as_ref().and_then(Self::operation);
        if let (Some(record), Some(operation)) = (&main, operation) {
            engine.inner.recent.keep(key, record, operation.stamps);
        }
        if let Some(ended) = operation.filter(|operation| operation.end_time.is_some()) {
            engine.note_duration(before.as_ref().map(|before| &before.record), ended);
        }
        engine.inner.held.written(key, committed.revision, operation);
        if visible && engine.inner.hub.is_watched(key) {
            let state = match operation {
                // Work on it may go on, but callers see no more of it.
                Some(operation) if operation.deletion.is_some() => {
                    Some(Err(Rejection::Deleted(operation.name.clone()).into()))
                }
                // Payloads are still inline in the change, so the view needs no reading.
                operation => operation.and_then(View::of_inline).map(Ok),
            };
            match state {
                Some(state) => engine.inner.hub.offer(key, generation, committed.revision, state),
                None => engine.inner.hub.refresh(key),
            }
        }
        engine.follow_up(key, before.as_ref().map(|before| &before.record), main.as_ref());
        main
    }
}

impl Engine {
    /// Counts a commit, and tells the agents and dispatchers of this server what they would otherwise learn by hint.
    fn follow_up(&self, key: Key, before: Option<&Record>, after: Option<&Record>) {
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
            self.inner.due.wake_scheduler();
        }
    }
}
