//! Where the entries of a page come from, always in the order of the list: the list itself, the failures or the
//! unfinished among it, which have the same members, or another index that holds little enough to be sorted for every page. A position is a member of
//! the list, whichever index a page is read from.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::parents::{next_parent, parent_of};
use super::reach::{PageQuery, Reach};
use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::error::Result;
use crate::engine::reading::reader::Reader;
use crate::filter::{Access, Filter, Order, Plan, Verdict, plan, plan_in_order};
use crate::limits::MAX_LIST_SORTED;
use crate::operation::entries::{
    DueClass, FAILED, LIST, UNFINISHED, parent_member, parent_prefix, ready_index,
};
use crate::operation::name::{Name, ParentPattern};
use crate::operation::{Operation, Record};
use crate::store::{Entry, Index, Key, Scan};

/// Reads entries and their records.
pub(super) struct Sources {
    context: Arc<Context>,
    reader: Arc<Reader>,
}

/// What one page is read from.
pub(super) struct Source {
    /// The index that it was read from first.
    pub(super) index: &'static str,
    /// What must hold of each operation.
    pub(super) filter: Filter,
    entries: Entries,
}

enum Entries {
    /// From an index in the order of the list, within these times of creation.
    Listed(&'static str, RangeInclusive<Timestamp>),
    /// These, which were found in another index.
    Sorted(VecDeque<Entry>),
}

/// Entries of an index other than the list.
struct IndexEntries {
    /// `None` where they were not read from an index.
    index: Option<Index>,
    entries: Vec<Entry>,
}

/// Some entries.
pub(super) struct EntryBatch {
    pub(super) entries: Vec<Entry>,
    pub(super) then: Then,
}

/// What follows them.
pub(super) enum Then {
    /// Perhaps more.
    More,
    /// Too many parents for one call; the next one goes on here.
    From(Bytes),
    /// Nothing.
    End,
}

impl Source {
    /// The entries of an index that is in the order of the list.
    fn in_order(planned: Plan) -> Self {
        let Plan { access, residual: filter, .. } = planned;
        let index = access.as_str();
        let entries = match access {
            Access::List(times) => Entries::Listed(LIST, times),
            Access::Failed(times) => Entries::Listed(FAILED, times),
            Access::Unfinished(times) => Entries::Listed(UNFINISHED, times),
            _ => Entries::Sorted(VecDeque::new()),
        };
        Self { index, filter, entries }
    }

    /// The index that its entries are members of.
    pub(super) fn members_of(&self) -> Index {
        Index::new(match self.entries {
            Entries::Listed(index, _) => index,
            Entries::Sorted(_) => LIST,
        })
    }
}

impl Sources {
    pub(super) const fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        Self { context, reader }
    }

    /// What a page after that position is read from.
    pub(super) async fn source(
        &self,
        page: &PageQuery<'_>,
        after: Option<&Bytes>,
    ) -> Result<Source> {
        let PageQuery { query, reach } = page;
        let planned = plan(&query.filter, query.order);
        let Some(found) = self.found(&planned.access, reach).await? else {
            return Ok(Source::in_order(match planned.access {
                Access::List(_) | Access::Failed(_) | Access::Unfinished(_) => planned,
                _ => plan_in_order(&query.filter, query.order),
            }));
        };
        let Plan { access, residual: filter, .. } = planned;
        let entries = Entries::Sorted(self.sorted(found, &filter, page, after).await?);
        Ok(Source { index: access.as_str(), filter, entries })
    }

    /// The next entries of a source after a position.
    pub(super) async fn next(
        &self,
        source: &mut Source,
        page: &PageQuery<'_>,
        after: Option<&Bytes>,
        wanted: usize,
    ) -> Result<EntryBatch> {
        let PageQuery { query, reach } = page;
        match &mut source.entries {
            Entries::Sorted(entries) => {
                let batch = entries.drain(..wanted.min(entries.len())).collect();
                let then = if entries.is_empty() { Then::End } else { Then::More };
                Ok(EntryBatch { entries: batch, then })
            }
            Entries::Listed(index, times) => {
                let list = List { sources: self, reach, index, times, order: query.order };
                if query.parent.is_wildcard() {
                    return list.of_parents(&query.parent, after, wanted).await;
                }
                list.of_parent(query.parent.as_str().as_bytes(), after, wanted).await
            }
        }
    }

    /// The entries of indexes in another order; `None` where there are too many to be sorted, and where there is no need to.
    async fn found(&self, access: &Access, reach: &Reach) -> Result<Option<Vec<IndexEntries>>> {
        let of_index = |index: Index| Scan::first(index, 0);
        let scans = match access {
            Access::List(_) | Access::Failed(_) | Access::Unfinished(_) => return Ok(None),
            Access::Nothing => Vec::new(),
            Access::Name(name) => return Ok(Some(vec![self.named(name)])),
            Access::Leased => vec![of_index(Index::new(DueClass::Lease.index()))],
            // What waits for its time moves to its queue, never back, so that reading the queue last misses nothing.
            Access::Waiting(queue) => [
                Index::new(DueClass::Start.index()),
                Index::new(DueClass::Retry.index()),
                Index::new(ready_index(queue)),
            ]
            .map(of_index)
            .into(),
        };
        let (mut found, mut count) = (Vec::new(), 0);
        for scan in scans {
            let index = Some(scan.index.clone());
            let Some(entries) = self.whole(scan, reach).await? else { return Ok(None) };
            count += entries.len();
            if count > MAX_LIST_SORTED {
                return Ok(None);
            }
            found.push(IndexEntries { index, entries });
        }
        Ok(Some(found))
    }

    fn named(&self, name: &str) -> IndexEntries {
        let key = Name::parse(name).ok().map(|name| self.context.key(&name));
        let entry = |key: Key| Entry {
            member: Bytes::copy_from_slice(key.as_bytes()),
            partition: self.context.partition(key),
        };
        IndexEntries { index: None, entries: key.map(entry).into_iter().collect() }
    }

    /// Everything in the range of a scan; `None` if that is too much. Each partition is read at one instant: an entry that
    /// moves meanwhile is neither missed nor met twice.
    async fn whole(&self, scan: Scan, reach: &Reach) -> Result<Option<Vec<Entry>>> {
        let keyspace = self.context.store.keyspace();
        let partitions = usize::from(keyspace.partitions());
        // Names are spread evenly over the partitions.
        let share =
            if partitions == 1 { MAX_LIST_SORTED } else { 2 * MAX_LIST_SORTED / partitions };
        let scans = keyspace.all().map(|partition| {
            let scan = Scan { limit: share + 1, ..scan.clone() }.within(partition);
            reach.scan(&*self.context.store, scan)
        });
        let found = try_join_all(scans).await?;
        if found.iter().any(|entries| entries.len() > share) {
            return Ok(None);
        }
        Ok(Some(found.into_iter().flatten().collect()))
    }

    /// What may match and comes after a position, as entries of the list and in its order.
    async fn sorted(
        &self,
        found: Vec<IndexEntries>,
        filter: &Filter,
        page: &PageQuery<'_>,
        after: Option<&Bytes>,
    ) -> Result<VecDeque<Entry>> {
        let PageQuery { query, reach } = page;
        let mut sorted = Vec::new();
        for IndexEntries { index, entries } in found {
            for some in entries.chunks(AT_ONCE) {
                for (entry, operation) in
                    self.operations(index.as_ref(), reach, some.to_vec()).await?
                {
                    let (Some(operation), Some(key)) = (operation, entry.key()) else { continue };
                    let parent = operation.name.parent();
                    let member = parent_member(parent, operation.create_time, key.as_bytes());
                    let is_after =
                        after.is_none_or(|after| compare(query.order, after, &member).is_lt());
                    let is_listed = is_after && query.parent.matches(parent);
                    if is_listed && filter.test(&operation) != Verdict::NoMatch {
                        sorted.push(Entry { member: member.into(), partition: entry.partition });
                    }
                }
                // Some stores read without ever waiting.
                tokio::task::yield_now().await;
            }
        }
        sorted.sort_unstable_by(|one, other| compare(query.order, &one.member, &other.member));
        sorted.dedup();
        Ok(sorted.into())
    }

    /// The operation of each entry; nothing where callers see none. Entries of `index` that lead nowhere are removed.
    pub(super) async fn operations(
        &self,
        index: Option<&Index>,
        reach: &Reach,
        entries: Vec<Entry>,
    ) -> Result<Vec<(Entry, Option<Operation>)>> {
        let records = reach.read_each(&self.reader, &entries).await?;
        let (mut operations, mut orphans) = (Vec::with_capacity(entries.len()), Vec::new());
        for (entry, record) in entries.into_iter().zip(records) {
            let now = self.context.store.now(entry.partition);
            if matches!(record, Some(Ok(None))) {
                orphans.push(entry.clone());
            }
            let operation =
                match record.and_then(|record| record.ok().flatten()).map(|before| before.record) {
                    Some(record) if record.gone(now).is_some() => None,
                    Some(Record::Operation(operation)) => Some(*operation),
                    _ => None,
                };
            operations.push((entry, operation));
        }
        if let Some(index) = index {
            self.reader.drop_orphans(index, orphans).await;
        }
        Ok(operations)
    }
}

/// The list, or the failures among it, as one page reads it.
struct List<'a> {
    sources: &'a Sources,
    reach: &'a Reach,
    index: &'static str,
    times: &'a RangeInclusive<Timestamp>,
    order: Order,
}

impl List<'_> {
    /// Entries of one parent.
    async fn of_parent(
        &self,
        parent: &[u8],
        after: Option<&Bytes>,
        wanted: usize,
    ) -> Result<EntryBatch> {
        let entries = self.children_after(parent, after, wanted).await?;
        let then = if entries.len() < wanted { Then::End } else { Then::More };
        Ok(EntryBatch { entries, then })
    }

    /// Entries of all parents that match, by parent.
    async fn of_parents(
        &self,
        pattern: &ParentPattern,
        after: Option<&Bytes>,
        wanted: usize,
    ) -> Result<EntryBatch> {
        let mut parents = 0;
        let mut entries = Vec::new();
        let mut current = after.map(|member| parent_of(member).to_vec());
        let mut after = after.cloned();
        while entries.len() < wanted {
            let next = match current.take() {
                // Go on within the parent where the last page ended.
                Some(parent) if after.is_some() => Some(parent),
                former => {
                    let from = (&*self.sources.context.store, self.reach);
                    next_parent(from, self.index, pattern, former).await?
                }
            };
            let Some(next) = next else { return Ok(EntryBatch { entries, then: Then::End }) };
            if pattern.matches(&String::from_utf8_lossy(&next)) {
                let room = wanted - entries.len();
                entries.extend(self.children_after(&next, after.as_ref(), room).await?);
            }
            after = None;
            parents += 1;
            if parents == MAX_PARENTS && entries.len() < wanted {
                // This parent was read to its end, so the next page goes on with the next one.
                return Ok(EntryBatch { entries, then: Then::From(self.end_of(&next)) });
            }
            current = Some(next);
        }
        Ok(EntryBatch { entries, then: Then::More })
    }

    /// The entries of a parent, newest or oldest first: the index is in order of creation.
    async fn children_after(
        &self,
        parent: &[u8],
        after: Option<&Bytes>,
        wanted: usize,
    ) -> Result<Vec<Entry>> {
        let parent = String::from_utf8_lossy(parent);
        let first = Bytes::from(parent_member(&parent, *self.times.start(), &FIRST_KEY));
        let last = Bytes::from(parent_member(&parent, *self.times.end(), &LAST_KEY));
        let (mut from, mut to) = (Bound::Included(&first), Bound::Included(&last));
        match (self.order, after) {
            (Order::NewestFirst, Some(after)) if *after <= first => return Ok(Vec::new()),
            (Order::NewestFirst, Some(after)) if *after <= last => to = Bound::Excluded(after),
            (Order::OldestFirst, Some(after)) if *after >= last => return Ok(Vec::new()),
            (Order::OldestFirst, Some(after)) if *after >= first => from = Bound::Excluded(after),
            _ => {}
        }
        let (from, to, descending) = (from.cloned(), to.cloned(), self.order == Order::NewestFirst);
        let scan = Scan { from, to, descending, ..Scan::first(Index::new(self.index), wanted) };
        Ok(self.reach.scan(&*self.sources.context.store, scan).await?)
    }

    /// A position behind all children of a parent.
    fn end_of(&self, parent: &[u8]) -> Bytes {
        let parent = String::from_utf8_lossy(parent);
        match self.order {
            Order::NewestFirst => parent_prefix(&parent).into(),
            Order::OldestFirst => {
                parent_member(&parent, Timestamp::from_micros(u64::MAX), &LAST_KEY).into()
            }
        }
    }
}

/// The order of a list: by parent, then by time of creation.
fn compare(order: Order, one: &[u8], other: &[u8]) -> Ordering {
    let parents = parent_of(one).cmp(parent_of(other));
    parents.then_with(|| match order {
        Order::NewestFirst => other.cmp(one),
        Order::OldestFirst => one.cmp(other),
    })
}

/// Records that are read at a time.
pub(super) const AT_ONCE: usize = 100;
/// The most parents that one call scans for a pattern: a page may be short, even empty (AIP-158).
const MAX_PARENTS: usize = 1_000;
const FIRST_KEY: [u8; Key::LENGTH] = [0; Key::LENGTH];
const LAST_KEY: [u8; Key::LENGTH] = [u8::MAX; Key::LENGTH];
