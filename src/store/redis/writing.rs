//! Commits: sets that arrive while a call of the script is running are sent together in the next.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::call::ScriptCall;
use super::hints::PartitionProgress;
use super::link;
use super::queue::LaneDuty;
use super::script::{ScriptForm, ScriptReply, SetOutcome};
use super::shared::SharedLink;
use crate::clock::Timestamp;
use crate::store::backend::Committed;
use crate::store::error::{CommitError, StoreError};
use crate::store::key::Partition;
use crate::store::write_set::WriteSet;

type Results = Vec<Result<Committed, CommitError>>;

/// A call without a valid reply; its outcome is unknown.
struct LostCall {
    error: StoreError,
    timed_out: bool,
}

impl SharedLink {
    /// Applies write sets, each on its own; results in their order.
    ///
    /// A separate task makes the call, since callers may give up while others wait for the same reply.
    pub(super) async fn hand_in(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        sets: Vec<WriteSet>,
    ) -> Results {
        let (answers, service) = self.queue.push((self.lane)(), sets);
        if let Some(service) = service {
            let shared = Arc::clone(self);
            tasks.spawn(async move { shared.serve(service).await });
        }
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            results.push(answer.await.unwrap_or_else(|_| Err(cut_off().into())));
        }
        results
    }

    /// Makes calls until no set waits.
    async fn serve(&self, mut service: LaneDuty) {
        while let Some(mut jobs) = service.next() {
            let sets: Vec<&WriteSet> = jobs.iter().map(|job| &job.set).collect();
            let results = match self.commit(&sets).await {
                Ok(results) => results,
                Err(LostCall { error, timed_out }) => {
                    if timed_out {
                        jobs.extend(service.rest());
                    }
                    vec![Err(error.into()); jobs.len()]
                }
            };
            for (job, result) in jobs.into_iter().zip(results) {
                // The caller may have stopped waiting.
                let _ = job.reply.send(result);
            }
        }
    }

    /// Applies write sets with disjoint keys in one call; results in their order.
    ///
    /// A cluster would need one call for each partition.
    async fn commit(&self, sets: &[&WriteSet]) -> Result<Results, LostCall> {
        if let Some(error) = self.fitness.refusal() {
            return Err(LostCall { error, timed_out: false });
        }
        let call = ScriptCall::new(&self.keys, self.keyspace.id(), self.time.script_time(), sets);
        let reply = self.run(&call).await?;
        self.heed(&call, &reply, sets);
        let outcomes = sets.iter().zip(reply.outcomes);
        Ok(outcomes.map(|(set, outcome)| self.result(set.partition, outcome)).collect())
    }

    async fn run(&self, call: &ScriptCall<'_>) -> Result<ScriptReply, LostCall> {
        let sent = self.time.clock().elapsed();
        let mut value = self.link.command(&call.command(ScriptForm::Digest)).await;
        // If the script is unknown there it did not run, so sending it again is safe.
        if value.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT")) {
            value = self.link.command(&call.command(ScriptForm::Text)).await;
        }
        let value = value.map_err(|error| LostCall {
            timed_out: error.is_timeout(),
            error: self.away(&error),
        })?;
        let reply = ScriptReply::decode(&value, call.partitions.len(), call.sets);
        let reply = reply.ok_or_else(|| LostCall { timed_out: false, error: self.unexpected() })?;
        self.time.observe(Timestamp::from_micros(reply.time), sent);
        Ok(reply)
    }

    /// Takes the positions of the partitions from a reply.
    fn heed(&self, call: &ScriptCall<'_>, reply: &ScriptReply, sets: &[&WriteSet]) {
        let mut progress: Vec<_> = (call.partitions.iter().zip(&reply.sequences))
            .map(|(partition, sequence)| {
                (*partition, PartitionProgress { revision: 0, sequence: *sequence })
            })
            .collect();
        for (set, outcome) in sets.iter().zip(&reply.outcomes) {
            let SetOutcome::Revision(revision) = outcome else { continue };
            let own = |(partition, _): &&mut (Partition, _)| *partition == set.partition;
            if let Some((_, progress)) = progress.iter_mut().find(own) {
                progress.revision = progress.revision.max(*revision);
            }
        }
        self.time.answered_all(&call.partitions);
        self.hints.committed(&progress);
    }

    fn result(&self, partition: Partition, outcome: SetOutcome) -> Result<Committed, CommitError> {
        match outcome {
            SetOutcome::Revision(revision) => Ok(Committed { revision }),
            SetOutcome::Conflict => Err(CommitError::Conflict),
            SetOutcome::Early => Err(CommitError::Early),
            SetOutcome::Late => Err(CommitError::Late),
            SetOutcome::Foreign => {
                self.time.away(partition);
                Err(self.foreign().into())
            }
            SetOutcome::Refused(text) => {
                // Leases cannot be renewed now, so none may expire either.
                self.time.away(partition);
                if text.starts_with("READONLY") {
                    self.link.close();
                }
                Err(link::refused(self.dial.place(), &text).into())
            }
        }
    }
}

fn cut_off() -> StoreError {
    StoreError::Away("the thread that asked the store has ended".to_owned())
}
