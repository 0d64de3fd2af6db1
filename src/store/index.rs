//! Ordered indexes: sets of byte strings, each ending in the key of the record that it leads to.

use std::borrow::Cow;
use std::ops::Bound;

use bytes::Bytes;

use super::key::{Key, Partition};

/// The name of an index, for example `list` or `ready/default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(Cow<'static, str>);

impl Index {
    /// An index of that name.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One entry, as a scan returns it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The whole member, in the order of which entries come.
    pub member: Bytes,
    /// The partition.
    pub partition: Partition,
}

impl Entry {
    /// The record that it leads to; `None` for a member that no longhaul wrote.
    pub fn key(&self) -> Option<Key> {
        Key::from_member(&self.member)
    }
}

/// A range of an index to read.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Which index.
    pub index: Index,
    /// Only this partition; all of them, merged, where `None`.
    pub partition: Option<Partition>,
    /// The smallest member.
    pub from: Bound<Bytes>,
    /// The largest member.
    pub to: Bound<Bytes>,
    /// Largest first.
    pub descending: bool,
    /// How many entries at most, over all partitions together.
    pub limit: usize,
}

impl Scan {
    /// The first `limit` entries of the whole index.
    pub fn first(index: Index, limit: usize) -> Self {
        let (from, to) = (Bound::Unbounded, Bound::Unbounded);
        Self { index, partition: None, from, to, descending: false, limit }
    }

    /// Only up to and with `member`.
    #[must_use]
    pub fn up_to(self, member: impl Into<Bytes>) -> Self {
        Self { to: Bound::Included(member.into()), ..self }
    }

    /// Only what comes after everything that begins with `prefix`.
    #[must_use]
    pub fn after_prefix(self, prefix: &[u8]) -> Self {
        let from = end_of_prefix(prefix)
            .map_or(Bound::Excluded(Bytes::from_static(&LAST)), Bound::Included);
        Self { from, ..self }
    }

    /// Only up to and with everything that begins with `prefix`.
    #[must_use]
    pub fn through_prefix(self, prefix: &[u8]) -> Self {
        Self { to: end_of_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded), ..self }
    }

    /// Only in one partition.
    #[must_use]
    pub fn within(self, partition: Partition) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// Only members that begin with `prefix`.
    #[must_use]
    pub fn with_prefix(self, prefix: &[u8]) -> Self {
        let to = end_of_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        Self { from: Bound::Included(Bytes::copy_from_slice(prefix)), to, ..self }
    }

    /// Whether the range contains a member.
    pub fn contains(&self, member: &[u8]) -> bool {
        let above = match &self.from {
            Bound::Included(from) => member >= &from[..],
            Bound::Excluded(from) => member > &from[..],
            Bound::Unbounded => true,
        };
        let below = match &self.to {
            Bound::Included(to) => member <= &to[..],
            Bound::Excluded(to) => member < &to[..],
            Bound::Unbounded => true,
        };
        above && below
    }

    /// Merges the results of the partitions, each in order, into one.
    pub fn merge(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        entries.sort_unstable();
        if self.descending {
            entries.reverse();
        }
        entries.truncate(self.limit);
        entries
    }
}

/// The smallest byte string that is larger than everything that begins with `prefix`.
fn end_of_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

/// Comes after every member that longhaul writes.
static LAST: [u8; 64] = [u8::MAX; 64];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_parts_an_index_in_what_comes_through_it_and_what_comes_after() {
        let scan = || Scan::first(Index::new("ready/q"), 1);
        let member = |bytes: &[u8]| [bytes, &[7; 24]].concat();
        for (prefix, inside, outside) in
            [(&b"ab"[..], &b"ab"[..], &b"ac"[..]), (b"a\xff", b"a\xff", b"b\0")]
        {
            let (through, after) = (scan().through_prefix(prefix), scan().after_prefix(prefix));
            assert!(through.contains(&member(inside)) && !after.contains(&member(inside)));
            assert!(!through.contains(&member(outside)) && after.contains(&member(outside)));
        }
        let last = member(&[u8::MAX; 8]);
        assert!(scan().through_prefix(&[u8::MAX; 8]).contains(&last));
        assert!(!scan().after_prefix(&[u8::MAX; 8]).contains(&last));
    }

    #[test]
    fn entries_lead_to_their_records() {
        let key = Key::from_bytes([7; 16]);
        let member = [&b"prefix\0"[..], key.as_bytes()].concat().into();
        assert_eq!(Entry { member, partition: Partition(0) }.key(), Some(key));
    }

    #[test]
    fn the_end_of_a_prefix_is_above_all_that_begin_with_it() {
        assert_eq!(end_of_prefix(b"ab").as_deref(), Some(&b"ac"[..]));
        assert_eq!(end_of_prefix(b"a\xff").as_deref(), Some(&b"b"[..]));
        assert_eq!(end_of_prefix(b"\xff\xff"), None);
        assert_eq!(end_of_prefix(b""), None);
    }
}
