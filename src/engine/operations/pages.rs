//! Lists: the direct children of one parent, newest first; with the wildcard `-` by parent, then newest first.

use std::ops::Bound;
use std::sync::Arc;

use crate::code::Code;
use bytes::Bytes;
use prost::Message;

use super::page_token;
use crate::engine::context::Context;
use crate::engine::error::{Reason, Result};
use crate::engine::reading::reader::Reader;
use crate::engine::reading::view::View;
use crate::limits::{MAX_PASSED_OVER, MAX_REPLY_BYTES};
use crate::operation::entries::{LIST, parent_prefix};
use crate::operation::name::ParentPattern;
use crate::operation::{Operation, Record};
use crate::store::{Entry, Index, Key, Partition, Scan};

/// The query of a list.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Of which parents.
    pub parent: ParentPattern,
    /// How many at most.
    pub page_size: usize,
    /// Where the last page ended; empty for the first.
    pub page_token: String,
    /// The form of each element in the reply.
    pub listed: Listed,
}

/// The index of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Operations.
    Operations,
    /// Records, with their operations.
    Records,
}

impl Listed {
    fn bytes(self, view: &View) -> usize {
        let record = match self {
            Self::Operations => 0,
            Self::Records => view.operation.record().encoded_len() + FRAME,
        };
        view.published.encoded_len() + record + FRAME
    }
}

/// A page.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// The operations.
    pub views: Vec<Arc<View>>,
    /// Where the next page begins; empty on the last.
    pub next_page_token: String,
}

/// Lists operations.
pub(in crate::engine) struct Lists {
    context: Arc<Context>,
    reader: Arc<Reader>,
}

impl Lists {
    pub(in crate::engine) const fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        Self { context, reader }
    }

    /// A page of operations, bounded by count and by bytes.
    pub(in crate::engine) async fn list(&self, query: ListQuery) -> Result<ListPage> {
        let keyspace = self.context.store.keyspace();
        let now = self.context.store.now(Partition(0));
        let mut after = match query.page_token.as_str() {
            "" => None,
            token => {
                Some(Bytes::from(page_token::open(keyspace, query.parent.as_str(), token, now)?))
            }
        };
        let mut page = ListPage::default();
        let (mut bytes, mut passed_over) = (0, 0);
        let seal =
            |position: &[u8]| page_token::seal(keyspace, query.parent.as_str(), position, now);
        loop {
            // One more than requested shows whether there is a next page.
            let wanted = (query.page_size - page.views.len() + 1).min(AT_ONCE);
            let (entries, cut) = self.entries_after(&query.parent, after.as_ref(), wanted).await?;
            let exhausted = entries.len() < wanted;
            for (entry, operation) in self.operations(entries).await? {
                // Payloads are loaded one by one: a page of them all may be a gigabyte.
                let view = match operation {
                    Some(_) if page.views.len() == query.page_size => {
                        page.next_page_token = seal(after.as_deref().unwrap_or_default())?;
                        return Ok(page);
                    }
                    Some(operation) => self.listed(operation).await?,
                    None => None,
                };
                if let Some(view) = view {
                    bytes += query.listed.bytes(&view);
                    if bytes > MAX_REPLY_BYTES && !page.views.is_empty() {
                        page.next_page_token = seal(after.as_deref().unwrap_or_default())?;
                        return Ok(page);
                    }
                    page.views.push(view);
                } else {
                    passed_over += 1;
                }
                after = Some(entry.member);
            }
            if let Some(position) = cut {
                page.next_page_token = seal(&position)?;
                return Ok(page);
            }
            if exhausted {
                return Ok(page);
            }
            if passed_over >= MAX_PASSED_OVER {
                page.next_page_token = seal(after.as_deref().unwrap_or_default())?;
                return Ok(page);
            }
        }
    }

    /// Entries after a position, and where to continue if there were too many parents for one call.
    async fn entries_after(
        &self,
        parent: &ParentPattern,
        after: Option<&Bytes>,
        wanted: usize,
    ) -> Result<(Vec<Entry>, Option<Vec<u8>>)> {
        if !parent.is_wildcard() {
            return Ok((
                self.children_after(parent.as_str().as_bytes(), after, wanted).await?,
                None,
            ));
        }
        let mut parents = 0;
        let mut entries = Vec::new();
        let mut current = after.map(|member| parent_of(member));
        let mut after = after.cloned();
        while entries.len() < wanted {
            let next = match current.take() {
                // Go on within the parent where the last page ended.
                Some(parent) if after.is_some() => Some(parent),
                former => self.next_parent(parent, former).await?,
            };
            let Some(next) = next else { break };
            if parent.matches(&String::from_utf8_lossy(&next)) {
                entries.extend(
                    self.children_after(&next, after.take().as_ref(), wanted - entries.len())
                        .await?,
                );
            }
            after = None;
            parents += 1;
            if parents == MAX_PARENTS && entries.len() < wanted {
                // No entry lies before the children of this parent, so the next page continues with the next one.
                return Ok((entries, Some(parent_prefix(&String::from_utf8_lossy(&next)))));
            }
            current = Some(next);
        }
        Ok((entries, None))
    }

    /// Newest first: the index is in order of creation, read backwards.
    async fn children_after(
        &self,
        parent: &[u8],
        after: Option<&Bytes>,
        wanted: usize,
    ) -> Result<Vec<Entry>> {
        let prefix = parent_prefix(&String::from_utf8_lossy(parent));
        let mut scan =
            Scan { descending: true, ..Scan::first(Index::new(LIST), wanted) }.with_prefix(&prefix);
        if let Some(after) = after {
            scan.to = Bound::Excluded(after.clone());
        }
        Ok(self.context.store.scan(scan).await?)
    }

    /// The first parent with children after `former`, of those that begin as the pattern does.
    async fn next_parent(
        &self,
        pattern: &ParentPattern,
        former: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>> {
        let mut scan = Scan::first(Index::new(LIST), 1).with_prefix(pattern.prefix().as_bytes());
        if let Some(former) = former {
            // Members of `former` begin with it and a zero; the next parent is above all of them.
            scan.from = Bound::Included([&former[..], &[1]].concat().into());
        }
        let first = self.context.store.scan(scan).await?;
        Ok(first.first().map(|entry| parent_of(&entry.member)))
    }

    /// The operation of each entry; `None` if callers must not see it.
    async fn operations(&self, entries: Vec<Entry>) -> Result<Vec<(Entry, Option<Operation>)>> {
        let keys: Vec<Key> = entries.iter().filter_map(Entry::key).collect();
        let records = self.reader.read_each(&keys).await?;
        let (mut operations, mut orphans) = (Vec::with_capacity(entries.len()), Vec::new());
        for (entry, record) in entries.into_iter().zip(records) {
            let now = self.context.store.now(entry.partition);
            if matches!(record, Ok(None)) {
                orphans.push(entry.clone());
            }
            let operation = match record.ok().flatten().map(|before| before.record) {
                Some(record) if record.gone(now).is_some() => None,
                Some(Record::Operation(operation)) => Some(*operation),
                _ => None,
            };
            operations.push((entry, operation));
        }
        self.reader.drop_orphans(&Index::new(LIST), orphans).await;
        Ok(operations)
    }

    /// The published form of an operation; `None` if it was removed meanwhile.
    async fn listed(&self, operation: Operation) -> Result<Option<Arc<View>>> {
        let name = operation.name.clone();
        if let Some(view) =
            View::load(&*self.context.store, self.context.key(&name), operation).await?
        {
            return Ok(Some(view));
        }
        match self.reader.view(&name).await {
            Ok(view) => Ok(Some(view)),
            Err(error) if error.reason.code() == Code::NotFound => Ok(None),
            // A payload is gone: it costs only its operation.
            Err(error) if error.reason == Reason::Internal => {
                self.reader.note_unreadable(self.context.key(&name), &error.message);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The parent in a member of `list`: the bytes before the first zero.
fn parent_of(member: &[u8]) -> Vec<u8> {
    member.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// Records that are read at a time.
const AT_ONCE: usize = 100;
/// The most parents that one call scans for a pattern: a page may be short, even empty (AIP-158).
const MAX_PARENTS: usize = 1_000;
/// Size of an element in a reply besides its content.
const FRAME: usize = 8;
