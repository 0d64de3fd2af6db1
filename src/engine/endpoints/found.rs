//! Which endpoints there are: those of an index, and those that are called about the operations of a parent.

use std::ops::Bound;

use bytes::Bytes;

use super::calls::Endpoints;
use crate::engine::error::Result;
use crate::limits::MAX_ENDPOINTS;
use crate::operation::name::ancestry;
use crate::record::endpoint::{ENDPOINTS, PARTITION};
use crate::store::{Entry, Index, Key, Scan};
use crate::webhook::endpoint::Endpoint;

impl Endpoints {
    /// All endpoints that are called about the operations of a parent: its own, and those of the parents above it. Those that
    /// cannot be read are left out, and were noted.
    pub(in crate::engine) async fn of_parent(&self, parent: &str) -> Result<Vec<Endpoint>> {
        let mut all = Vec::new();
        for parent in ancestry(parent) {
            let scan = scan(&[parent, "\0"].concat(), None, 2 * MAX_ENDPOINTS);
            let entries = self.context.store.scan(scan).await?;
            all.extend(self.read_entries(&entries).await?.into_iter().flatten());
        }
        Ok(all)
    }

    /// The endpoints of index entries; `None` for those that are gone or cannot be read.
    pub(in crate::engine) async fn read_entries(
        &self,
        entries: &[Entry],
    ) -> Result<Vec<Option<Endpoint>>> {
        let keys: Vec<Key> = entries.iter().map(|entry| entry.key().unwrap_or(NOWHERE)).collect();
        let found = self.reader.read_each::<Endpoint>(&keys).await?;
        Ok(found.into_iter().map(|found| Some(found.ok()??.record)).collect())
    }
}

/// Endpoints whose parent and id begin with `prefix`, after a member of the index.
pub(in crate::engine) fn scan(prefix: &str, after: Option<Bytes>, limit: usize) -> Scan {
    let scan =
        Scan::first(Index::new(ENDPOINTS), limit).within(PARTITION).with_prefix(prefix.as_bytes());
    match after {
        Some(after) => Scan { from: Bound::Excluded(after), ..scan },
        None => scan,
    }
}

/// A key without a record, for members that no longhaul wrote.
const NOWHERE: Key = Key::from_bytes([0; Key::LENGTH]);
