//! A walk over all records of a store, partition by partition and in the order of their keys.

use std::sync::Arc;
use std::vec;

use super::line::CopiedRecord;
use crate::clock::Timestamp;
use crate::record::{AnyRecord, Derived};
use crate::store::{Key, Partition, Record, Store, StoreError};

/// The walk. It sees every record that exists when it comes to its partition and is not deleted meanwhile, each as it is at one
/// moment, payloads included. Memory: some keys and a few records.
pub(super) struct StoreWalk {
    store: Arc<dyn Store>,
    next: u16,
    /// The partition under way, and the last key that was listed.
    listed: Option<(Partition, Option<Key>)>,
    keys: vec::IntoIter<Key>,
    read: vec::IntoIter<(Key, Result<Record, String>)>,
}

/// A step of the walk.
pub(super) enum WalkStep {
    /// A partition begins, at this time of the store.
    Partition(Partition, Timestamp),
    /// A record, and what follows from it if this version can read it.
    Record(CopiedRecord, Option<Derived>),
    /// A record whose stamps are lost, and why.
    Unreadable(Key, String),
}

impl StoreWalk {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        let (keys, read) = (Vec::new().into_iter(), Vec::new().into_iter());
        Self { store, next: 0, listed: None, keys, read }
    }

    /// The next step; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<WalkStep>, StoreError> {
        loop {
            if let Some((key, record)) = self.read.next() {
                let step = match record {
                    Ok(record) => self.whole(key, record).await?,
                    Err(cause) => Some(WalkStep::Unreadable(key, cause)),
                };
                if step.is_some() {
                    return Ok(step);
                }
            } else if self.keys.len() > 0 {
                let keys: Vec<Key> = self.keys.by_ref().take(RECORDS_AT_ONCE).collect();
                self.read = self.records(&keys).await?.into_iter();
            } else if let Some((partition, after)) = self.listed {
                let keys = self.store.keys(partition, after, KEYS_AT_ONCE).await?;
                self.listed = keys.last().map(|last| (partition, Some(*last)));
                self.keys = keys.into_iter();
            } else if self.next < self.store.keyspace().partitions() {
                let partition = Partition(self.next);
                self.next += 1;
                self.listed = Some((partition, None));
                return Ok(Some(WalkStep::Partition(partition, self.store.now(partition))));
            } else {
                return Ok(None);
            }
        }
    }

    /// Reads records; damage to one does not affect the others.
    async fn records(
        &self,
        keys: &[Key],
    ) -> Result<Vec<(Key, Result<Record, String>)>, StoreError> {
        match self.store.get(keys).await {
            Ok(records) => {
                let found = keys.iter().zip(records);
                Ok(found.filter_map(|(key, record)| Some((*key, Ok(record?)))).collect())
            }
            Err(StoreError::Damaged(_)) => {
                let mut found = Vec::with_capacity(keys.len());
                for key in keys {
                    match self.store.get(&[*key]).await {
                        Ok(mut records) => {
                            found.extend(records.pop().flatten().map(|record| (*key, Ok(record))));
                        }
                        Err(StoreError::Damaged(cause)) => found.push((*key, Err(cause))),
                        Err(error) => return Err(error),
                    }
                }
                Ok(found)
            }
            Err(error) => Err(error),
        }
    }

    /// The record with its bodies. A body that is missing belongs to an older revision, or it is lost.
    async fn whole(&self, key: Key, mut record: Record) -> Result<Option<WalkStep>, StoreError> {
        let mut missed = None;
        for _ in 0..READS {
            let derived = AnyRecord::read_at(self.store.keyspace(), key, &record).ok();
            let derived = derived.map(|record| record.derived(key));
            if derived.as_ref().is_some_and(|derived| !derived.is_copied) {
                return Ok(None);
            }
            let names = derived.as_ref().map(|derived| derived.bodies.clone()).unwrap_or_default();
            let found =
                if names.is_empty() { Vec::new() } else { self.store.bodies(&names).await? };
            let revision = record.revision;
            if found.iter().all(Option::is_some) || missed.replace(revision) == Some(revision) {
                let bodies = names.into_iter().zip(found).collect();
                return Ok(Some(WalkStep::Record(CopiedRecord { key, record, bodies }, derived)));
            }
            let Some(again) = self.store.get(&[key]).await?.pop().flatten() else {
                return Ok(None);
            };
            record = again;
        }
        Err(StoreError::Away(format!("{key:?} changes more often than it can be read")))
    }
}

/// Keys that are listed in one call: 16 MiB.
const KEYS_AT_ONCE: usize = 1 << 20;
const RECORDS_AT_ONCE: usize = 64;
/// A record may change between the read of its head and of its bodies, but hardly this often in a row.
const READS: usize = 10;
