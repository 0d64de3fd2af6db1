//! Lists of the deliveries to an endpoint, or to the callbacks of an operation; the newest first.

use super::access::Caller;
use super::endpoints::calls::Endpoints;
use super::error::Result;
use super::jobs::pages::PagedList;
use crate::limits::{MAX_LIST_READS, MAX_REPLY_BYTES};
use crate::record::Kind;
use crate::record::delivery::{
    DELIVERIES, Delivery, DeliveryState, STATES, is_indexed, owner_prefix, state_prefix,
};
use crate::store::{Entry, Key};
use crate::webhook::name::DeliveryOwner;

/// A list of deliveries.
#[derive(Clone, Debug)]
pub struct DeliveryQuery {
    /// Whose deliveries.
    pub owner: DeliveryOwner,
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// How many at most.
    pub page_size: usize,
    /// Where the last page ended; empty for the first.
    pub page_token: String,
}

/// A page of them.
#[derive(Clone, Debug, Default)]
pub struct DeliveryPage {
    /// The deliveries with their keys.
    pub deliveries: Vec<(Key, Delivery)>,
    /// Where the next page begins; empty on the last.
    pub next_page_token: String,
}

impl Endpoints {
    /// A page of deliveries.
    pub(super) async fn list_deliveries(
        &self,
        caller: &Caller,
        query: &DeliveryQuery,
    ) -> Result<DeliveryPage> {
        let mut list = self.open_deliveries(caller, query)?;
        let mut page = DeliveryPage::default();
        let is_first = query.page_token.is_empty();
        if self.fill_deliveries(query, &mut list, &mut page.deliveries).await? {
            page.next_page_token = list.token(&self.context)?;
        } else if is_first && page.deliveries.is_empty() {
            self.check_owner(&query.owner).await?;
        }
        Ok(page)
    }

    fn open_deliveries(&self, caller: &Caller, query: &DeliveryQuery) -> Result<PagedList> {
        let DeliveryQuery { owner, state, page_token, .. } = query;
        let (index, prefix) = match state {
            Some(state) if is_indexed(*state) => (STATES, state_prefix(owner, *state)),
            _ => (DELIVERIES, owner_prefix(owner)),
        };
        let state = state.map_or(0, |state| state as u8).to_string();
        let parts = [owner.to_string(), state];
        let parts = parts.each_ref().map(String::as_str);
        PagedList::open(&self.context, caller, (index, prefix, true), &parts, page_token)
    }

    /// Fills a page; returns whether there may be more.
    async fn fill_deliveries(
        &self,
        query: &DeliveryQuery,
        list: &mut PagedList,
        page: &mut Vec<(Key, Delivery)>,
    ) -> Result<bool> {
        let (mut read, mut bytes) = (0, 0);
        while read < MAX_LIST_READS {
            let wanted = (query.page_size - page.len()).clamp(1, AT_ONCE);
            let entries = list.entries(&self.context, wanted).await?;
            let more = entries.len() > wanted;
            read += entries.len();
            let found: Vec<Key> = entries.iter().filter_map(Entry::key).collect();
            let found = self.reader.read_each::<Delivery>(&found).await?;
            for (entry, found) in entries.iter().zip(found) {
                let found = found.ok().flatten().map(|before| before.record);
                let fits = |it: &Delivery| {
                    it.belongs_to(&query.owner)
                        && query.state.is_none_or(|state| state == it.state())
                };
                let found = found.filter(fits).and_then(|it| Some((entry.key()?, it)));
                let size = found.as_ref().map_or(0, |(_, it)| it.encode().len() + FRAME);
                let is_full = page.len() == query.page_size
                    || !page.is_empty() && bytes + size > MAX_REPLY_BYTES;
                if found.is_some() && is_full {
                    return Ok(true);
                }
                bytes += size;
                page.extend(found);
                list.pass(entry);
            }
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Only where there are no deliveries it matters whether there is anything that could have some.
    async fn check_owner(&self, owner: &DeliveryOwner) -> Result<()> {
        match owner {
            DeliveryOwner::Endpoint(name) => self.get(name).await.map(drop),
            DeliveryOwner::Operation(name) => self.reader.view(name).await.map(drop),
        }
    }
}

/// Records that are read at a time.
const AT_ONCE: usize = 100;
/// What a reply adds to the fields of a delivery, approximately.
const FRAME: usize = 256;
