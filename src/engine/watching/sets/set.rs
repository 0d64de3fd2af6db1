//! One watched set: a parent, a filter, and the changes of what matches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::log::{SetChange, SetLog, SetMark};
use super::positions::Positions;
use crate::clock::Timestamp;
use crate::engine::reading::view::View;
use crate::filter::Filter;
use crate::operation::name::{Name, ParentPattern};
use crate::store::Key;

/// A set that is watched here.
pub(super) struct WatchedSet {
    pub(super) parent: ParentPattern,
    pub(super) filter: Filter,
    state: Mutex<SetState>,
    /// The head of its log.
    pub(super) news: watch::Sender<u64>,
}

pub(super) struct SetState {
    pub(super) log: SetLog,
    /// How far a watch is that has read the whole log.
    pub(super) mark: Arc<SetMark>,
    pub(super) watches: usize,
    known: KnownMembers,
}

/// What the evaluation of an operation has shown.
pub(super) struct Finding {
    pub(super) key: Key,
    pub(super) name: Name,
    pub(super) revision: u64,
    /// When the operation was created; `None` if only its tombstone is left.
    pub(super) create_time: Option<Timestamp>,
    /// The operation, if it matches.
    pub(super) view: Option<Arc<View>>,
    /// Whether no state between this one and the one evaluated before was skipped.
    pub(super) is_exact: bool,
    pub(super) time: Timestamp,
}

/// Which operations are in the set or not, as far as that is known. It tells which of those that do not match may have
/// matched before, so that a watch of few among many does not receive REMOVED for each change of the others.
struct KnownMembers {
    members: HashMap<Key, bool>,
    /// An operation created before this may be a member although it was not evaluated.
    unknown_before: Timestamp,
}

impl KnownMembers {
    fn new(now: Timestamp) -> Self {
        Self { members: HashMap::new(), unknown_before: now + SKEW }
    }

    /// Takes in what was found. Returns whether watches must receive it.
    fn take_in(&mut self, found: &Finding) -> bool {
        let before = self.members.get(&found.key).copied();
        let is_late = found.create_time.is_some_and(|time| time > self.unknown_before);
        let was_out = before == Some(false) || (before.is_none() && is_late);
        if found.view.is_some() || !is_late {
            self.members.insert(found.key, found.view.is_some());
        } else {
            self.members.remove(&found.key);
        }
        if found.create_time.is_none() {
            self.members.remove(&found.key);
        }
        if self.members.len() > MOST_KNOWN {
            *self = Self::new(found.time);
        }
        found.view.is_some() || !was_out || !found.is_exact
    }
}

impl WatchedSet {
    pub(super) fn new(
        parent: ParentPattern,
        filter: Filter,
        positions: Option<Arc<Positions>>,
        now: Timestamp,
    ) -> Arc<Self> {
        let mark = SetMark::new(positions);
        let (log, known) = (SetLog::default(), KnownMembers::new(now));
        let state = Mutex::new(SetState { log, mark, watches: 0, known });
        Arc::new(Self { parent, filter, state, news: watch::Sender::new(0) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a batch of hints has shown; the watches of the set have come so far then.
    pub(super) fn publish(
        &self,
        found: Vec<Finding>,
        positions: Option<Arc<Positions>>,
        budget: usize,
    ) {
        let mut state = self.lock();
        let before = Arc::clone(&state.mark);
        state.mark = SetMark::new(positions);
        let told: Vec<Finding> = found.into_iter().filter(|it| state.known.take_in(it)).collect();
        let count = told.len();
        for (number, found) in told.into_iter().enumerate() {
            let is_last = number + 1 == count;
            let mark = Arc::clone(if is_last { &state.mark } else { &before });
            let Finding { key, name, revision, view, time, .. } = found;
            state.log.append(SetChange { key, name, revision, view, time, mark }, budget);
        }
        let head = state.log.head();
        drop(state);
        self.tell(head);
    }

    /// Changes may be missing: every watch lists again.
    pub(super) fn lose(&self, now: Timestamp) {
        let mut state = self.lock();
        state.log.lose();
        state.mark = SetMark::new(None);
        state.known = KnownMembers::new(now);
        let head = state.log.head();
        drop(state);
        self.tell(head);
    }

    fn tell(&self, head: u64) {
        self.news.send_if_modified(|known| std::mem::replace(known, head) != head);
    }
}

/// The clocks of servers may differ by so much.
const SKEW: Duration = Duration::from_secs(10);
/// Members that are remembered.
const MOST_KNOWN: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn out(create_time: u64, is_exact: bool) -> Finding {
        Finding {
            key: Key::from_bytes([1; 16]),
            name: Name::parse("operations/a").expect("name"),
            revision: 1,
            create_time: Some(Timestamp::from_micros(create_time)),
            view: None,
            is_exact,
            time: Timestamp::EPOCH,
        }
    }

    #[test]
    fn only_what_may_have_been_in_the_set_is_removed_from_it() {
        let (early, late) = (1, 20_000_000);
        let mut known = KnownMembers::new(Timestamp::EPOCH);
        assert!(known.take_in(&out(early, true)), "it may have been listed");
        assert!(!known.take_in(&out(early, true)), "it is known to be out");
        assert!(known.take_in(&out(early, false)), "it may have been in meanwhile");
        let mut known = KnownMembers::new(Timestamp::EPOCH);
        assert!(!known.take_in(&out(late, true)), "it was never in");
        assert!(known.take_in(&out(late, false)), "it may have been in meanwhile");
        known.members.insert(Key::from_bytes([1; 16]), true);
        assert!(known.take_in(&out(late, true)), "it was in");
        assert!(!known.take_in(&out(late, true)), "it was removed already");
    }
}
