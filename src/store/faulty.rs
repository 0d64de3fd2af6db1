//! A store that fails on demand, for tests of the layers above.
//!
//! Wraps any store. Faults come from a queue that a test fills, and, if that is empty, from a seeded plan, so
//! that a failing run can be repeated. The data stays in the wrapped store: a fault hides or refuses, it never invents.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::backend::{Committed, Durability, Record, Store};
use super::error::{CommitError, StoreError};
use super::feed::Feed;
use super::index::{Entry, Scan};
use super::key::{BodyKey, Key, Partition};
use super::keyspace::Keyspace;
use super::write_set::WriteSet;
use crate::clock::Timestamp;

/// Faults for one write set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None: lets one write set pass, to reach a later one.
    None,
    /// It is applied, but its acknowledgement is lost.
    AppliedUnknown,
    /// It is lost on its way, and the caller gets no error before the timeout.
    LostUnknown,
    /// It is refused as if another server had been faster.
    Conflict,
}

/// Where calls hang, as on a disk or a network that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// Reads of records, before they are answered.
    Reads,
    /// Commits, before they are applied.
    Commits,
    /// Commits, applied but not answered.
    Answers,
}

/// How often a seeded plan injects each fault, per thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultPlan {
    /// Where the sequence of faults starts; the same seed gives the same faults for the same calls.
    pub seed: u64,
    /// Write sets that are applied without an acknowledgement.
    pub applied_unknown: u16,
    /// Write sets that are lost without word.
    pub lost_unknown: u16,
    /// Write sets that meet a conflict that is none.
    pub conflicts: u16,
    /// Reads fail as if the store was unavailable.
    pub reads_away: u16,
}

/// The wrapper.
pub struct Faulty {
    inner: Arc<dyn Store>,
    plan: FaultPlan,
    drawn: AtomicU64,
    gets: AtomicU64,
    work: AtomicU64,
    next: Mutex<VecDeque<Fault>>,
    away: AtomicBool,
    lost: Mutex<BTreeSet<Partition>>,
    /// When it was last made to come back.
    returned: Mutex<Timestamp>,
    hints_lost: AtomicBool,
    meanwhile: Mutex<Option<Meanwhile>>,
    hang: watch::Sender<Option<Hang>>,
    hanging: watch::Sender<usize>,
}

/// Called while a commit is on its way.
type Meanwhile = Box<dyn FnOnce() + Send>;

impl Faulty {
    /// Wraps a store; without a planned or queued fault it changes nothing.
    pub fn new(inner: Arc<dyn Store>, plan: FaultPlan) -> Arc<Self> {
        Arc::new(Self {
            inner,
            plan,
            drawn: AtomicU64::new(plan.seed),
            gets: AtomicU64::new(0),
            work: AtomicU64::new(0),
            next: Mutex::default(),
            away: AtomicBool::new(false),
            lost: Mutex::default(),
            returned: Mutex::default(),
            hints_lost: AtomicBool::new(false),
            meanwhile: Mutex::default(),
            hang: watch::Sender::new(None),
            hanging: watch::Sender::new(0),
        })
    }

    /// Queues faults for the next write sets, one each, used before the plan.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// How many queued faults are left.
    pub fn queued(&self) -> usize {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How often records were read.
    pub fn gets(&self) -> u64 {
        self.gets.load(Ordering::SeqCst)
    }

    /// How much the store did: records that were read, entries that were scanned, write sets, and one for each call.
    pub fn work(&self) -> u64 {
        self.work.load(Ordering::SeqCst)
    }

    fn worked(&self, work: usize) {
        self.work.fetch_add(1 + work as u64, Ordering::SeqCst);
    }

    /// Makes the whole store unavailable, or available again: meanwhile nothing is read or applied.
    pub fn set_away(&self, away: bool) {
        if !away {
            *self.returned.lock().unwrap_or_else(PoisonError::into_inner) =
                self.inner.now(Partition(0));
        }
        self.away.store(away, Ordering::SeqCst);
    }

    /// Makes one partition unavailable, or available again.
    pub fn set_lost(&self, partition: Partition, lost: bool) {
        let mut all = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost {
            all.insert(partition)
        } else {
            all.remove(&partition)
        };
    }

    /// Makes commits lose their hints, or keep them again. Lost hints use no sequence number, so that no reader notices.
    pub fn set_hints_lost(&self, lost: bool) {
        self.hints_lost.store(lost, Ordering::SeqCst);
    }

    /// Has something happen while the next commit is on its way, after it was decided and before it is applied.
    pub fn during_next_commit(&self, event: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(event));
    }

    /// Makes calls hang at that point, or lets all go on.
    pub fn set_hang(&self, hang: Option<Hang>) {
        self.hang.send_replace(hang);
    }

    /// Resolves once a call hangs.
    pub async fn hangs(&self) {
        let mut hanging = self.hanging.subscribe();
        // The sender is here as long as this store.
        drop(hanging.wait_for(|calls| *calls > 0).await);
    }

    async fn pass(&self, point: Hang) {
        let mut hang = self.hang.subscribe();
        if *hang.borrow() == Some(point) {
            self.hanging.send_modify(|calls| *calls += 1);
            drop(hang.wait_for(|hang| *hang != Some(point)).await);
            self.hanging.send_modify(|calls| *calls -= 1);
        }
    }

    fn fault(&self) -> Fault {
        let queued = self.next.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        queued.unwrap_or_else(|| {
            let FaultPlan { applied_unknown, lost_unknown, conflicts, .. } = self.plan;
            match self.draw() {
                drawn if drawn < applied_unknown => Fault::AppliedUnknown,
                drawn if drawn < applied_unknown + lost_unknown => Fault::LostUnknown,
                drawn if drawn < applied_unknown + lost_unknown + conflicts => Fault::Conflict,
                _ => Fault::None,
            }
        })
    }

    fn read(&self) -> Result<(), StoreError> {
        if self.is_away() || self.draw() < self.plan.reads_away { Err(away()) } else { Ok(()) }
    }

    /// Fails if one of these partitions is lost.
    fn reach(&self, mut partitions: impl Iterator<Item = Partition>) -> Result<(), StoreError> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if partitions.any(|it| lost.contains(&it)) { Err(away()) } else { Ok(()) }
    }

    fn is_away(&self) -> bool {
        self.away.load(Ordering::SeqCst)
    }

    /// A number below 1,000, by splitmix64.
    fn draw(&self) -> u16 {
        let state = self.drawn.fetch_add(GOLDEN, Ordering::SeqCst).wrapping_add(GOLDEN);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % 1_000) as u16
    }
}

#[async_trait]
impl Store for Faulty {
    fn keyspace(&self) -> &Keyspace {
        self.inner.keyspace()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>, StoreError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.worked(keys.len());
        self.read()?;
        self.reach(keys.iter().map(|key| self.keyspace().partition(*key)))?;
        self.pass(Hang::Reads).await;
        self.inner.get(keys).await
    }

    async fn bodies(&self, keys: &[BodyKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.read()?;
        self.reach(keys.iter().map(|key| self.keyspace().partition_of_body(*key)))?;
        self.inner.bodies(keys).await
    }

    async fn commit(&self, sets: Vec<WriteSet>) -> Vec<Result<Committed, CommitError>> {
        if self.is_away() {
            return vec![Err(away().into()); sets.len()];
        }
        self.worked(sets.len());
        let event = self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(event) = event {
            event();
        }
        self.pass(Hang::Commits).await;
        let fault = |set: &WriteSet| match self.reach([set.partition].into_iter()) {
            Ok(()) => self.fault(),
            Err(_) => Fault::LostUnknown,
        };
        let faults: Vec<Fault> = sets.iter().map(fault).collect();
        let mut passed = Vec::new();
        for (mut set, fault) in sets.into_iter().zip(&faults) {
            if self.hints_lost.load(Ordering::SeqCst) {
                set.hint = None;
            }
            if matches!(fault, Fault::None | Fault::AppliedUnknown) {
                passed.push(set);
            }
        }
        let mut outcomes = self.inner.commit(passed).await.into_iter();
        self.pass(Hang::Answers).await;
        let mut outcome = || outcomes.next().unwrap_or_else(|| Err(away().into()));
        faults
            .into_iter()
            .map(|fault| match fault {
                Fault::None => outcome(),
                Fault::AppliedUnknown => outcome().and_then(|_| Err(away().into())),
                Fault::LostUnknown => Err(away().into()),
                Fault::Conflict => Err(CommitError::Conflict),
            })
            .collect()
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Entry>, StoreError> {
        self.read()?;
        let all = self.keyspace().all();
        self.reach(all.filter(|it| scan.partition.is_none_or(|only| only == *it)))?;
        let entries = self.inner.scan(scan).await?;
        self.worked(entries.len());
        Ok(entries)
    }

    async fn keys(
        &self,
        partition: Partition,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Vec<Key>, StoreError> {
        self.read()?;
        self.inner.keys(partition, after, limit).await
    }
    async fn counters(&self, family: &str, names: &[Bytes]) -> Result<Vec<i64>, StoreError> {
        self.read()?;
        self.inner.counters(family, names).await
    }

    async fn counter_names(&self, family: &str, limit: usize) -> Result<Vec<Bytes>, StoreError> {
        self.read()?;
        self.inner.counter_names(family, limit).await
    }

    fn feed(&self) -> Feed {
        self.inner.feed()
    }

    async fn hint_positions(&self) -> Result<Vec<u64>, StoreError> {
        self.read()?;
        self.inner.hint_positions().await
    }

    fn now(&self, partition: Partition) -> Timestamp {
        self.inner.now(partition)
    }

    fn answering_since(&self, partition: Partition) -> Option<Timestamp> {
        if self.is_away() {
            return None;
        }
        let returned = *self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.answering_since(partition).map(|since| since.max(returned))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        if self.is_away() {
            return Err(away());
        }
        self.inner.ping().await
    }

    fn remark(&self) -> Option<String> {
        self.inner.remark()
    }

    async fn raise_min_writer(&self, format: u32) -> Result<(), StoreError> {
        self.inner.raise_min_writer(format).await
    }

    async fn finish_import(&self) -> Result<(), StoreError> {
        self.inner.finish_import().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Faulty").field("plan", &self.plan).finish_non_exhaustive()
    }
}

fn away() -> StoreError {
    StoreError::Away("a fault that a test injected".to_owned())
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::clock::{ManualClock, SystemClock};
    use crate::store::conformance::{Harness, suite};
    use crate::store::memory::MemoryStore;
    use crate::store::{Check, Event, Mark, Put};

    #[tokio::test]
    async fn a_queued_fault_befalls_one_write_set() {
        let store = store(FaultPlan::default());
        store.inject([Fault::None, Fault::AppliedUnknown, Fault::LostUnknown, Fault::Conflict]);
        let outcomes = store.commit((0..5).map(|number| set(&store, number)).collect()).await;
        assert!(outcomes[0].is_ok());
        assert!(matches!(outcomes[1], Err(CommitError::Unavailable(StoreError::Away(_)))));
        assert!(matches!(outcomes[2], Err(CommitError::Unavailable(StoreError::Away(_)))));
        assert!(matches!(outcomes[3], Err(CommitError::Conflict)));
        assert!(outcomes[4].is_ok());
        assert_eq!(present(&store, 5).await, [true, true, false, false, true]);

        // A real refusal is not covered by an injected fault.
        store.inject([Fault::AppliedUnknown]);
        let outcome = store.commit(vec![set(&store, 0)]).await.remove(0);
        assert!(matches!(outcome, Err(CommitError::Conflict)));
    }

    #[tokio::test]
    async fn a_store_that_is_away_neither_reads_nor_applies() {
        let store = store(FaultPlan::default());
        store.set_away(true);
        assert!(store.get(&[]).await.is_err() && store.ping().await.is_err());
        assert_eq!(store.answering_since(Partition(0)), None);
        assert!(store.commit(vec![set(&store, 0)]).await.remove(0).is_err());
        store.set_away(false);
        assert_eq!(present(&store, 1).await, [false]);
    }

    #[tokio::test]
    async fn lost_hints_are_not_seen_and_gaps_are() {
        let inner = MemoryStore::new(Keyspace::generate(1), SystemClock::new());
        let store = Faulty::new(inner.clone(), FaultPlan::default());
        let mut feed = store.feed();
        store.set_hints_lost(true);
        store.commit(vec![set(&store, 0)]).await.remove(0).expect("applied");
        assert!(feed.next().now_or_never().is_none());
        store.set_hints_lost(false);
        store.commit(vec![set(&store, 1)]).await.remove(0).expect("applied");
        assert!(matches!(feed.next().now_or_never(), Some(Some(Event::Hint(_)))));
        inner.announce_gap();
        assert_eq!(feed.next().await, Some(Event::Gap(vec![Partition(0)])));
    }

    #[tokio::test]
    async fn the_same_seed_gives_the_same_faults() {
        let plan = FaultPlan {
            seed: 7,
            applied_unknown: 200,
            lost_unknown: 200,
            conflicts: 200,
            reads_away: 0,
        };
        let mut runs = Vec::new();
        for seed in [7, 7, 8] {
            let store = store(FaultPlan { seed, ..plan });
            let sets = (0..100).map(|number| set(&store, number)).collect();
            let acknowledged: Vec<bool> =
                store.commit(sets).await.iter().map(Result::is_ok).collect();
            runs.push((acknowledged, present(&store, 100).await));
        }
        assert_eq!(runs[0], runs[1]);
        assert_ne!(runs[0], runs[2]);
        let acknowledged = runs[0].0.iter().filter(|ok| **ok).count();
        let applied = runs[0].1.iter().filter(|there| **there).count();
        assert!(acknowledged < applied && applied < 100, "{acknowledged} of {applied}");
    }

    fn store(plan: FaultPlan) -> Arc<Faulty> {
        Faulty::new(MemoryStore::new(Keyspace::generate(1), SystemClock::new()), plan)
    }

    fn set(store: &Faulty, number: u64) -> WriteSet {
        let key = store.keyspace().key(&number.to_string());
        let mut set = WriteSet::new(Partition(0), Check::Absent(key));
        set.puts.push(Put { key, visible: Mark::New, fencing: Mark::New, value: Bytes::new() });
        set.hint = Some((key, Bytes::new()));
        set
    }

    async fn present(store: &Faulty, count: u64) -> Vec<bool> {
        let keys: Vec<Key> =
            (0..count).map(|number| store.keyspace().key(&number.to_string())).collect();
        store.get(&keys).await.expect("there").iter().map(Option::is_some).collect()
    }

    fn faultless() -> std::future::Ready<Harness> {
        let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
        let inner = MemoryStore::new(Keyspace::generate(4), clock.clone());
        std::future::ready(Harness::new(Faulty::new(inner, FaultPlan::default()), clock, None))
    }

    suite!(faultless);
}
