//! Lists: the direct children of one parent, newest or oldest first; with the wildcard `-` by parent, then in that order.
//!
//! The work of one call is bounded, whatever the filter: a page that meets a bound ends there, with a token.

use std::sync::Arc;

use bytes::Bytes;

use super::page_token::{self, Binding};
use super::query::ListQuery;
use super::reach::{PageQuery, Reach};
use super::sources::{AT_ONCE, EntryBatch, Source, Sources, Then};
use crate::engine::access::Caller;
use crate::engine::context::Context;
use crate::engine::error::Result;
use crate::engine::reading::matching::Matching;
use crate::engine::reading::reader::Reader;
use crate::engine::reading::view::View;
use crate::filter::Verdict;
use crate::limits::{MAX_LIST_LOADED_BYTES, MAX_LIST_READS};
use crate::operation::Operation;
use crate::store::Partition;

/// A page.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// The operations.
    pub views: Vec<Arc<View>>,
    /// Where the next page begins; empty on the last.
    pub next_page_token: String,
    /// The partitions that did not answer, if that is no error.
    pub unreachable: Vec<String>,
    /// The index that it was read from.
    pub index: &'static str,
}

/// Lists operations.
pub(in crate::engine) struct Lists {
    context: Arc<Context>,
    sources: Sources,
    matching: Matching,
}

/// A page that is being filled.
struct Filling<'a> {
    asked: &'a PageQuery<'a>,
    source: Source,
    views: Vec<Arc<View>>,
    /// The position of what was looked at last.
    after: Option<Bytes>,
    /// Bytes of the reply.
    bytes: usize,
    /// Records that were read.
    read: usize,
    /// Bytes of payloads that were loaded for the filter.
    loaded: usize,
}

impl Filling<'_> {
    const fn is_full(&self) -> bool {
        self.views.len() == self.asked.query.page_size
    }

    /// How many entries to read next. One more than there is room for tells whether there is a next page; the more a filter
    /// has passed over, the more are read at once.
    fn wanted(&self) -> usize {
        let room = self.asked.query.page_size - self.views.len() + 1;
        let least = if self.source.filter.is_empty() { 0 } else { self.read };
        room.max(least).min(AT_ONCE)
    }
}

impl Lists {
    pub(in crate::engine) fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        let sources = Sources::new(context.clone(), reader.clone());
        let matching = Matching::new(context.clone(), reader);
        Self { context, sources, matching }
    }

    /// A page of operations, bounded by count, by bytes and by work.
    pub(in crate::engine) async fn list(
        &self,
        caller: &Caller,
        query: ListQuery,
    ) -> Result<ListPage> {
        let keyspace = self.context.store.keyspace();
        let now = self.context.store.now(Partition(0));
        let binding = binding(caller, &query);
        let after = match query.page_token.as_str() {
            "" => None,
            token => Some(Bytes::from(page_token::open(keyspace, &binding, token, now)?)),
        };
        let asked = &PageQuery { query: &query, reach: Reach::new(query.partial) };
        let source = self.sources.source(asked, after.as_ref()).await?;
        let views = Vec::new();
        let mut page = Filling { asked, source, views, after, bytes: 0, read: 0, loaded: 0 };
        let next = self.fill(&mut page).await?;
        let unreachable = asked.reach.unreachable(&*self.context.store)?;
        let next_page_token = match next {
            Some(position) => page_token::seal(keyspace, &binding, &position, now)?,
            None => String::new(),
        };
        Ok(ListPage { views: page.views, next_page_token, unreachable, index: page.source.index })
    }

    /// Fills a page; where the next one begins, if there may be one.
    async fn fill(&self, page: &mut Filling<'_>) -> Result<Option<Bytes>> {
        let index = page.source.members_of();
        loop {
            let wanted = page.wanted();
            let EntryBatch { entries, then } = self
                .sources
                .next(&mut page.source, page.asked, page.after.as_ref(), wanted)
                .await?;
            page.read += entries.len();
            let reach = &page.asked.reach;
            for (entry, operation) in self.sources.operations(Some(&index), reach, entries).await? {
                if !self.take(page, entry.partition, operation).await? {
                    return Ok(page.after.clone());
                }
                page.after = Some(entry.member);
            }
            let filtered = !page.source.filter.is_empty();
            match then {
                Then::End => return Ok(None),
                Then::From(position) => return Ok(Some(position)),
                // What a filter has not looked at yet need not match: that is for the next page to see.
                Then::More if filtered && page.is_full() => return Ok(page.after.clone()),
                Then::More if page.read >= MAX_LIST_READS => return Ok(page.after.clone()),
                Then::More if filtered => tokio::task::yield_now().await,
                Then::More => {}
            }
        }
    }

    /// Takes an operation onto the page if it belongs there; `false` if it is for the next page.
    async fn take(
        &self,
        page: &mut Filling<'_>,
        partition: Partition,
        operation: Option<Operation>,
    ) -> Result<bool> {
        let Some(operation) = operation else { return Ok(true) };
        if page.source.filter.test(&operation) == Verdict::NoMatch {
            return Ok(true);
        }
        if page.is_full() || page.loaded >= MAX_LIST_LOADED_BYTES {
            return Ok(false);
        }
        // Payloads are loaded one by one: a page of them all may be a gigabyte.
        let found = self.matching.view(operation, &page.source.filter, &mut page.loaded).await;
        let Some(view) = page.asked.reach.found(partition, found)? else { return Ok(true) };
        let bytes = page.bytes + page.asked.query.listed.bytes(&view);
        if bytes > page.asked.query.listed.most_bytes() && !page.views.is_empty() {
            return Ok(false);
        }
        page.bytes = bytes;
        page.views.push(view);
        Ok(true)
    }
}

/// What all pages of a query have in common.
fn binding(caller: &Caller, query: &ListQuery) -> Binding {
    let (filter, order) = (query.filter.canonical(), query.order.canonical());
    let (listed, parent) = (query.listed.as_str(), query.parent.as_str());
    let partial = if query.partial { "partial" } else { "whole" };
    Binding::of(&[&caller.id, listed, parent, filter, order, partial])
}
