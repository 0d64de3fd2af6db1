//! What a list reaches of the store: all of it, or, if its caller asks for a partial success, the partitions that answer.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;

use super::query::ListQuery;
use crate::engine::error::{Reason, Result};
use crate::engine::reading::reader::{Lookup, Reader};
use crate::limits::MAX_UNREACHABLE;
use crate::operation::Record;
use crate::record::Before;
use crate::store::{Entry, Key, Partition, Scan, Store, StoreError};

/// What one page reaches.
pub(super) struct Reach {
    /// Partitions that do not answer are left out.
    partial: bool,
    lost: Mutex<BTreeSet<Partition>>,
}

/// The query of a page, and what the page reaches.
pub(super) struct PageQuery<'a> {
    pub(super) query: &'a ListQuery,
    pub(super) reach: Reach,
}

/// The record of an entry; `None` where its partition does not answer.
pub(super) type Reached = Option<Lookup<Before<Record>>>;

impl Reach {
    pub(super) const fn new(partial: bool) -> Self {
        Self { partial, lost: Mutex::new(BTreeSet::new()) }
    }

    /// Reads index entries, of the partitions that answer.
    pub(super) async fn scan(
        &self,
        store: &dyn Store,
        scan: Scan,
    ) -> std::result::Result<Vec<Entry>, StoreError> {
        if !self.partial {
            return store.scan(scan).await;
        }
        let all = store.keyspace().all();
        let wanted = all.filter(|it| scan.partition.is_none_or(|only| only == *it));
        let reads = wanted
            .filter(|partition| !self.lock().contains(partition))
            .map(async |partition| (partition, store.scan(scan.clone().within(partition)).await));
        let mut entries = Vec::new();
        for (partition, found) in join_all(reads).await {
            match found {
                Ok(found) => entries.extend(found),
                Err(error) => self.lose(partition, error)?,
            }
        }
        Ok(scan.merge(entries))
    }

    /// Reads the records of entries, of the partitions that answer.
    pub(super) async fn read_each(
        &self,
        reader: &Reader,
        entries: &[Entry],
    ) -> std::result::Result<Vec<Reached>, StoreError> {
        let keys = |of: &dyn Fn(&Entry) -> bool| -> Vec<Key> {
            entries.iter().filter(|entry| of(entry)).filter_map(Entry::key).collect()
        };
        if !self.partial {
            let found = reader.read_each(&keys(&|_| true)).await?;
            return Ok(found.into_iter().map(Some).collect());
        }
        let mut reached: Vec<Reached> = entries.iter().map(|_| None).collect();
        let partitions: BTreeSet<Partition> = entries.iter().map(|entry| entry.partition).collect();
        for partition in partitions {
            if self.lock().contains(&partition) {
                continue;
            }
            match reader.read_each(&keys(&|entry| entry.partition == partition)).await {
                Ok(found) => {
                    let places =
                        (0..entries.len()).filter(|at| entries[*at].partition == partition);
                    for (at, found) in places.zip(found) {
                        reached[at] = Some(found);
                    }
                }
                Err(error) => self.lose(partition, error)?,
            }
        }
        Ok(reached)
    }

    /// What a further read of an operation found; nothing where its partition does not answer.
    pub(super) fn found<T>(
        &self,
        partition: Partition,
        found: Result<Option<T>>,
    ) -> Result<Option<T>> {
        match found {
            Err(error) if self.partial && error.reason == Reason::StoreUnavailable => {
                self.lock().insert(partition);
                Ok(None)
            }
            found => found,
        }
    }

    /// The names of the partitions that did not answer.
    ///
    /// # Errors
    /// Where none did: that is no partial success.
    pub(super) fn unreachable(&self, store: &dyn Store) -> Result<Vec<String>> {
        let lost = self.lock();
        if lost.len() >= usize::from(store.keyspace().partitions()) {
            return Err(StoreError::Away("no partition answers".to_owned()).into());
        }
        let names = lost.iter().map(|partition| format!("partitions/{}", partition.0));
        Ok(names.take(MAX_UNREACHABLE).collect())
    }

    /// Notes that a partition does not answer; other trouble is an error.
    fn lose(&self, partition: Partition, error: StoreError) -> std::result::Result<(), StoreError> {
        match error {
            StoreError::Away(_) | StoreError::Foreign(_) => {
                self.lock().insert(partition);
                Ok(())
            }
            error => Err(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Partition>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
