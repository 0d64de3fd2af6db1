//! The lines of deliveries: those of an operation to a receiver that have not ended.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::context::Context;
use crate::engine::error::{Error, Result};
use crate::engine::reading::reader::{Lookup, Reader};
use crate::engine::transact::{Transactor, Unobserved};
use crate::record::Before;
use crate::record::delivery::{Delivery, LINES};
use crate::store::{Entry, Index, Key, Scan};

/// A delivery as it was read.
pub(super) type Found = (Key, Before<Delivery>);

/// Looks up deliveries of lines, for those who change them.
#[derive(Clone)]
pub(super) struct DeliveryLines {
    pub(super) context: Arc<Context>,
    pub(super) reader: Arc<Reader>,
    pub(super) transactor: Arc<Transactor<Unobserved>>,
}

impl DeliveryLines {
    pub(super) const fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        transactor: Arc<Transactor<Unobserved>>,
    ) -> Self {
        Self { context, reader, transactor }
    }

    /// The last one of a line in the partition of `beside`.
    pub(super) async fn last(&self, beside: Key, line: &[u8]) -> Result<Option<Found>> {
        self.first_of(Scan { descending: true, ..self.scan(beside, line) }).await
    }

    /// The last one before the delivery under that key.
    pub(super) async fn before(&self, key: Key, delivery: &Delivery) -> Result<Option<Found>> {
        let line = delivery.target.line(&delivery.news.uid);
        let to = Bound::Excluded(Bytes::from([&line[..], &delivery.number.to_be_bytes()].concat()));
        self.first_of(Scan { descending: true, to, ..self.scan(key, &line) }).await
    }

    /// The first one after the delivery under that key.
    pub(super) async fn after(&self, key: Key, delivery: &Delivery) -> Result<Option<Found>> {
        let line = delivery.target.line(&delivery.news.uid);
        let next = delivery.number.saturating_add(1).to_be_bytes();
        let from = Bound::Included(Bytes::from([&line[..], &next].concat()));
        self.first_of(Scan { from, ..self.scan(key, &line) }).await
    }

    fn scan(&self, beside: Key, line: &[u8]) -> Scan {
        let scan = Scan::first(Index::new(LINES), 1).within(self.context.partition(beside));
        scan.with_prefix(line)
    }

    /// The delivery of that key, if it can be read and has not ended.
    pub(super) async fn live(&self, key: Key) -> Result<Option<Found>> {
        let found = match self.reader.read_each::<Delivery>(&[key]).await?.pop() {
            Some(Err(damage)) => return damage.left_out().map(|()| None),
            found => found.and_then(Lookup::ok).flatten(),
        };
        Ok(found.filter(|found| !found.record.is_over()).map(|found| (key, found)))
    }

    /// The first one that a scan finds, without those that cannot be read.
    async fn first_of(&self, scan: Scan) -> Result<Option<Found>> {
        for _ in 0..TRIES {
            let limit = scan.limit + self.reader.unreadable_count();
            let found = self.context.store.scan(Scan { limit, ..scan.clone() }).await?;
            let keys: Vec<Key> = found.iter().filter_map(Entry::key).collect();
            let mut have_ended = false;
            for (key, found) in keys.iter().zip(self.reader.read_each::<Delivery>(&keys).await?) {
                match found {
                    Ok(Some(found)) if !found.record.is_over() => return Ok(Some((*key, found))),
                    Ok(_) => have_ended = true,
                    Err(damage) => damage.left_out()?,
                }
            }
            // Another scan does not find those that have ended since.
            if !have_ended && found.len() < limit {
                return Ok(None);
            }
        }
        Err(Error::busy(&"a line of deliveries"))
    }
}

/// Deliveries end one by one, but hardly this many between a scan and a read.
const TRIES: usize = 10;
