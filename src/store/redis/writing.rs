//! Commits: one call of the script for each partition, all under way at once.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::Shared;
use super::hints::Progress;
use super::link;
use super::script::{Call, Form, Outcome, Reply};
use crate::clock::Timestamp;
use crate::store::{CommitError, Committed, Partition, StoreError, WriteSet};

type Results = Vec<Result<Committed, CommitError>>;

impl Shared {
    /// Applies write sets, each on its own; results in their order.
    pub(super) async fn commit(&self, sets: &[WriteSet]) -> Results {
        let mut groups: BTreeMap<Partition, Vec<usize>> = BTreeMap::new();
        for (position, set) in sets.iter().enumerate() {
            groups.entry(set.partition).or_default().push(position);
        }
        let chunks = groups.iter().flat_map(|(partition, positions)| {
            positions.chunks(SETS_AT_ONCE).map(move |chunk| (*partition, chunk))
        });
        let calls = chunks.map(|(partition, positions)| async move {
            let results = self.call(partition, sets, positions).await;
            positions.iter().copied().zip(results)
        });
        let mut results: Vec<(usize, _)> = join_all(calls).await.into_iter().flatten().collect();
        results.sort_unstable_by_key(|(position, _)| *position);
        results.into_iter().map(|(_, result)| result).collect()
    }

    async fn call(&self, partition: Partition, sets: &[WriteSet], positions: &[usize]) -> Results {
        let mut call =
            Call::new(&self.keys, self.keyspace.id(), partition, self.time.script_time());
        for position in positions {
            call.push(&self.keys, &sets[*position]);
        }
        match self.run(partition, &call).await {
            Ok(reply) if reply.outcomes.len() == positions.len() => {
                reply.outcomes.into_iter().map(|outcome| self.result(partition, outcome)).collect()
            }
            Ok(_) => positions.iter().map(|_| Err(self.unexpected().into())).collect(),
            Err(error) => positions.iter().map(|_| Err(error.clone().into())).collect(),
        }
    }

    async fn run(&self, partition: Partition, call: &Call) -> Result<Reply, StoreError> {
        let sent = self.time.clock().elapsed();
        let mut value = self.link.command(&call.command(Form::Digest)).await;
        // Not known there means not run there, so sending it again is safe.
        if value.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT")) {
            value = self.link.command(&call.command(Form::Text)).await;
        }
        let value = match value {
            Ok(value) => value,
            Err(error) if error.code() == Some("FOREIGN") => {
                self.time.away(partition);
                return Err(self.foreign());
            }
            Err(error) => return Err(self.away(&error)),
        };
        let reply = Reply::decode(value).ok_or_else(|| self.unexpected())?;
        self.time.observe(Timestamp::from_micros(reply.time), sent);
        self.time.answered(partition);
        let revision = |outcome: &Outcome| {
            if let Outcome::Revision(revision) = outcome { *revision } else { 0 }
        };
        let revision = reply.outcomes.iter().map(revision).max().unwrap_or(0);
        self.hints.committed(partition, Progress { revision, sequence: reply.sequence });
        Ok(reply)
    }

    fn result(&self, partition: Partition, outcome: Outcome) -> Result<Committed, CommitError> {
        match outcome {
            Outcome::Revision(revision) => Ok(Committed { revision }),
            Outcome::Conflict => Err(CommitError::Conflict),
            Outcome::Early => Err(CommitError::Early),
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

/// Bounds how long one call keeps Redis from everybody else.
const SETS_AT_ONCE: usize = 32;
