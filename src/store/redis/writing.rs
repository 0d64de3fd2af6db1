//! Commits: what is handed in while a call of the script is under way goes out together in the next.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::call::Call;
use super::hints::Progress;
use super::link;
use super::queue::Service;
use super::script::{Form, Outcome, Reply};
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::store::backend::Committed;
use crate::store::error::{CommitError, StoreError};
use crate::store::key::Partition;
use crate::store::write_set::WriteSet;

type Results = Vec<Result<Committed, CommitError>>;

/// A call that was not answered as it should be; what it did nobody knows.
struct Lost {
    error: StoreError,
    timed_out: bool,
}

impl Shared {
    /// Applies write sets, each on its own; results in their order.
    ///
    /// A task of its own makes the call, for callers may give up, and others wait for the same answer.
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

    /// Makes calls until nothing waits.
    async fn serve(&self, mut service: Service) {
        while let Some(mut jobs) = service.next() {
            let sets: Vec<&WriteSet> = jobs.iter().map(|job| &job.set).collect();
            let results = match self.commit(&sets).await {
                Ok(results) => results,
                Err(Lost { error, timed_out }) => {
                    if timed_out {
                        jobs.extend(service.rest());
                    }
                    vec![Err(error.into()); jobs.len()]
                }
            };
            for (job, result) in jobs.into_iter().zip(results) {
                // Who no longer waits does not need to know.
                let _ = job.reply.send(result);
            }
        }
    }

    /// Applies write sets of which no two touch the same thing, in one call; results in their order.
    ///
    /// A cluster would want one call for each partition.
    async fn commit(&self, sets: &[&WriteSet]) -> Result<Results, Lost> {
        if let Some(error) = self.fitness.refusal() {
            return Err(Lost { error, timed_out: false });
        }
        let call = Call::new(&self.keys, self.keyspace.id(), self.time.script_time(), sets);
        let reply = self.run(&call).await?;
        self.heed(&call, &reply, sets);
        let outcomes = sets.iter().zip(reply.outcomes);
        Ok(outcomes.map(|(set, outcome)| self.result(set.partition, outcome)).collect())
    }

    async fn run(&self, call: &Call<'_>) -> Result<Reply, Lost> {
        let sent = self.time.clock().elapsed();
        let mut value = self.link.command(&call.command(Form::Digest)).await;
        // Not known there means not run there, so sending it again is safe.
        if value.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT")) {
            value = self.link.command(&call.command(Form::Text)).await;
        }
        let value = value
            .map_err(|error| Lost { timed_out: error.is_timeout(), error: self.away(&error) })?;
        let reply = Reply::decode(&value, call.partitions.len(), call.sets);
        let reply = reply.ok_or_else(|| Lost { timed_out: false, error: self.unexpected() })?;
        self.time.observe(Timestamp::from_micros(reply.time), sent);
        Ok(reply)
    }

    /// Takes in what a reply says of its partitions.
    fn heed(&self, call: &Call<'_>, reply: &Reply, sets: &[&WriteSet]) {
        let mut progress: Vec<_> = (call.partitions.iter().zip(&reply.sequences))
            .map(|(partition, sequence)| {
                (*partition, Progress { revision: 0, sequence: *sequence })
            })
            .collect();
        for (set, outcome) in sets.iter().zip(&reply.outcomes) {
            let Outcome::Revision(revision) = outcome else { continue };
            let own = |(partition, _): &&mut (Partition, _)| *partition == set.partition;
            if let Some((_, progress)) = progress.iter_mut().find(own) {
                progress.revision = progress.revision.max(*revision);
            }
        }
        self.time.answered_all(&call.partitions);
        self.hints.committed(&progress);
    }

    fn result(&self, partition: Partition, outcome: Outcome) -> Result<Committed, CommitError> {
        match outcome {
            Outcome::Revision(revision) => Ok(Committed { revision }),
            Outcome::Conflict => Err(CommitError::Conflict),
            Outcome::Early => Err(CommitError::Early),
            Outcome::Foreign => {
                self.time.away(partition);
                Err(self.foreign().into())
            }
            Outcome::Refused(text) => {
                // Leases cannot be renewed now, so nothing may expire either.
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
