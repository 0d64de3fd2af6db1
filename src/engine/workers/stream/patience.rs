//! Calls of a stream to the store that are retried: an outage of the store is not the worker's fault.

use std::sync::Arc;
use std::time::Duration;

use super::rooms::StreamRooms;
use crate::engine::commands::apply::{CommandOutcome, KeyedCommand};
use crate::engine::error::{Error, Reason, Result};
use crate::engine::leases::grant::Grant;
use crate::engine::leases::leased::Leased;
use crate::engine::leases::news::Standing;
use crate::operation::Record;
use crate::record;
use crate::store::{Key, Record as Stored};

impl StreamRooms {
    /// As [`Commands::apply_all`](crate::engine::commands::apply::Commands::apply_all), retried while the store is unavailable.
    pub(super) async fn apply_patiently(
        &self,
        commands: Vec<KeyedCommand>,
        patience: Duration,
    ) -> Result<Vec<CommandOutcome>> {
        let begun = self.context.clock.elapsed();
        loop {
            let outcomes = self.commands.apply_all(commands.clone()).await;
            let away = outcomes.iter().find_map(|outcome| {
                outcome.as_ref().err().filter(|error| error.reason == Reason::StoreUnavailable)
            });
            let Some(error) = away else { return Ok(outcomes) };
            if self.context.clock.elapsed().saturating_sub(begun) >= patience {
                return Err(error.clone());
            }
            self.context.sleep(PAUSE).await;
        }
    }

    /// Loads the payloads of a lease, however long the store takes.
    pub(super) async fn load_patiently(self: Arc<Self>, grant: Grant) -> (Key, Option<Leased>) {
        loop {
            match Leased::load(&*self.context.store, &grant).await {
                Ok(leased) => return (grant.key, leased),
                Err(error) => {
                    self.context.log_failure(
                        "cannot read the payloads of a lease; trying again",
                        &Box::<Error>::from(error),
                    );
                    self.context.sleep(PAUSE).await;
                }
            }
        }
    }

    /// The standings of operations, retried until the store responds.
    pub(super) async fn read_standings(&self, keys: Vec<Key>) -> Vec<(Key, Standing)> {
        loop {
            match self.context.store.get(&keys).await {
                Ok(found) => return keys.iter().zip(found).filter_map(standing).collect(),
                Err(error) => {
                    self.context.log_failure(
                        "cannot read the operations that a worker holds; trying again",
                        &Box::<Error>::from(error),
                    );
                    self.context.sleep(PAUSE).await;
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

/// The pause between attempts while the store is unavailable.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
