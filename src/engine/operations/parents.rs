//! Finding the parents that have operations.

use std::ops::Bound;

use super::reach::Reach;
use crate::engine::error::Result;
use crate::operation::name::ParentPattern;
use crate::store::{Index, Scan, Store};

/// The first parent after `former` that has entries in one of the indexes by parent, of those that begin as the pattern does.
pub(super) async fn next_parent(
    (store, reach): (&dyn Store, &Reach),
    index: &'static str,
    pattern: &ParentPattern,
    former: Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    let mut scan = Scan::first(Index::new(index), 1).with_prefix(pattern.prefix().as_bytes());
    if let Some(former) = former {
        // Members of `former` begin with it and a zero; the next parent is above all of them.
        scan.from = Bound::Included([&former[..], &[1]].concat().into());
    }
    let first = reach.scan(store, scan).await?;
    Ok(first.first().map(|entry| parent_of(&entry.member).to_vec()))
}

/// The parent in a member of an index by parent: the bytes before the first zero.
pub(super) fn parent_of(member: &[u8]) -> &[u8] {
    member.split(|byte| *byte == 0).next().unwrap_or_default()
}
