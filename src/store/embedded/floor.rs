//! From where on an index may hold entries.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

/// Below `position` the index is empty. Scans raise it, additions lower it.
///
/// A scan does not see entries added while it runs, so these limit how far that scan may raise the floor.
#[derive(Debug, Default)]
pub(super) struct Floor {
    position: Bytes,
    looks: BTreeMap<u64, Option<Bytes>>,
    next: u64,
}

/// A scan under way.
#[derive(Debug)]
pub(super) struct Look {
    /// Which one.
    pub(super) number: u64,
    /// Where it has to start.
    pub(super) from: Bytes,
}

impl Floor {
    /// Begins a scan; `None` for one that starts above the floor, since it learns nothing about it.
    pub(super) fn begin(&mut self, from: &Bound<Bytes>) -> Option<Look> {
        let below = match from {
            Bound::Unbounded => true,
            Bound::Included(from) => *from <= self.position,
            Bound::Excluded(from) => *from < self.position,
        };
        below.then(|| {
            let number = self.next;
            self.next += 1;
            self.looks.insert(number, None);
            Look { number, from: self.position.clone() }
        })
    }

    /// An entry was added and is on disk.
    pub(super) fn lower(&mut self, member: &[u8]) {
        if member < &self.position[..] {
            self.position = Bytes::copy_from_slice(member);
        }
        for lowest in self.looks.values_mut() {
            if lowest.as_deref().is_none_or(|lowest| member < lowest) {
                *lowest = Some(Bytes::copy_from_slice(member));
            }
        }
    }

    /// A scan ended without an entry below `reached`; `None` if it failed or had no end.
    pub(super) fn end(&mut self, number: u64, reached: Option<&Bytes>) {
        let added = self.looks.remove(&number).flatten();
        let Some(reached) = reached else { return };
        let reached = added.as_ref().map_or(reached, |added| added.min(reached));
        if *reached > self.position {
            self.position = reached.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_rises_with_scans_and_falls_with_additions() {
        let mut floor = Floor::default();
        let look = floor.begin(&Bound::Unbounded).expect("a scan of everything");
        floor.end(look.number, Some(&Bytes::from_static(b"m")));
        assert_eq!(floor.position, "m");

        let from = Bound::Included(Bytes::from_static(b"n"));
        assert!(floor.begin(&from).is_none(), "starts above the floor");

        let look =
            floor.begin(&Bound::Included(Bytes::from_static(b"a"))).expect("a scan from below");
        assert_eq!(look.from, "m");
        floor.lower(b"p");
        floor.end(look.number, Some(&Bytes::from_static(b"z")));
        assert_eq!(floor.position, "p", "what was added during the scan");

        floor.lower(b"c");
        assert_eq!(floor.position, "c");
        let look = floor.begin(&Bound::Unbounded).expect("a scan of everything");
        floor.end(look.number, None);
        assert_eq!(floor.position, "c", "a failed scan");
        assert!(floor.looks.is_empty());
    }
}
