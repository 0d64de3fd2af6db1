//! The last hints that this server received, and how far back they are complete in each partition.

use std::collections::{HashSet, VecDeque};

use super::positions::{Position, Positions};
use crate::limits::MAX_HINTS_KEPT;
use crate::store::{Hint, Key, Partition};

/// The last hints, oldest first.
pub(super) struct Ring {
    hints: VecDeque<HeardHint>,
    /// The number of the first one, counted since the server started.
    first: u64,
    spans: Vec<Option<Span>>,
}

/// A hint without its note.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeardHint {
    pub(super) partition: Partition,
    pub(super) position: Position,
    pub(super) revision: u64,
    pub(super) key: Key,
}

/// What is known of a partition; nothing after a gap, until its position is read or a hint arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// All hints after this sequence are in the ring.
    floor: u64,
    /// The last one.
    heard: Position,
}

impl Ring {
    pub(super) fn new(partitions: u16) -> Self {
        Self { hints: VecDeque::new(), first: 0, spans: vec![None; usize::from(partitions)] }
    }

    /// The number after the last hint.
    pub(super) fn end(&self) -> u64 {
        self.first + self.hints.len() as u64
    }

    /// Adds a hint; `false` if hints before it are missing.
    pub(super) fn push(&mut self, hint: &Hint) -> bool {
        let (partition, position) = (hint.partition, Position::of(hint));
        let Some(span) = self.spans.get_mut(usize::from(partition.0)) else { return true };
        let known = *span.get_or_insert(before(position.sequence));
        let follows = position.sequence <= known.heard.sequence + 1;
        if !follows {
            *span = Some(before(position.sequence));
        }
        if let Some(span) = span
            && position.sequence > span.heard.sequence
        {
            span.heard = position;
        }
        self.hints.push_back(HeardHint {
            partition,
            position,
            revision: hint.revision,
            key: hint.key,
        });
        if self.hints.len() > MAX_HINTS_KEPT {
            self.drop_oldest();
        }
        follows
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.hints.pop_front() else { return };
        self.first += 1;
        if let Some(Some(span)) = self.spans.get_mut(usize::from(oldest.partition.0)) {
            span.floor = span.floor.max(oldest.position.sequence);
        }
    }

    /// Hints of these partitions may be missing, or the partitions may have gone back.
    pub(super) fn gap(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            if let Some(span) = self.spans.get_mut(usize::from(partition.0)) {
                *span = None;
            }
        }
    }

    /// Whether the position of a partition is unknown.
    pub(super) fn wants_positions(&self) -> bool {
        self.spans.contains(&None)
    }

    /// Takes in positions that were read after the last gap. A hint that has arrived meanwhile is more exact.
    pub(super) fn learn(&mut self, sequences: &[u64]) {
        for (span, sequence) in self.spans.iter_mut().zip(sequences) {
            span.get_or_insert(before(sequence + 1));
        }
    }

    /// The last hint of each partition; `None` while one is unknown.
    pub(super) fn heard(&self) -> Option<Positions> {
        let heard = self.spans.iter().map(|span| span.map(|span| span.heard));
        heard.collect::<Option<Vec<_>>>().map(Positions)
    }

    /// At most `limit` hints from a number on; `None` if some of them are no longer kept.
    pub(super) fn from(&self, number: u64, limit: usize) -> Option<Vec<HeardHint>> {
        let skipped = usize::try_from(number.checked_sub(self.first)?).ok()?;
        Some(self.hints.iter().skip(skipped).take(limit).copied().collect())
    }

    /// The keys of all hints after these positions; `None` if they are not completely known.
    pub(super) fn since(&self, positions: &Positions) -> Option<Vec<Key>> {
        if positions.0.len() != self.spans.len() {
            return None;
        }
        for (span, position) in self.spans.iter().zip(&positions.0) {
            let span = (*span)?;
            let is_kept = (span.floor..=span.heard.sequence).contains(&position.sequence);
            let is_last = position.sequence == span.heard.sequence;
            if !is_kept || (is_last && !position.agrees(span.heard)) {
                return None;
            }
        }
        let (mut keys, mut seen) = (Vec::new(), HashSet::new());
        for hint in &self.hints {
            let position = positions.0[usize::from(hint.partition.0)];
            if hint.position.sequence == position.sequence && !position.agrees(hint.position) {
                return None;
            }
            if hint.position.sequence > position.sequence && seen.insert(hint.key) {
                keys.push(hint.key);
            }
        }
        Some(keys)
    }
}

/// A partition whose next hint has that sequence.
const fn before(sequence: u64) -> Span {
    let floor = sequence.saturating_sub(1);
    Span { floor, heard: Position { sequence: floor, check: 0 } }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn hint(partition: u16, sequence: u64, revision: u64) -> Hint {
        let key = Key::from_bytes([sequence as u8; 16]);
        Hint { partition: Partition(partition), sequence, revision, key, note: Bytes::new() }
    }

    fn positions(sequences: &[u64]) -> Positions {
        Positions(sequences.iter().map(|it| Position { sequence: *it, check: 0 }).collect())
    }

    fn count(ring: &Ring, sequences: &[u64]) -> Option<usize> {
        ring.since(&positions(sequences)).map(|keys| keys.len())
    }

    #[test]
    fn a_position_is_known_from_the_first_hint_or_from_the_store() {
        let mut ring = Ring::new(2);
        assert!(ring.push(&hint(0, 8, 80)));
        assert!(ring.wants_positions() && ring.heard().is_none());
        assert_eq!(count(&ring, &[7, 3]), None);
        ring.learn(&[9, 3]);
        assert!(!ring.wants_positions());
        for (sequences, found) in
            [([7, 3], Some(1)), ([8, 3], Some(0)), ([6, 3], None), ([8, 2], None), ([9, 3], None)]
        {
            assert_eq!(count(&ring, &sequences), found, "{sequences:?}");
        }
    }

    #[test]
    fn a_missing_hint_and_a_gap_make_older_positions_unknown() {
        let mut ring = Ring::new(1);
        assert!(ring.push(&hint(0, 1, 10)));
        assert!(ring.push(&hint(0, 2, 20)));
        assert_eq!(count(&ring, &[0]), Some(2));
        assert!(!ring.push(&hint(0, 4, 40)), "3 is missing");
        assert_eq!((count(&ring, &[2]), count(&ring, &[3])), (None, Some(1)));
        ring.gap(&[Partition(0)]);
        assert_eq!(count(&ring, &[4]), None);
        // The store went back.
        ring.learn(&[2]);
        assert_eq!(count(&ring, &[4]), None);
        assert!(ring.push(&hint(0, 3, 30)));
        assert_eq!(
            count(&ring, &[2]),
            Some(2),
            "one of them from before the gap, which does no harm"
        );
    }

    #[test]
    fn a_position_of_another_history_is_unknown() {
        let mut ring = Ring::new(1);
        for (sequence, revision) in [(1, 10), (2, 20), (3, 30)] {
            ring.push(&hint(0, sequence, revision));
        }
        let at = |sequence, check| ring.since(&Positions(vec![Position { sequence, check }]));
        assert_eq!(at(2, 20).map(|keys| keys.len()), Some(1));
        assert_eq!(at(2, 21), None);
        assert_eq!(at(3, 31), None);
        assert_eq!(ring.since(&positions(&[1, 1])), None, "of another number of partitions");
    }

    #[test]
    fn the_oldest_hints_are_dropped() {
        let mut ring = Ring::new(1);
        let kept = MAX_HINTS_KEPT as u64;
        for sequence in 1..=kept + 10 {
            ring.push(&hint(0, sequence, sequence));
        }
        assert_eq!((count(&ring, &[9]), count(&ring, &[10]).is_some()), (None, true));
        assert!(ring.from(9, 1).is_none());
        assert_eq!(ring.from(10, 5).map(|hints| hints.len()), Some(5));
        assert_eq!(ring.end(), kept + 10);
    }
}
