//! Calls of workers, many in one commit: what is said of one operation becomes one write set, and all write sets go to the
//! store together.

use std::collections::HashMap;

use super::Engine;
use super::commit::{Done, Spot};
use super::error::{Error, Reason, Result};
use crate::clock::Timestamp;
use crate::operation::command::Command;
use crate::operation::lease::Answer;
use crate::operation::{Change, Record, Rejection, apply_in_turn};
use crate::store::plan::Before;
use crate::store::{CommitError, Committed, Key, StoreError};

/// One command to one operation.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) command: Command,
}

/// What came of a job; `None`: there is no such operation.
pub(super) type Outcome = Result<Option<Done>>;

/// All that a batch says of one operation, in its order.
struct Group {
    key: Key,
    steps: Vec<Step>,
    before: Option<Before>,
    /// Read from the store just now, rather than remembered.
    fresh: bool,
}

struct Step {
    /// Whose answer it is; nobody waits for that of progress that was held back.
    job: Option<usize>,
    command: Command,
}

/// A group on its way to the store.
struct Decided {
    group: Group,
    before: Before,
    change: Box<Change>,
    answers: Vec<std::result::Result<Answer, Rejection>>,
    generation: u64,
    now: Timestamp,
}

/// What a look at a group comes to.
enum Decision {
    Commit(Box<Decided>),
    /// It must be decided upon what is stored.
    Again(Box<Group>),
    /// There is nothing to write, and all are told.
    Nothing,
}

/// Where the outcomes of a batch are gathered.
struct Outcomes(Vec<Option<Outcome>>);

impl Engine {
    /// Applies commands, those to one operation in their order; outcomes in the order of the jobs.
    pub(super) async fn apply_jobs(&self, jobs: Vec<Job>) -> Vec<Outcome> {
        let mut outcomes = Outcomes(jobs.iter().map(|_| None).collect());
        let groups = self.group(jobs);
        // First upon what is remembered; what is refused then, or comes to nothing, is decided again upon what is stored.
        let again = self.decide_and_commit(groups, &mut outcomes).await;
        if !again.is_empty() {
            self.decide_and_commit(again, &mut outcomes).await;
        }
        let unsaid = || Err(Error::busy(&"the operation"));
        outcomes.0.into_iter().map(|outcome| outcome.unwrap_or_else(unsaid)).collect()
    }

    /// Sorts jobs by operation, each with what was held back of its progress.
    fn group(&self, jobs: Vec<Job>) -> Vec<Group> {
        let mut places: HashMap<Key, usize> = HashMap::with_capacity(jobs.len());
        let mut groups: Vec<Group> = Vec::with_capacity(jobs.len());
        for (position, Job { key, command }) in jobs.into_iter().enumerate() {
            let place = *places.entry(key).or_insert_with(|| {
                let before = self.inner.recent.take(key);
                groups.push(Group { key, steps: Vec::with_capacity(1), before, fresh: false });
                groups.len() - 1
            });
            let held = command.token().and_then(|token| self.inner.pace.take(key, token));
            let held = held.map(|report| Step { job: None, command: Command::Report(report) });
            groups[place].steps.extend(held);
            groups[place].steps.push(Step { job: Some(position), command });
        }
        groups
    }

    /// Returns what must be decided again upon what is stored.
    async fn decide_and_commit(
        &self,
        mut groups: Vec<Group>,
        outcomes: &mut Outcomes,
    ) -> Vec<Group> {
        if let Err(error) = self.read_missing(&mut groups, outcomes).await {
            for group in &groups {
                self.put_back(group);
                outcomes.refuse(group, &error);
            }
            return Vec::new();
        }
        let (mut again, mut decided) = (Vec::new(), Vec::with_capacity(groups.len()));
        let mut sets = Vec::with_capacity(groups.len());
        for mut group in groups {
            // Whether it was written before is seen only by comparing, which is done one by one.
            if group.steps.iter().any(|step| !step.command.is_known_again()) {
                self.one_by_one(&group, outcomes).await;
                continue;
            }
            let Some(before) = group.before.take() else {
                outcomes.tell_all(&group, |_| Ok(None));
                continue;
            };
            match self.decide_group(group, before, outcomes) {
                Decision::Commit(settled) => {
                    let set = self.plan(settled.group.key, Some(&settled.before), &settled.change);
                    sets.push(set);
                    decided.push(*settled);
                }
                Decision::Again(group) => again.push(*group),
                Decision::Nothing => {}
            }
        }
        if !sets.is_empty() {
            let results = self.inner.store.commit(sets).await;
            for (decided, result) in decided.into_iter().zip(results) {
                self.conclude(decided, result, outcomes).await;
            }
        }
        again
    }

    /// Leaves those that can be read: one damaged record must not keep the others from being written.
    async fn read_missing(
        &self,
        groups: &mut Vec<Group>,
        outcomes: &mut Outcomes,
    ) -> std::result::Result<(), StoreError> {
        let missing = groups.iter().filter(|group| group.before.is_none());
        let keys: Vec<Key> = missing.map(|group| group.key).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let mut found = self.read_each(&keys).await?.into_iter();
        groups.retain_mut(|group| {
            if group.before.is_none() {
                let Ok(before) = found.next().unwrap_or(Ok(None)) else {
                    outcomes.tell_all(group, |_| Err(Error::unreadable()));
                    return false;
                };
                (group.before, group.fresh) = (before, true);
            }
            true
        });
        Ok(())
    }

    fn decide_group(&self, group: Group, before: Before, outcomes: &mut Outcomes) -> Decision {
        let partition = self.partition(group.key);
        let now = self.inner.store.now(partition);
        let commands = group.steps.iter().map(|step| &step.command);
        let turn = apply_in_turn(&before.record, commands, now);
        let refused = |(step, answer): (&Step, &std::result::Result<_, _>)| {
            step.job.is_some() && answer.is_err()
        };
        let doubtful = turn.change.is_none() || group.steps.iter().zip(&turn.answers).any(refused);
        if !group.fresh && doubtful {
            return Decision::Again(Box::new(group));
        }
        let Some(change) = turn.change else {
            outcomes.tell(&group, turn.answers, |answer| {
                Done::new(Some(before.record.clone()), answer, false, now)
            });
            return Decision::Nothing;
        };
        let generation = self.inner.hub.generation(partition);
        let answers = turn.answers;
        Decision::Commit(Box::new(Decided { group, before, change, answers, generation, now }))
    }

    async fn conclude(
        &self,
        decided: Decided,
        result: std::result::Result<Committed, CommitError>,
        outcomes: &mut Outcomes,
    ) {
        let Decided { group, before, change, answers, generation, now } = decided;
        match result {
            Ok(committed) => {
                let key = group.key;
                let spot = Spot { key, generation };
                let record = self.committed(spot, Some(before.stamps), *change, committed);
                self.follow_up(key, Some(&before.record), record.as_ref());
                self.keep_pace(&group, record.as_ref());
                outcomes
                    .tell(&group, answers, |answer| Done::new(record.clone(), answer, true, now));
            }
            Err(_) => self.one_by_one(&group, outcomes).await,
        }
    }

    /// Each step by itself, upon what is stored by then.
    async fn one_by_one(&self, group: &Group, outcomes: &mut Outcomes) {
        let mut reached = None;
        for step in &group.steps {
            let outcome = self.apply_to_key(group.key, &step.command).await;
            if let Ok(Some(done)) = &outcome {
                reached.clone_from(&done.record);
            }
            match (step.job, outcome) {
                (Some(job), outcome) => outcomes.0[job] = Some(outcome),
                // What its worker said later must not be written without it.
                (None, Err(error)) if error.reason == Reason::StoreUnavailable => {
                    self.put_back(group);
                    return outcomes.tell_all(group, |_| Err(error.clone()));
                }
                (None, _) => {}
            }
        }
        if reached.is_some() {
            self.keep_pace(group, reached.as_ref());
        }
    }

    /// The store did not take it: what was held back waits for the next commit again.
    fn put_back(&self, group: &Group) {
        for step in group.steps.iter().filter(|step| step.job.is_none()) {
            if let Command::Report(report) = &step.command {
                self.inner.pace.put_back(group.key, report.clone(), self.inner.clock.elapsed());
            }
        }
    }

    fn keep_pace(&self, group: &Group, record: Option<&Record>) {
        let operation = record.and_then(Record::operation);
        match operation.filter(|operation| operation.state.lease().is_some()) {
            None => self.inner.pace.forget(group.key),
            Some(operation) => {
                let reports = |step: &Step| matches!(step.command, Command::Report(_));
                if group.steps.iter().any(reports) {
                    self.inner.pace.mark(group.key, operation, self.inner.clock.elapsed());
                }
            }
        }
    }
}

impl Outcomes {
    fn tell(
        &mut self,
        group: &Group,
        answers: Vec<std::result::Result<Answer, Rejection>>,
        done: impl Fn(Answer) -> Done,
    ) {
        for (step, answer) in group.steps.iter().zip(answers) {
            if let Some(job) = step.job {
                self.0[job] = Some(answer.map(|answer| Some(done(answer))).map_err(Into::into));
            }
        }
    }

    fn tell_all(&mut self, group: &Group, outcome: impl Fn(usize) -> Outcome) {
        for job in group.steps.iter().filter_map(|step| step.job) {
            self.0[job] = Some(outcome(job));
        }
    }

    fn refuse(&mut self, group: &Group, error: &StoreError) {
        self.tell_all(group, |_| Err(error.clone().into()));
    }
}
