//! Pages of an index that has one entry for each item.

use std::ops::Bound;

use bytes::Bytes;

use crate::engine::access::Caller;
use crate::engine::context::Context;
use crate::engine::error::Result;
use crate::engine::operations::page_token::{self, Binding};
use crate::store::{Entry, Index, Partition, Scan};

/// One list, as far as its pages have it in common.
pub(in crate::engine) struct PagedList {
    /// The index.
    pub(in crate::engine) index: &'static str,
    /// What its entries begin with.
    pub(in crate::engine) prefix: Vec<u8>,
    /// Whether the last ones come first.
    pub(in crate::engine) descending: bool,
    /// What a token is bound to.
    binding: Binding,
    after: Option<Bytes>,
}

impl PagedList {
    /// The list that `parts` tell from others, from the place of `token` on.
    pub(in crate::engine) fn open(
        context: &Context,
        caller: &Caller,
        (index, prefix, descending): (&'static str, Vec<u8>, bool),
        parts: &[&str],
        token: &str,
    ) -> Result<Self> {
        let binding = Binding::of(&[&[caller.id(), index], parts].concat());
        let now = context.store.now(Partition(0));
        let after = match token {
            "" => None,
            token => {
                let position = page_token::open(context.store.keyspace(), &binding, token, now)?;
                Some(Bytes::from(position))
            }
        };
        Ok(Self { index, prefix, descending, binding, after })
    }

    /// The next entries. One more than are wanted tells whether more follow.
    pub(in crate::engine) async fn entries(
        &self,
        context: &Context,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        let scan = Scan::first(Index::new(self.index), limit + 1).with_prefix(&self.prefix);
        let scan = Scan { descending: self.descending, ..scan };
        let scan = match (&self.after, self.descending) {
            (None, _) => scan,
            (Some(after), true) => Scan { to: Bound::Excluded(after.clone()), ..scan },
            (Some(after), false) => Scan { from: Bound::Excluded(after.clone()), ..scan },
        };
        Ok(context.store.scan(scan).await?)
    }

    /// Goes on after an entry.
    pub(in crate::engine) fn pass(&mut self, entry: &Entry) {
        self.after = Some(entry.member.clone());
    }

    /// Goes on after all entries of the parent of an entry.
    pub(in crate::engine) fn pass_parent(&mut self, entry: &Entry) {
        // They begin with the parent and a zero.
        self.after = Some([parent_of(entry), &[1]].concat().into());
    }

    /// The token of the page that begins here.
    pub(in crate::engine) fn token(&self, context: &Context) -> Result<String> {
        let Some(after) = &self.after else { return Ok(String::new()) };
        let now = context.store.now(Partition(0));
        page_token::seal(context.store.keyspace(), &self.binding, after, now)
    }
}

/// The parent in an entry: the bytes before the first zero.
pub(in crate::engine) fn parent_of(entry: &Entry) -> &[u8] {
    entry.member.split(|byte| *byte == 0).next().unwrap_or_default()
}
