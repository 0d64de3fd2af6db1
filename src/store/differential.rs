//! Runs random histories on every backend and on the reference: all results and the final contents must be equal.
//!
//! A backend takes part with one line in [`backends`]. All stores of a run share the wall clock, so that revisions are
//! equal; the keys lie in the partitions of each keyspace. Histories name keys by number and
//! never name partitions, so a backend is compared with a reference of the same partitions and secret.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::backend::Store;
use super::conformance::{Harness, count};
use super::feed::{Event, Hint};
use super::index::{Index, Scan};
use super::key::{BodyKey, Key, Partition};
use super::memory::MemoryStore;
use super::write_set::{Check, IndexEntry, Mark, Put, WriteSet};
use crate::clock::{Clock, Timestamp};

/// A way to an empty store.
pub(crate) type Factory = fn() -> BoxFuture<'static, Harness>;

/// Counts the keys of a store beyond those of an empty one.
pub(crate) type Left = Box<dyn Fn() -> BoxFuture<'static, usize>>;

/// Every store that outlives its process, by name, with a function that counts what is left in it.
pub(crate) async fn emptiable() -> Vec<(&'static str, (Harness, Left))> {
    vec![
        ("embedded", super::embedded::tests::emptiable()),
        ("redis", super::redis::tests::emptiable().await),
    ]
}

/// Every store, by name.
pub(crate) fn backends() -> Vec<(&'static str, Factory)> {
    vec![
        ("memory", || super::memory::tests::fresh(16).boxed()),
        ("embedded", || super::embedded::tests::harness().boxed()),
        ("redis", || super::redis::tests::harness().boxed()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_backend_tells_the_same_story() {
    for (name, factory) in backends() {
        // Seeded, so that a failure repeats in the next run.
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        for round in 0..ROUNDS {
            let history =
                prop::collection::vec(step(), 60).new_tree(&mut runner).expect("a history");
            run(&format!("{name}, round {round}"), factory().await, history.current()).await;
        }
    }
}

/// One step of a history. Numbers name keys, members and so on, few enough to meet again.
#[derive(Clone, Debug)]
enum HistoryStep {
    Commit(Vec<Set>),
    Scan { index: usize, from: Edge, to: Edge, descending: bool, limit: usize },
    Advance(u64),
    Reopen,
}

#[derive(Clone, Debug)]
struct Set {
    checks: Vec<Condition>,
    changes: Vec<Edit>,
    hint: bool,
}

#[derive(Clone, Debug)]
enum Condition {
    /// The record is as it was when the call began, there or not.
    AsItIs(usize),
    At(usize, u64),
    Absent(usize),
    /// Seconds before or after now.
    Time(i64),
}

#[derive(Clone, Debug)]
enum Edit {
    Put(usize, bool, bool, u8),
    Delete(usize),
    PutBody(usize, u8, u8),
    DeleteBody(usize, u8),
    Add(usize, u8),
    Remove(usize, u8),
    Count(usize, i64),
}

type Edge = Option<(u8, bool)>;

fn step() -> impl Strategy<Value = HistoryStep> {
    let edge = || prop::option::of((any::<u8>(), any::<bool>()));
    let scan = (0..INDEXES.len(), edge(), edge(), any::<bool>(), 0..40_usize);
    prop_oneof![
        12 => prop::collection::vec(set(), 1..6).prop_map(HistoryStep::Commit),
        6 => scan.prop_map(|(index, from, to, descending, limit)| HistoryStep::Scan { index, from, to, descending, limit }),
        2 => (0..5_000_000_u64).prop_map(HistoryStep::Advance),
        1 => Just(HistoryStep::Reopen),
    ]
}

fn set() -> impl Strategy<Value = Set> {
    let key = || 0..KEYS;
    let condition = prop_oneof![
        8 => key().prop_map(Condition::AsItIs),
        1 => (key(), any::<u64>()).prop_map(|(key, revision)| Condition::At(key, revision)),
        1 => key().prop_map(Condition::Absent),
        1 => (-10..2_i64).prop_map(Condition::Time),
    ];
    let change = prop_oneof![
        6 => (key(), any::<bool>(), any::<bool>(), any::<u8>()).prop_map(|(key, visible, fencing, value)| Edit::Put(key, visible, fencing, value)),
        2 => key().prop_map(Edit::Delete),
        2 => (key(), 0..3_u8, any::<u8>()).prop_map(|(key, slot, value)| Edit::PutBody(key, slot, value)),
        1 => (key(), 0..3_u8).prop_map(|(key, slot)| Edit::DeleteBody(key, slot)),
        6 => (0..INDEXES.len(), any::<u8>()).prop_map(|(index, member)| Edit::Add(index, member)),
        5 => (0..INDEXES.len(), any::<u8>()).prop_map(|(index, member)| Edit::Remove(index, member)),
        2 => (0..COUNTERS, -3..4_i64).prop_map(|(counter, change)| Edit::Count(counter, change)),
    ];
    let checks = prop::collection::vec(condition, 1..3);
    (checks, prop::collection::vec(change, 0..8), any::<bool>())
        .prop_map(|(checks, changes, hint)| Set { checks, changes, hint })
}

/// The backend, the reference, and what both know.
struct Run {
    place: String,
    harness: Harness,
    reference: Arc<MemoryStore>,
    keys: Vec<Key>,
}

async fn run(place: &str, harness: Harness, history: Vec<HistoryStep>) {
    let reference = MemoryStore::new(harness.store.keyspace().clone(), harness.clock.clone());
    let keys =
        (0..KEYS as u64).map(|number| reference.keyspace().key(&number.to_string())).collect();
    let mut run = Run { place: place.to_owned(), harness, reference, keys };
    for (number, step) in history.into_iter().enumerate() {
        run.place = format!("{place}, step {number}, {step:?}");
        run.step(step).await;
    }
    place.clone_into(&mut run.place);
    run.compare().await;
    run.harness.reopen().await;
    run.compare().await;
}

impl Run {
    async fn step(&mut self, step: HistoryStep) {
        match step {
            HistoryStep::Commit(sets) => self.commit(&sets).await,
            HistoryStep::Advance(micros) => {
                self.harness.clock.advance(Duration::from_micros(micros));
            }
            HistoryStep::Reopen => drop(self.harness.reopen().await),
            HistoryStep::Scan { index, from, to, descending, limit } => {
                let index = Index::new(INDEXES[index]);
                let (from, to) = (bound(from), bound(to));
                let scan = Scan { index, partition: None, from, to, descending, limit };
                self.scan(scan).await;
            }
        }
    }

    async fn commit(&self, sets: &[Set]) {
        let mut feeds = [self.harness.store.feed(), self.reference.feed()];
        let before = self.reference.get(&self.keys).await.expect("records");
        let before: Vec<Option<u64>> =
            before.into_iter().map(|record| record.map(|found| found.revision)).collect();
        let sets: Vec<WriteSet> = sets.iter().map(|set| self.write_set(set, &before)).collect();
        let found = self.harness.store.commit(sets.clone()).await;
        let wanted = self.reference.commit(sets.clone()).await;
        assert_eq!(format!("{found:?}"), format!("{wanted:?}"), "{}", self.place);

        let committed = sets.iter().zip(&wanted).filter(|(_, outcome)| outcome.is_ok());
        let count = committed.filter(|(set, _)| set.hint.is_some()).count();
        let mut hints = [Vec::new(), Vec::new()];
        for (feed, hints) in feeds.iter_mut().zip(&mut hints) {
            while hints.len() < count {
                let Some(Event::Hint(hint)) = feed.next().await else {
                    panic!("no hint: {}", self.place)
                };
                // Where a sequence starts is each store's own affair.
                hints.push(Hint { sequence: 0, ..hint });
            }
            // Between partitions there is no order; within one, revisions rise.
            hints.sort_by_key(|hint| (hint.partition, hint.revision));
        }
        assert_eq!(hints[0], hints[1], "{}", self.place);
    }

    /// All of a set goes to the partition of the first key that it checks.
    fn write_set(&self, set: &Set, before: &[Option<u64>]) -> WriteSet {
        let keyspace = self.reference.keyspace();
        let partition = set.checks.iter().find_map(|check| match check {
            Condition::AsItIs(key) | Condition::At(key, _) | Condition::Absent(key) => {
                Some(keyspace.partition(self.keys[*key]))
            }
            Condition::Time(_) => None,
        });
        let partition = partition.unwrap_or(Partition(0));
        let here =
            |key: &usize| Some(self.keys[*key]).filter(|key| keyspace.partition(*key) == partition);
        let mut written = WriteSet::new(partition, Check::TimeAtLeast(Timestamp::EPOCH));
        for check in &set.checks {
            written.checks.extend(match check {
                Condition::AsItIs(key) => here(key)
                    .map(|name| before[*key].map_or(Check::Absent(name), |at| Check::At(name, at))),
                Condition::At(key, revision) => here(key).map(|key| Check::At(key, *revision)),
                Condition::Absent(key) => here(key).map(Check::Absent),
                Condition::Time(seconds) => Some(Check::TimeAtLeast(self.time(*seconds))),
            });
        }
        for change in &set.changes {
            add_change(&mut written, change, here);
        }
        written.hint = set.hint.then(|| (self.keys[0], "note".into()));
        written
    }

    fn time(&self, seconds: i64) -> Timestamp {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let now = self.harness.clock.now();
        if seconds < 0 { now - distance } else { now + distance }
    }

    async fn scan(&self, scan: Scan) {
        let found = self.harness.store.scan(scan.clone()).await.expect("the store answers");
        let wanted = self.reference.scan(scan.clone()).await.expect("the reference answers");
        assert_eq!(found, wanted, "{scan:?}, {}", self.place);
    }

    /// All that there is.
    async fn compare(&self) {
        let (store, reference) = (&self.harness.store, &self.reference);
        let found = store.get(&self.keys).await.expect("records");
        assert_eq!(found, reference.get(&self.keys).await.expect("records"), "{}", self.place);
        let slots = (0..3).flat_map(|slot| self.keys.iter().map(move |key| body(*key, slot)));
        let bodies: Vec<BodyKey> = slots.collect();
        let found = store.bodies(&bodies).await.expect("bodies");
        assert_eq!(found, reference.bodies(&bodies).await.expect("bodies"), "{}", self.place);
        for partition in reference.keyspace().all() {
            let found = store.keys(partition, None, KEYS).await.expect("keys");
            let wanted = reference.keys(partition, None, KEYS).await.expect("keys");
            assert_eq!(found, wanted, "{}", self.place);
        }
        for index in INDEXES {
            let all = Scan::first(Index::new(index), 100_000);
            self.scan(all.clone()).await;
            self.scan(Scan { descending: true, ..all.clone() }).await;
            for partition in reference.keyspace().all() {
                self.scan(all.clone().within(partition)).await;
            }
        }
        for counter in 0..COUNTERS {
            let names = [Bytes::from(counter.to_string())];
            let found = store.counters("test", &names).await.expect("counter");
            let wanted = reference.counters("test", &names).await.expect("counter");
            assert_eq!(found, wanted, "{}", self.place);
        }
    }
}

/// Removes members of other partitions.
fn add_change(set: &mut WriteSet, change: &Edit, here: impl Fn(&usize) -> Option<Key>) {
    let mark = |new: bool, number: u8| if new { Mark::New } else { Mark::Keep(u64::from(number)) };
    let entry = |index: usize, member: u8| IndexEntry {
        index: Index::new(INDEXES[index]),
        member: self::member(member),
    };
    match change {
        Edit::Put(key, visible, fencing, value) => set.puts.extend(here(key).map(|key| Put {
            key,
            visible: mark(*visible, *value),
            fencing: mark(*fencing, *value),
            value: vec![*value; usize::from(*value)].into(),
        })),
        Edit::Delete(key) => set.deletes.extend(here(key)),
        Edit::PutBody(key, slot, value) => {
            set.body_puts.extend(here(key).map(|key| (body(key, *slot), vec![*value; 9].into())));
        }
        Edit::DeleteBody(key, slot) => {
            set.body_deletes.extend(here(key).map(|key| body(key, *slot)));
        }
        Edit::Add(index, member) => set.additions.push(entry(*index, *member)),
        Edit::Remove(index, member) => set.removals.push(entry(*index, *member)),
        Edit::Count(counter, change) => {
            set.counters.push(count(counter.to_string(), *change));
        }
    }
}

fn body(record: Key, slot: u8) -> BodyKey {
    BodyKey { record, slot, nonce: [slot; 8] }
}

fn bound(edge: Edge) -> Bound<Bytes> {
    match edge {
        None => Bound::Unbounded,
        Some((number, true)) => Bound::Included(member(number)),
        Some((number, false)) => Bound::Excluded(member(number)),
    }
}

/// 32 members of several lengths, among them the bytes that are most often got wrong.
fn member(number: u8) -> Bytes {
    let bytes = [0x00, 0x01, 0x7f, 0xff];
    let length = usize::from(number >> 2) % 8;
    let mut member = vec![bytes[usize::from(number) % 4]; length / 2];
    member.push(bytes[length % 4]);
    member.into()
}

const ROUNDS: usize = 12;
const KEYS: usize = 24;
const COUNTERS: usize = 3;
const INDEXES: [&str; 5] = ["list", "ready/q", "due/lease", "due/retention", "due/tombstone"];
