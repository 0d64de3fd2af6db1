//! A further kind of record, which only tests have, goes through the engine on every store.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;

use super::{caller, name, request};
use crate::clock::Timestamp;
use crate::engine::commands::apply::Commands;
use crate::engine::due::kinds::ComesDue;
use crate::engine::notify::notifier::Notifier;
use crate::engine::transact::{Assumed, Commit, Decision, Ended, Observer, Transaction};
use crate::engine::{Engine, Reaper, Scheduler, Sweep};
use crate::operation::entries::DueClass;
use crate::record::due::{DueIndex, due_member};
use crate::record::sample::{COUNTER, DUE, FAMILY, Sample};
use crate::record::{Also, AnyRecord, Before, Change, Kind};
use crate::store::conformance::Harness;
use crate::store::differential::backends;
use crate::store::{Check, Index, IndexEntry, Key, Mark, Put, Scan, Store, WriteSet};

/// Writes a sample.
struct Write {
    key: Key,
    after: Sample,
}

/// A sample's time has come: it is due again an hour later, and leaves an echo beside it.
struct Ring {
    key: Key,
    before: Option<Before<Sample>>,
}

impl Transaction for Write {
    type Kind = Sample;

    fn key(&self) -> Key {
        self.key
    }

    fn decide(&mut self, _: Option<&Before<Sample>>, _: bool, _: Timestamp) -> Decision<Sample> {
        Decision::Commit(Box::new(Change::of(Some(self.after.clone()))))
    }
}

impl Transaction for Ring {
    type Kind = Sample;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<Sample> {
        self.before.take().map_or(Assumed::Nothing, Assumed::Read)
    }

    fn decide(
        &mut self,
        before: Option<&Before<Sample>>,
        _: bool,
        now: Timestamp,
    ) -> Decision<Sample> {
        let Some(Before { record, .. }) = before.filter(|before| before.record.due <= now) else {
            return Decision::Keep;
        };
        let echo = Sample::new("an echo", now + HOUR);
        let also = vec![Also::create(self.key.beside(1), echo)];
        let after = record.clone().due_at(now + HOUR);
        Decision::Commit(Box::new(Change {
            also,
            not_before: Some(record.due),
            ..Change::of(Some(after))
        }))
    }
}

impl Observer<Sample> for Notifier {
    fn committed(&self, commit: Commit<Sample>) -> Option<Sample> {
        commit.change.main
    }
}

impl ComesDue for Sample {
    async fn come_due(
        commands: &Commands,
        _: &'static DueIndex,
        found: Vec<(Key, Before<Self>)>,
    ) -> usize {
        let ring = |(key, before)| Ring { key, before: Some(before) };
        let mut rings: Vec<Ring> = found.into_iter().map(ring).collect();
        let ends = commands.transactor().transact(&mut rings).await;
        ends.iter().filter(|end| matches!(end, Ended::Written { .. })).count()
    }
}

const HOUR: Duration = Duration::from_hours(1);

/// An engine on an empty store, and a key for a sample.
struct Fixture {
    name: &'static str,
    harness: Harness,
    engine: Engine,
    key: Key,
}

impl Fixture {
    /// One for each store.
    async fn each() -> Vec<Self> {
        let mut all = Vec::new();
        for (name, factory) in backends() {
            let harness = factory().await;
            let engine = Engine::without_agents(harness.store.clone(), harness.clock.clone());
            let key = harness.store.keyspace().key("samples/main");
            all.push(Self { name, harness, engine, key });
        }
        all
    }

    fn store(&self) -> &dyn Store {
        &*self.harness.store
    }

    fn now(&self) -> Timestamp {
        self.store().now(self.engine.rooms.context.partition(self.key))
    }

    async fn write(&self, text: &'static str, due: Timestamp) {
        let mut write = Write { key: self.key, after: Sample::new(text, due) };
        let ended = self.engine.rooms.commands.transactor().transact_one(&mut write).await;
        assert!(matches!(ended, Ended::Written { .. }), "{}", self.name);
    }

    async fn read(&self, key: Key) -> Option<Sample> {
        match self
            .engine
            .rooms
            .reader
            .read_any(&[key])
            .await
            .expect("an answer")
            .remove(0)
            .expect("readable")
        {
            Some(AnyRecord::Sample(before)) => Some(before.record),
            Some(other) => panic!("{}: {other:?}", self.name),
            None => None,
        }
    }

    async fn due(&self) -> Vec<Vec<u8>> {
        let scan = Scan::first(Index::new(DUE), 10);
        let found = self.store().scan(scan).await.expect("entries");
        found.into_iter().map(|entry| entry.member.to_vec()).collect()
    }

    /// Adds an entry by hand.
    async fn add(&self, index: &'static str, member: Vec<u8>, key: Key) {
        let check = Check::TimeAtLeast(Timestamp::EPOCH);
        let mut set = WriteSet::new(self.engine.rooms.context.partition(key), check);
        set.additions.push(IndexEntry { index: Index::new(index), member: member.into() });
        self.store().commit(vec![set]).await.remove(0).expect("added");
    }
}

#[tokio::test]
async fn a_record_of_a_further_kind_comes_due_and_writes_another_beside_it() {
    for fixture in Fixture::each().await {
        let (name, key, echo) = (fixture.name, fixture.key, fixture.key.beside(1));
        let due = fixture.now() + HOUR;
        fixture.write("a long text", due).await;
        assert_eq!(Scheduler.run_once(&fixture.engine).await.expect("a sweep"), Sweep::default());

        fixture.harness.clock.advance(HOUR);
        let swept = Scheduler.run_once(&fixture.engine).await.expect("a sweep");
        assert_eq!(swept, Sweep { due: 1, changed: 1 }, "{name}");
        let [main, beside] = [fixture.read(key).await, fixture.read(echo).await];
        let [main, beside] = [main, beside].map(|record| record.expect("written"));
        assert!(main.due >= due + HOUR && beside.due == main.due, "{name}");
        let mut entries = [due_member(main.due, key), due_member(beside.due, echo)];
        entries.sort_unstable();
        assert_eq!(fixture.due().await, entries, "{name}");
        let bodies = [main.bodies(key), beside.bodies(echo)].concat();
        let found = fixture.store().bodies(&bodies).await.expect("bodies");
        let found: Vec<&[u8]> = found.iter().flatten().map(|body| &body[..]).collect();
        assert_eq!(found, [&b"a long text"[..], b"an echo"], "{name}");
        let names = [Bytes::from_static(COUNTER)];
        let counts = fixture.store().counters(FAMILY, &names).await.expect("a count");
        assert_eq!(counts, [2], "{name}");
        assert_eq!(Scheduler.run_once(&fixture.engine).await.expect("a sweep"), Sweep::default());
    }
}

#[tokio::test]
async fn one_sweep_hands_each_record_to_its_kind() {
    for fixture in Fixture::each().await {
        let mut start = request("a");
        start.spec.options.schedule_time = Some(fixture.now() + HOUR);
        fixture.engine.start_operation(&caller(), start).await.expect("a start");
        fixture.write("note", fixture.now() + HOUR).await;
        fixture.harness.clock.advance(HOUR);
        let swept = Scheduler.run_once(&fixture.engine).await.expect("a sweep");
        assert_eq!(swept, Sweep { due: 2, changed: 2 }, "{}", fixture.name);
        let view = fixture.engine.get(&caller(), &name("a")).await.expect("a view");
        assert!(view.operation.places.ready.is_some(), "{}", fixture.name);
        assert!(fixture.read(fixture.key.beside(1)).await.is_some(), "{}", fixture.name);
    }
}

#[tokio::test]
async fn entries_that_lead_to_another_kind_or_a_newer_one_are_left_alone() {
    for fixture in Fixture::each().await {
        let store = fixture.store();
        // Due, so that it would ring if it were acted on.
        fixture.write("note", fixture.now()).await;
        let before = fixture.read(fixture.key).await;
        let newer = store.keyspace().key("newer");
        let mut set =
            WriteSet::new(fixture.engine.rooms.context.partition(newer), Check::Absent(newer));
        let value = b"\xa2\x7d\x01x".as_slice().into();
        set.puts.push(Put { key: newer, visible: Mark::New, fencing: Mark::Keep(0), value });
        store.commit(vec![set]).await.remove(0).expect("written");
        for key in [fixture.key, newer] {
            let member = due_member(fixture.now(), key);
            fixture.add(DueClass::Lease.index(), member, key).await;
        }

        let swept = Reaper.run_once(&fixture.engine).await.expect("a sweep");
        assert_eq!(swept, Sweep { due: 2, changed: 0 }, "{}", fixture.name);
        let scan = Scan::first(Index::new(DueClass::Lease.index()), 10);
        assert_eq!(store.scan(scan).await.expect("entries").len(), 2, "{}", fixture.name);
        assert_eq!(fixture.read(fixture.key).await, before, "{}", fixture.name);
        assert!(store.get(&[newer]).await.expect("an answer").remove(0).is_some());
    }
}

#[tokio::test]
async fn the_hint_of_a_further_kind_wakes_the_schedulers_of_other_servers() {
    for fixture in Fixture::each().await {
        let store = fixture.harness.store.clone();
        let other = Engine::without_agents(store, fixture.harness.clock.clone());
        // The gap with which a feed may begin wakes it, too.
        while other.rooms.notifier.scheduler_woken().now_or_never().is_some() {}
        fixture.write("note", fixture.now() + HOUR).await;
        tokio::time::timeout(Duration::from_mins(1), other.rooms.notifier.scheduler_woken())
            .await
            .unwrap_or_else(|_| panic!("{}: no hint", fixture.name));
    }
}
