//! The changes of a watched set, shared by all its watches: at most one for each operation, the newest.
//!
//! A watch keeps only its place in it, so a slow one costs nothing and skips states. What does not fit is dropped, oldest
//! first; a watch that had not read it must list again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use super::positions::Positions;
use crate::clock::Timestamp;
use crate::engine::reading::view::View;
use crate::limits::MAX_SET_CHANGES;
use crate::operation::name::Name;
use crate::store::Key;

/// A change of a set.
pub(in crate::engine) struct SetChange {
    /// The operation's key.
    pub(in crate::engine) key: Key,
    /// Its name.
    pub(in crate::engine) name: Name,
    /// Its visible revision.
    pub(in crate::engine) revision: u64,
    /// The operation if it is in the set; `None` if it is not, or no longer exists.
    pub(in crate::engine) view: Option<Arc<View>>,
    /// When the change was noticed.
    pub(in crate::engine) time: Timestamp,
    /// How far a watch is that has received it and all earlier ones.
    pub(in crate::engine) mark: Arc<SetMark>,
}

/// How far a watch has come.
pub(in crate::engine) struct SetMark {
    /// Unknown until all partitions have reported their position.
    pub(in crate::engine) positions: Option<Arc<Positions>>,
    /// The token of the first caller that needed one. Others seal their own.
    pub(in crate::engine) sealed: OnceLock<(String, Arc<str>)>,
}

impl SetMark {
    pub(super) fn new(positions: Option<Arc<Positions>>) -> Arc<Self> {
        Arc::new(Self { positions, sealed: OnceLock::new() })
    }
}

/// The log.
#[derive(Default)]
pub(super) struct SetLog {
    entries: BTreeMap<u64, LogEntry>,
    places: HashMap<Key, LogPlaces>,
    /// The place of the last entry.
    head: u64,
    /// Entries up to here may be missing.
    dropped: u64,
    bytes: usize,
}

struct LogEntry {
    change: Arc<SetChange>,
    /// Its place, or in a repetition the place of the state that it repeats.
    since: u64,
    bytes: usize,
}

/// Where the entries of an operation are.
#[derive(Clone, Copy)]
struct LogPlaces {
    state: u64,
    /// The same state was found again. Only watches that joined since then may not know it.
    repetition: Option<u64>,
}

impl SetLog {
    pub(super) const fn head(&self) -> u64 {
        self.head
    }

    /// Adds a change in place of the operation's former one.
    pub(super) fn append(&mut self, change: SetChange, budget: usize) {
        self.head += 1;
        let former = self.places.get(&change.key).copied();
        if let Some(repetition) = former.and_then(|former| former.repetition) {
            self.take(repetition);
        }
        let state = former.map(|former| former.state);
        let same = state.filter(|state| {
            self.entries.get(state).is_some_and(|entry| {
                entry.change.revision == change.revision
                    && entry.change.view.is_some() == change.view.is_some()
            })
        });
        let (places, since) = match (state, same) {
            (_, Some(state)) => {
                let since = self.entries.get(&state).map_or(state, |entry| entry.since);
                (LogPlaces { state, repetition: Some(self.head) }, since)
            }
            (state, None) => {
                state.and_then(|state| self.take(state));
                (LogPlaces { state: self.head, repetition: None }, self.head)
            }
        };
        self.places.insert(change.key, places);
        let bytes = size(&change);
        self.bytes += bytes;
        self.entries.insert(self.head, LogEntry { change: Arc::new(change), since, bytes });
        self.trim(budget);
    }

    /// Drops the oldest entries until the others fit; the newest stays.
    pub(super) fn trim(&mut self, budget: usize) {
        while self.entries.len() > 1
            && (self.entries.len() > MAX_SET_CHANGES || self.bytes > budget)
        {
            let Some(place) = self.entries.keys().next().copied() else { break };
            if let Some(entry) = self.take(place) {
                self.forget(entry.change.key, place);
            }
            self.dropped = place;
        }
    }

    fn forget(&mut self, key: Key, place: u64) {
        let Some(places) = self.places.get_mut(&key) else { return };
        match places.repetition {
            Some(repetition) if places.state == place => {
                *places = LogPlaces { state: repetition, repetition: None };
            }
            Some(repetition) if repetition == place => places.repetition = None,
            _ => drop(self.places.remove(&key)),
        }
    }

    /// Changes are missing: every watch must list again.
    pub(super) fn lose(&mut self) {
        self.head += 1;
        *self = Self { head: self.head, dropped: self.head, ..Self::default() };
    }

    /// Whether a watch at that place has missed changes.
    pub(super) const fn has_lost(&self, place: u64) -> bool {
        place < self.dropped
    }

    /// The next change after a place, with its own place, for a watch that joined at `joined`.
    pub(super) fn next(&self, place: u64, joined: u64) -> Option<(u64, &Arc<SetChange>)> {
        self.entries
            .range(place + 1..)
            .find(|(place, entry)| entry.since == **place || entry.since <= joined)
            .map(|(place, entry)| (*place, &entry.change))
    }

    fn take(&mut self, place: u64) -> Option<LogEntry> {
        let entry = self.entries.remove(&place)?;
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

/// What a change costs in memory, roughly: the operation is kept decoded and encoded.
fn size(change: &SetChange) -> usize {
    use prost::Message;
    let of_view = |view: &Arc<View>| 4 * view.published.encoded_len() + FRAME;
    FRAME + change.view.as_ref().map_or(0, of_view)
}

const FRAME: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: u8, revision: u64) -> SetChange {
        SetChange {
            key: Key::from_bytes([key; 16]),
            name: Name::parse("operations/a").expect("name"),
            revision,
            view: None,
            time: Timestamp::EPOCH,
            mark: SetMark::new(None),
        }
    }

    fn read(log: &SetLog, mut place: u64, joined: u64) -> Vec<(u8, u64)> {
        let mut found = Vec::new();
        while let Some((at, change)) = log.next(place, joined) {
            found.push((change.key.as_bytes()[0], change.revision));
            place = at;
        }
        found
    }

    #[test]
    fn a_slow_reader_skips_states_but_never_the_newest() {
        let mut log = SetLog::default();
        for (key, revision) in [(1, 1), (2, 2), (1, 3), (1, 4)] {
            log.append(change(key, revision), usize::MAX);
        }
        assert_eq!(read(&log, 0, 0), [(2, 2), (1, 4)]);
        assert_eq!(read(&log, 2, 0), [(1, 4)]);
    }

    #[test]
    fn the_same_state_comes_twice_only_for_readers_that_joined_between() {
        let mut log = SetLog::default();
        log.append(change(1, 1), usize::MAX);
        let joined = log.head();
        log.append(change(2, 2), usize::MAX);
        log.append(change(1, 1), usize::MAX);
        assert_eq!(read(&log, 2, 0), [], "it has read both");
        assert_eq!(read(&log, 0, 0), [(1, 1), (2, 2)], "it has read neither");
        assert_eq!(read(&log, 2, joined), [(1, 1)], "it may not know the first");
        log.append(change(1, 1), usize::MAX);
        assert_eq!((read(&log, 2, 0), read(&log, 3, joined)), (vec![], vec![(1, 1)]));
        log.append(change(1, 3), usize::MAX);
        assert_eq!((read(&log, 0, 0), read(&log, 3, joined)), (vec![(2, 2), (1, 3)], vec![(1, 3)]));
        assert_eq!((log.entries.len(), log.places.len()), (2, 2));
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_its_readers_know() {
        let mut log = SetLog::default();
        for key in 0..10 {
            log.append(change(key, 1), 3 * FRAME);
        }
        assert_eq!(read(&log, 7, 0), [(7, 1), (8, 1), (9, 1)]);
        assert!(log.has_lost(6) && !log.has_lost(7));
        log.append(change(1, 2), 1);
        assert_eq!(read(&log, 10, 0), [(1, 2)], "the newest stays");
        let head = log.head();
        log.lose();
        assert!(log.has_lost(head) && !log.has_lost(log.head()));
    }
}
