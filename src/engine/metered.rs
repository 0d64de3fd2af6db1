//! The store as the engine uses it: one place counts and logs its errors, and notices slow calls.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::metrics::Metrics;
use super::standstill::Standstill;
use crate::clock::Timestamp;
use crate::store::{
    BodyKey, CommitError, Committed, Durability, Entry, Feed, Key, Keyspace, Partition, Record,
    Scan, Store, StoreError, WriteSet,
};
use crate::throttle::Throttle;

/// Passes everything on, and counts refusals.
pub(super) struct Metered {
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) throttle: Arc<Throttle>,
    pub(super) standstill: Arc<Standstill>,
}

impl Metered {
    fn noting<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        answer.inspect_err(|error| {
            self.metrics.unanswered(error);
            self.tell(error);
        })
    }

    /// The only place that logs trouble with the store: every caller would log the same again.
    fn tell(&self, error: &StoreError) {
        if matches!(error, StoreError::Damaged(_) | StoreError::Newer(_)) {
            return;
        }
        if let Some(left_out) = self.throttle.admit("store") {
            tracing::warn!(cause = %error, left_out, "the store is unavailable");
        }
    }
}

#[async_trait]
impl Store for Metered {
    fn keyspace(&self) -> &Keyspace {
        self.store.keyspace()
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        let _under_way = self.standstill.call();
        self.noting(self.store.get(keys).await)
    }

    async fn bodies(&self, keys: &[BodyKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.noting(self.store.bodies(keys).await)
    }

    async fn commit(&self, sets: Vec<WriteSet>) -> Vec<Result<Committed, CommitError>> {
        let under_way = self.standstill.call();
        let results = self.store.commit(sets).await;
        drop(under_way);
        results.iter().filter_map(|result| result.as_ref().err()).for_each(|error| {
            self.metrics.refused(error);
            if let CommitError::Unavailable(error) = error {
                self.tell(error);
            }
        });
        results
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Entry>, StoreError> {
        self.noting(self.store.scan(scan).await)
    }

    async fn keys(
        &self,
        partition: Partition,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Vec<Key>, StoreError> {
        self.noting(self.store.keys(partition, after, limit).await)
    }
    async fn counters(&self, family: &str, names: &[Bytes]) -> Result<Vec<i64>, StoreError> {
        self.noting(self.store.counters(family, names).await)
    }

    async fn counter_names(&self, family: &str, limit: usize) -> Result<Vec<Bytes>, StoreError> {
        self.noting(self.store.counter_names(family, limit).await)
    }

    fn feed(&self) -> Feed {
        self.store.feed()
    }

    async fn hint_positions(&self) -> Result<Vec<u64>, StoreError> {
        self.noting(self.store.hint_positions().await)
    }

    fn now(&self, partition: Partition) -> Timestamp {
        self.store.now(partition)
    }

    fn answering_since(&self, partition: Partition) -> Option<Timestamp> {
        self.store.answering_since(partition)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.noting(self.store.ping().await)
    }

    fn remark(&self) -> Option<String> {
        self.store.remark()
    }

    async fn raise_min_writer(&self, format: u32) -> Result<(), StoreError> {
        self.noting(self.store.raise_min_writer(format).await)
    }

    async fn finish_import(&self) -> Result<(), StoreError> {
        self.noting(self.store.finish_import().await)
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
