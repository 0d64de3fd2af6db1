//! Lists of webhook endpoints, by parent and id.

use bytes::Bytes;

use super::access::Caller;
use super::endpoints::calls::Endpoints;
use super::endpoints::found::scan;
use super::error::Result;
use super::operations::page_token::{self, Binding};
use crate::limits::MAX_REPLY_BYTES;
use crate::operation::name::ParentPattern;
use crate::record::Kind;
use crate::record::endpoint::PARTITION;
use crate::webhook::endpoint::Endpoint;

/// A list of endpoints.
#[derive(Clone, Debug)]
pub struct EndpointQuery {
    /// Of which parents.
    pub parent: ParentPattern,
    /// How many at most.
    pub page_size: usize,
    /// Where the last page ended; empty for the first.
    pub page_token: String,
}

/// A page of them.
#[derive(Clone, Debug, Default)]
pub struct EndpointPage {
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Where the next page begins; empty on the last.
    pub next_page_token: String,
}

impl Endpoints {
    /// A page of endpoints, by parent and id.
    pub(super) async fn list(&self, caller: &Caller, query: EndpointQuery) -> Result<EndpointPage> {
        let (keyspace, now) = (self.context.store.keyspace(), self.context.store.now(PARTITION));
        let binding = Binding::of(&[caller.id(), "webhook endpoints", query.parent.as_str()]);
        let mut after = match query.page_token.as_str() {
            "" => None,
            token => Some(Bytes::from(page_token::open(keyspace, &binding, token, now)?)),
        };
        let mut page = EndpointPage::default();
        if self.fill(&query, &mut after, &mut page.endpoints).await?
            && let Some(position) = after
        {
            page.next_page_token = page_token::seal(keyspace, &binding, &position, now)?;
        }
        Ok(page)
    }

    /// Fills a page from a position, which it moves; returns whether there may be more.
    async fn fill(
        &self,
        query: &EndpointQuery,
        after: &mut Option<Bytes>,
        endpoints: &mut Vec<Endpoint>,
    ) -> Result<bool> {
        let pattern = &query.parent;
        let whole = || [pattern.as_str(), "\0"].concat();
        let prefix = if pattern.is_wildcard() { pattern.prefix().to_owned() } else { whole() };
        let mut bytes = 0;
        for _ in 0..BATCHES {
            let entries = self.context.store.scan(scan(&prefix, after.clone(), AT_ONCE)).await?;
            let found = self.read_entries(&entries).await?;
            for (entry, endpoint) in entries.iter().zip(found) {
                let endpoint = endpoint.filter(|it| pattern.matches(it.name.parent.as_str()));
                let size = endpoint.as_ref().map_or(0, |it| it.encode().len() + FRAME);
                let is_full = endpoints.len() == query.page_size
                    || !endpoints.is_empty() && bytes + size > MAX_REPLY_BYTES;
                if endpoint.is_some() && is_full {
                    return Ok(true);
                }
                endpoints.extend(endpoint);
                bytes += size;
                *after = Some(entry.member.clone());
            }
            if entries.len() < AT_ONCE {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Records that are read at a time.
const AT_ONCE: usize = 100;
/// How many times a page of a list with `-` does so; a page may be short, even empty (AIP-158).
const BATCHES: usize = 50;
/// What a reply adds to the fields of an endpoint, approximately.
const FRAME: usize = 256;
