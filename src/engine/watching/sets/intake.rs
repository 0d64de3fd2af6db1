//! All watched sets of a server. Takes in hints, reads what has changed, and evaluates each filter once for all its watches.
//!
//! A set is evaluated in the order of the hints. So how far a watch has come is known in the hints of each partition, which is
//! the same on every server: a watch that resumes elsewhere receives what was hinted since. Where hints are missing, every
//! watch lists again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::evaluator::{Changed, Evaluator, PAUSE};
use super::log::{SetChange, SetMark};
use super::positions::{Position, Positions};
use super::ring::Ring;
use super::set::{Finding, WatchedSet};
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::reading::reader::Reader;
use crate::filter::Filter;
use crate::limits::{MAX_ALL_SET_BYTES, MAX_SET_BYTES, MAX_WATCHED_SETS, SNAPSHOT_READS_AT_ONCE};
use crate::operation::name::ParentPattern;
use crate::store::{Hint, Key, Partition};

/// The watched sets.
pub(in crate::engine) struct Sets {
    pub(super) context: Arc<Context>,
    evaluator: Evaluator,
    intake: Mutex<Intake>,
    /// Commits of this server that wait for their hint, and hints that wait for their commit to be noted.
    awaited: Mutex<HashMap<Key, Awaited>>,
    wake: Notify,
    /// Whether there are any.
    watched: AtomicBool,
    /// Permits to read a page of a snapshot.
    pub(in crate::engine) pages: Semaphore,
}

struct Intake {
    ring: Ring,
    /// The number of the first hint that was not evaluated.
    next: u64,
    /// The last evaluated hint of each partition.
    reached: Option<Arc<Positions>>,
    sets: HashMap<SetPlace, Arc<WatchedSet>>,
    /// How often all watches had to list again.
    losses: u64,
}

/// What tells sets apart.
#[derive(PartialEq, Eq, Hash)]
struct SetPlace {
    parent: String,
    filter: String,
    /// [`Registry::identity`](crate::types::Registry::identity) of the types of the filter: types may change while a set is watched.
    types: usize,
}

/// One half of a commit and its hint.
#[derive(Clone, Copy)]
struct Awaited {
    revision: u64,
    at: Duration,
    /// This is the hint.
    is_hint: bool,
}

/// Hints to evaluate.
struct HintBatch {
    changed: Vec<Changed>,
    sets: Vec<Arc<WatchedSet>>,
    reached: Option<Arc<Positions>>,
    losses: u64,
}

impl Sets {
    pub(in crate::engine) fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        let intake = Intake {
            ring: Ring::new(context.store.keyspace().partitions()),
            next: 0,
            reached: None,
            sets: HashMap::new(),
            losses: 0,
        };
        Self {
            evaluator: Evaluator::new(context.clone(), reader),
            context,
            intake: Mutex::new(intake),
            awaited: Mutex::default(),
            wake: Notify::new(),
            watched: AtomicBool::new(false),
            pages: Semaphore::new(SNAPSHOT_READS_AT_ONCE),
        }
    }

    /// Takes in a hint.
    pub(in crate::engine) fn hint(&self, hint: &Hint) {
        let mut intake = self.lock();
        if !intake.ring.push(hint) {
            self.lose(&mut intake);
        }
        drop(intake);
        if !self.watched.load(Ordering::Acquire) {
            return;
        }
        self.pair(hint.key, hint.revision, true);
        self.wake.notify_one();
    }

    /// Notes a visible commit of this server: if its hint is lost without a trace, it is evaluated all the same.
    pub(in crate::engine) fn written(&self, key: Key, revision: u64) {
        if self.watched.load(Ordering::Acquire) && self.pair(key, revision, false) {
            self.wake.notify_one();
        }
    }

    /// Takes in a hint or a commit, and forgets both if the other one was there. Returns whether it is the only one that waits.
    fn pair(&self, key: Key, revision: u64, is_hint: bool) -> bool {
        let at = self.context.clock.elapsed();
        let mut awaited = lock(&self.awaited);
        let other = awaited.get(&key).filter(|other| other.is_hint != is_hint).copied();
        let (hint, commit) = match other {
            Some(other) if is_hint => (revision, other.revision),
            Some(other) => (other.revision, revision),
            None => (0, revision),
        };
        let is_older_hint = is_hint && other.is_some();
        if other.is_some() && hint >= commit {
            awaited.remove(&key);
        } else if !is_older_hint && awaited.len() < MOST_AWAITED {
            awaited.insert(key, Awaited { revision, at, is_hint });
        }
        awaited.len() == 1
    }

    /// Hints of these partitions may be missing, or the partitions may have gone back.
    pub(in crate::engine) fn gap(&self, partitions: &[Partition]) {
        let mut intake = self.lock();
        intake.ring.gap(partitions);
        self.lose(&mut intake);
    }

    fn lose(&self, intake: &mut Intake) {
        intake.losses += 1;
        intake.reached = None;
        intake.next = intake.ring.end();
        lock(&self.awaited).clear();
        let now = self.context.store.now(Partition(0));
        intake.sets.values().for_each(|set| set.lose(now));
        self.wake.notify_one();
    }

    /// A set with one more watch, and the head of its log.
    pub(super) fn enter(
        &self,
        parent: &ParentPattern,
        filter: &Filter,
    ) -> Result<(Arc<WatchedSet>, u64)> {
        let mut intake = self.lock();
        if intake.sets.is_empty() {
            // What was hinted before needs no evaluation.
            intake.next = intake.ring.end();
            intake.reached = intake.ring.heard().map(Arc::new);
        }
        let place = SetPlace {
            parent: parent.as_str().to_owned(),
            filter: filter.canonical().to_owned(),
            types: filter.types().identity(),
        };
        let is_new = !intake.sets.contains_key(&place);
        if is_new && intake.sets.len() >= MAX_WATCHED_SETS {
            let text = format!(
                "this server watches {MAX_WATCHED_SETS} different pairs of parent and filter already; use one that is watched, or try later"
            );
            return Err(Error::new(Reason::Overloaded, text).retry_after(FULL_PAUSE));
        }
        let now = self.context.store.now(Partition(0));
        let reached = intake.reached.clone();
        let new = || WatchedSet::new(parent.clone(), filter.clone(), reached, now);
        let set = Arc::clone(intake.sets.entry(place).or_insert_with(new));
        if is_new {
            let budget = budget(intake.sets.len());
            intake.sets.values().for_each(|set| set.lock().log.trim(budget));
        }
        self.watched.store(true, Ordering::Release);
        let mut state = set.lock();
        state.watches += 1;
        let head = state.log.head();
        drop(state);
        Ok((set, head))
    }

    pub(super) fn leave(&self, set: &Arc<WatchedSet>) {
        let mut intake = self.lock();
        let mut state = set.lock();
        state.watches -= 1;
        let is_last = state.watches == 0;
        drop(state);
        if is_last {
            intake.sets.retain(|_, other| !Arc::ptr_eq(other, set));
        }
        if intake.sets.is_empty() {
            self.watched.store(false, Ordering::Release);
            lock(&self.awaited).clear();
        }
    }

    /// The operations that were hinted after these positions; `None` if that is no longer known.
    pub(in crate::engine) fn since(&self, positions: &Positions) -> Option<Vec<Key>> {
        self.lock().ring.since(positions)
    }

    /// The present states of these operations for a watch that resumes: those of other parents are left out.
    pub(super) async fn replay(&self, set: &WatchedSet, keys: &[Key]) -> Result<Vec<SetChange>> {
        let changed: Vec<Changed> =
            keys.iter().map(|key| Changed { key: *key, revision: 0, is_single: false }).collect();
        let mut changes = Vec::new();
        for mut sight in self.evaluator.look(&changed).await? {
            if !set.parent.matches(sight.name.parent()) {
                continue;
            }
            let found = self.evaluator.evaluate(&set.filter, &mut sight).await?;
            let Finding { key, name, revision, view, time, .. } = found;
            let mark = Arc::clone(&set.lock().mark);
            changes.push(SetChange { key, name, revision, view, time, mark });
        }
        Ok(changes)
    }

    /// Evaluates hints until the engine is dropped.
    pub(in crate::engine) async fn run(self: Arc<Self>) {
        loop {
            self.learn().await;
            while let Some(batch) = self.take() {
                self.work(batch).await;
                tokio::task::yield_now().await;
            }
            let waits = !lock(&self.awaited).is_empty();
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.context.sleep(LOOK_INTERVAL), if waits => {}
            }
        }
    }

    /// Finds out how far the hints of each partition are, after the start and after each gap.
    async fn learn(&self) {
        while self.lock().wants_positions() {
            match self.context.store.hint_positions().await {
                Ok(sequences) => self.lock().learn(&sequences),
                Err(error) => {
                    tracing::debug!(%error, "cannot read the positions of hints; trying again");
                    self.context.sleep(PAUSE).await;
                }
            }
        }
    }

    fn take(&self) -> Option<HintBatch> {
        let mut intake = self.lock();
        let end = intake.ring.end();
        if intake.sets.is_empty() {
            intake.next = end;
            return None;
        }
        let at_once = (EVALUATIONS_AT_ONCE / intake.sets.len()).clamp(1, HINTS_AT_ONCE);
        let Some(hints) = intake.ring.from(intake.next, at_once) else {
            self.lose(&mut intake);
            return None;
        };
        let mut changed: Vec<Changed> = Vec::new();
        let mut places: HashMap<Key, usize> = HashMap::new();
        let mut reached = intake.reached.as_deref().cloned();
        for hint in &hints {
            if let Some(Positions(reached)) = &mut reached {
                let position = &mut reached[usize::from(hint.partition.0)];
                if position.sequence < hint.position.sequence {
                    *position = hint.position;
                }
            }
            let place = *places.entry(hint.key).or_insert(changed.len());
            let (key, revision) = (hint.key, hint.revision);
            match changed.get_mut(place) {
                Some(known) => *known = Changed { key, revision, is_single: false },
                None => changed.push(Changed { key, revision, is_single: true }),
            }
        }
        intake.next += hints.len() as u64;
        changed.extend(self.overdue());
        if changed.is_empty() {
            return None;
        }
        let sets = intake.sets.values().cloned().collect();
        Some(HintBatch { changed, sets, reached: reached.map(Arc::new), losses: intake.losses })
    }

    /// Commits of this server whose hint must have been lost.
    fn overdue(&self) -> Vec<Changed> {
        let now = self.context.clock.elapsed();
        let mut awaited = lock(&self.awaited);
        awaited
            .extract_if(|_, it| now.saturating_sub(it.at) >= HINT_PATIENCE)
            .filter(|(_, it)| !it.is_hint)
            .map(|(key, it)| Changed { key, revision: it.revision, is_single: false })
            .collect()
    }

    async fn work(&self, batch: HintBatch) {
        let mut found: Vec<Vec<Finding>> = batch.sets.iter().map(|_| Vec::new()).collect();
        let mut sights = self.evaluator.look_until_read(&batch.changed).await;
        for sight in &mut sights {
            for (set, found) in batch.sets.iter().zip(&mut found) {
                if set.parent.matches(sight.name.parent()) {
                    found.push(self.evaluator.evaluate_until_read(&set.filter, sight).await);
                }
            }
            tokio::task::yield_now().await;
        }
        let mut intake = self.lock();
        // What was read before a loss may be wrong, and every watch lists again.
        if intake.losses != batch.losses {
            return;
        }
        intake.reached.clone_from(&batch.reached);
        let budget = budget(batch.sets.len());
        for (set, found) in batch.sets.iter().zip(found) {
            set.publish(found, batch.reached.clone(), budget);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Intake> {
        lock(&self.intake)
    }
}

impl Intake {
    fn wants_positions(&self) -> bool {
        self.ring.wants_positions() || self.reached.is_none()
    }

    /// Takes in positions that were read after the last gap.
    fn learn(&mut self, sequences: &[u64]) {
        self.ring.learn(sequences);
        if self.reached.is_some() {
            return;
        }
        let Some(Positions(mut reached)) = self.ring.heard() else { return };
        // Hints that wait to be evaluated do not count.
        for hint in self.ring.from(self.next, usize::MAX).unwrap_or_default() {
            let position = &mut reached[usize::from(hint.partition.0)];
            if position.sequence >= hint.position.sequence {
                let sequence = hint.position.sequence.saturating_sub(1);
                *position = Position { sequence, check: 0 };
            }
        }
        let reached = Arc::new(Positions(reached));
        for set in self.sets.values() {
            set.lock().mark = SetMark::new(Some(Arc::clone(&reached)));
        }
        self.reached = Some(reached);
    }
}

/// The bytes of changes that each of so many sets may keep.
fn budget(sets: usize) -> usize {
    (MAX_ALL_SET_BYTES / sets.max(1)).min(MAX_SET_BYTES)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Before another try to watch a further set.
const FULL_PAUSE: Duration = Duration::from_secs(5);
/// Hints that are evaluated together.
const HINTS_AT_ONCE: usize = 128;
/// Evaluations of hints by sets that are made together.
const EVALUATIONS_AT_ONCE: usize = 8_192;
/// A hint of this server's own commit arrives sooner, or is lost.
const HINT_PATIENCE: Duration = Duration::from_millis(500);
/// How often lost hints are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(400);
/// Commits and hints that may wait for each other. Where there are more, hints are not lost but late.
const MOST_AWAITED: usize = 16_384;
