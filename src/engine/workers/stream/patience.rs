//! What a stream asks of the store however long that takes: trouble of the store is no trouble of the worker's.

use std::time::Duration;

use crate::engine::dispatch::batch::Grant;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::operations::commands::{Job, Outcome};
use crate::engine::workers::held::Standing;
use crate::engine::{Engine, Leased};
use crate::operation::Record;
use crate::record;
use crate::store::{Key, Record as Stored};

impl Engine {
    /// As [`Self::apply_jobs`], again and again while the store is away, for so long.
    pub(super) async fn apply_patiently(
        &self,
        jobs: Vec<Job>,
        patience: Duration,
    ) -> Result<Vec<Outcome>> {
        let begun = self.inner.clock.elapsed();
        loop {
            let outcomes = self.apply_jobs(jobs.clone()).await;
            let away = outcomes.iter().find_map(|outcome| {
                outcome.as_ref().err().filter(|error| error.reason == Reason::StoreUnavailable)
            });
            let Some(error) = away else { return Ok(outcomes) };
            if self.inner.clock.elapsed().saturating_sub(begun) >= patience {
                return Err(error.clone());
            }
            self.idle_for(PAUSE).await;
        }
    }

    /// Loads the payloads of a lease, however long the store takes.
    pub(super) async fn load_in_time(self, grant: Grant) -> (Key, Option<Leased>) {
        loop {
            match self.load(&grant).await {
                Ok(leased) => return (grant.key, leased),
                Err(error) => {
                    self.hampered(
                        "cannot read the payloads of a lease; trying again",
                        &Box::<Error>::from(error),
                    );
                    self.idle_for(PAUSE).await;
                }
            }
        }
    }

    /// How operations stand with their holders, however long the store takes.
    pub(super) async fn look_at(&self, keys: Vec<Key>) -> Vec<(Key, Standing)> {
        loop {
            match self.inner.store.get(&keys).await {
                Ok(found) => return keys.iter().zip(found).filter_map(standing).collect(),
                Err(error) => {
                    self.hampered(
                        "cannot read what a worker holds; trying again",
                        &Box::<Error>::from(error),
                    );
                    self.idle_for(PAUSE).await;
                }
            }
        }
    }
}

fn standing((key, found): (&Key, Option<Stored>)) -> Option<(Key, Standing)> {
    let Some(found) = found else { return Some((*key, Standing::of(None, u64::MAX))) };
    let before = record::read::<Record>(&found).ok()?;
    Some((*key, Standing::of(before.record.operation(), found.revision)))
}

/// Between attempts while the store is away.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
