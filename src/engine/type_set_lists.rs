//! Lists of type sets, by parent and id.

use std::ops::Bound;

use super::access::Caller;
use super::error::Result;
use super::operations::page_token::{self, Binding};
use super::reading::reader::Lookup;
use super::type_sets::{ShownTypeSet, TypeSetCalls};
use crate::limits::MAX_REPLY_BYTES;
use crate::operation::name::{Id, Parent, ParentPattern, TypeSetName};
use crate::record::Before;
use crate::record::type_sets::{PARTITION, TYPE_SETS, TypeSets};
use crate::store::{Entry, Index, Key, Scan};

/// A list of type sets.
#[derive(Clone, Debug)]
pub struct TypeSetQuery {
    /// Of which parents.
    pub parent: ParentPattern,
    /// How many at most.
    pub page_size: usize,
    /// Where the last page ended; empty for the first.
    pub page_token: String,
    /// With their descriptors.
    pub full: bool,
}

/// A page of them.
#[derive(Clone, Debug, Default)]
pub struct TypeSetPage {
    /// The sets.
    pub sets: Vec<ShownTypeSet>,
    /// Where the next page begins; empty on the last.
    pub next_page_token: String,
}

impl TypeSetCalls {
    /// A page of type sets, by parent and id.
    pub(super) async fn list(&self, caller: &Caller, query: TypeSetQuery) -> Result<TypeSetPage> {
        let (keyspace, now) = (self.context.store.keyspace(), self.context.store.now(PARTITION));
        let view = if query.full { "full" } else { "basic" };
        let binding = Binding::of(&[&caller.id, "type sets", query.parent.as_str(), view]);
        let mut after = match query.page_token.as_str() {
            "" => None,
            token => {
                Some(TypeSetPosition::decode(&page_token::open(keyspace, &binding, token, now)?))
            }
        };
        let mut page = TypeSetPage::default();
        let more = self.fill(&query, &mut after, &mut page.sets).await?;
        if let Some(position) = after.filter(|_| more) {
            page.next_page_token = page_token::seal(keyspace, &binding, &position.encode(), now)?;
        }
        Ok(page)
    }

    /// Fills a page from a position, which it moves; returns whether there may be more.
    async fn fill(
        &self,
        query: &TypeSetQuery,
        after: &mut Option<TypeSetPosition>,
        sets: &mut Vec<ShownTypeSet>,
    ) -> Result<bool> {
        let mut bytes = 0;
        for _ in 0..BATCHES {
            let (records, more) = self.records(&query.parent, after.as_ref()).await?;
            for (parent, record) in records {
                for set in record.map(|record| record.sets).unwrap_or_default() {
                    let position =
                        TypeSetPosition { parent: parent.clone(), id: Some(set.id.clone()) };
                    if after.as_ref().is_some_and(|after| *after >= position) {
                        continue;
                    }
                    let size = FRAME + if query.full { set.size } else { 0 };
                    if sets.len() == query.page_size
                        || !sets.is_empty() && bytes + size > MAX_REPLY_BYTES
                    {
                        return Ok(true);
                    }
                    let name = TypeSetName { parent: parent.clone(), id: set.id.clone() };
                    // One that was deleted meanwhile is left out.
                    sets.extend(self.shown(name, &set, query.full).await?);
                    bytes += size;
                    *after = Some(position);
                }
                *after = Some(TypeSetPosition { parent, id: None });
            }
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Parents from a position on with those of their records that match and can be read, and whether there may be more.
    async fn records(
        &self,
        pattern: &ParentPattern,
        after: Option<&TypeSetPosition>,
    ) -> Result<(Vec<(Parent, Option<TypeSets>)>, bool)> {
        if !pattern.is_wildcard() {
            let parent = Parent::parse(pattern.as_str())?;
            let record = self.read(&parent).await?.map(|before| before.record);
            return Ok((vec![(parent, record)], false));
        }
        let prefix = pattern.prefix().as_bytes();
        let mut scan =
            Scan::first(Index::new(TYPE_SETS), AT_ONCE).within(PARTITION).with_prefix(prefix);
        if let Some(TypeSetPosition { parent, id }) = after {
            // Members of a parent begin with it and a zero.
            let end = u8::from(id.is_none());
            let from = [parent.as_str().as_bytes(), &[end]].concat();
            scan.from = Bound::Included(from.into());
        }
        let entries = self.context.store.scan(scan).await?;
        let more = entries.len() == AT_ONCE;
        let (parents, keys): (Vec<Parent>, Vec<Key>) = entries.iter().filter_map(of_entry).unzip();
        let found = self.reader.read_each::<TypeSets>(&keys).await?;
        let record = |(parent, found): (Parent, Lookup<Before<TypeSets>>)| {
            let record = found.ok().flatten().map(|before| before.record);
            let record = record.filter(|_| pattern.matches(parent.as_str()));
            (parent, record)
        };
        Ok((parents.into_iter().zip(found).map(record).collect(), more))
    }
}

/// A place in the list: a set, or behind all sets of a parent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TypeSetPosition {
    parent: Parent,
    id: Option<Id>,
}

impl PartialOrd for TypeSetPosition {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        // In the order of the index, in which a zero follows each parent.
        let key = |it: &Self| {
            let id = it.id.as_ref().map(|id| id.as_str().to_owned());
            ([it.parent.as_str(), "\0"].concat(), id.is_none(), id)
        };
        key(self).partial_cmp(&key(other))
    }
}

impl TypeSetPosition {
    fn encode(&self) -> Vec<u8> {
        let id = self.id.as_ref().map_or("", Id::as_str);
        [self.parent.as_str(), "\0", id].concat().into_bytes()
    }

    /// A sealed position is one that was encoded here.
    fn decode(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (parent, id) = text.split_once('\0').unwrap_or(("", ""));
        Self { parent: Parent::parse(parent).unwrap_or_default(), id: Id::parse(id).ok() }
    }
}

/// The parent and the key in an entry of the index.
fn of_entry(entry: &Entry) -> Option<(Parent, Key)> {
    let parent = entry.member.split(|byte| *byte == 0).next()?;
    Some((Parent::parse(std::str::from_utf8(parent).ok()?).ok()?, entry.key()?))
}

/// Records that are read at a time.
const AT_ONCE: usize = 20;
/// How many times a page of a list with `-` does so; a page may be short, even empty (AIP-158).
const BATCHES: usize = 50;
/// Size of a set in a reply besides its descriptors, at most.
const FRAME: usize = 1_024;
