//! What every further kind of record can rely on.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::{COUNTER, DUE, FAMILY, Sample, Text};
use crate::clock::{ManualClock, Timestamp};
use crate::operation::Record as Operation;
use crate::record::{Also, AnyRecord, Before, Change, Kind, read, write_set};
use crate::store::memory::MemoryStore;
use crate::store::{CommitError, Index, Key, Keyspace, Record as Stored, Scan, Store, StoreError};

/// A stored record of an unknown kind.
#[derive(Clone, PartialEq, Message)]
struct Newer {
    #[prost(bytes = "vec", optional, tag = "2000")]
    kind: Option<Vec<u8>>,
}

#[test]
fn records_beside_another_lie_in_its_partition() {
    let keyspace = Keyspace::generate(48);
    for number in 0..100 {
        let main = keyspace.key(&format!("operations/{number}"));
        let beside: Vec<Key> = (0..4).map(|number| main.beside(number)).collect();
        assert!(beside.iter().all(|key| keyspace.partition(*key) == keyspace.partition(main)));
        let mut all = [&[main], &beside[..]].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5, "each has a key of its own");
    }
}

#[test]
fn whatever_becomes_of_records_and_those_beside_them_nothing_else_is_stored() {
    // For each step: the text and due time of the main record, and of the one beside it; `None` deletes.
    let sample = || proptest::option::of((0_usize..9, 1_u64..50));
    let steps = proptest::collection::vec((sample(), sample()), 1..30);
    proptest!(ProptestConfig { failure_persistence: None, ..<_>::default() }, |(steps in steps)| {
        let fixture = Fixture::new();
        for (main, beside) in steps {
            fixture.write(main.map(sample_of), beside.map(sample_of));
            fixture.compare();
        }
    });
}

#[test]
fn a_change_is_refused_whole_if_a_record_beside_has_changed() {
    let fixture = Fixture::new();
    fixture.write(Some(sample_of((1, 1))), Some(sample_of((2, 2))));
    let stale = fixture.read(fixture.beside);
    fixture.write(None, Some(sample_of((3, 3))));

    let also = Also::replace(fixture.beside, stale.expect("written"), Some(sample_of((9, 9))));
    let change = Change { also: vec![also], ..Change::of(Some(sample_of((8, 8)))) };
    let refused = fixture.commit(None, &change);
    assert!(matches!(refused, Err(CommitError::Conflict)), "{refused:?}");
    assert_eq!(fixture.read(fixture.main), None);
    fixture.compare();

    let change = Change {
        also: vec![Also::create(fixture.beside, sample_of((9, 9)))],
        ..Change::of(Some(sample_of((8, 8))))
    };
    assert!(matches!(fixture.commit(None, &change), Err(CommitError::Conflict)));
}

#[test]
fn a_kind_of_a_newer_version_is_not_taken_for_damage() {
    let fixture = Fixture::new();
    fixture.write(Some(sample_of((1, 1))), None);
    let found = now(fixture.store.get(&[fixture.main])).expect("open").remove(0).expect("written");
    assert!(read::<Sample>(&found).is_ok());
    assert!(matches!(read::<Operation>(&found), Err(StoreError::Damaged(_))), "a known kind");

    let (keyspace, main) = (fixture.store.keyspace(), fixture.main);
    let newer = Stored { value: Newer { kind: Some(vec![7; 9]) }.encode_to_vec().into(), ..found };
    assert!(matches!(read::<Operation>(&newer), Err(StoreError::Newer(_))));
    assert!(matches!(AnyRecord::read_at(keyspace, main, &newer), Err(StoreError::Newer(_))));
    for value in [&b"\xff\xff"[..], b"", &newer.value[..5]] {
        let damaged = Stored { value: Bytes::copy_from_slice(value), ..newer.clone() };
        assert!(matches!(read::<Operation>(&damaged), Err(StoreError::Damaged(_))));
        let any = AnyRecord::read_at(keyspace, main, &damaged);
        assert!(matches!(any, Err(StoreError::Damaged(_))), "{any:?}");
    }
}

fn sample_of((length, due): (usize, u64)) -> Sample {
    let text = Text::Here(vec![b'x'; length].into());
    Sample { text, due: Timestamp::from_micros(due) }
}

/// A store with one record and one beside it.
struct Fixture {
    store: Arc<MemoryStore>,
    main: Key,
    beside: Key,
}

impl Fixture {
    fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
        let store = MemoryStore::new(Keyspace::generate(4), clock);
        let main = store.keyspace().key("samples/main");
        Self { store, main, beside: main.beside(1) }
    }

    fn read(&self, key: Key) -> Option<Before<Sample>> {
        let found = now(self.store.get(&[key])).expect("open").remove(0);
        found.map(|found| read(&found).expect("a sample"))
    }

    fn commit(
        &self,
        before: Option<&Before<Sample>>,
        change: &Change<Sample>,
    ) -> Result<(), CommitError> {
        let set = write_set(self.store.keyspace(), self.main, before, change);
        now(self.store.commit(vec![set])).remove(0).map(drop)
    }

    fn write(&self, main: Option<Sample>, beside: Option<Sample>) {
        let before = self.read(self.main);
        let also = match (self.read(self.beside), beside) {
            (Some(before), after) => Some(Also::replace(self.beside, before, after)),
            (None, Some(after)) => Some(Also::create(self.beside, after)),
            (None, None) => None,
        };
        // A change from no record to no record has nothing to check.
        if before.is_some() || main.is_some() {
            let also = also.into_iter().collect();
            let change = Change { also, ..Change::of(main) };
            self.commit(before.as_ref(), &change).expect("decided on the newest");
        }
    }

    /// Entries, bodies and counts are those of the records that are there.
    fn compare(&self) {
        let (mut entries, mut bodies, mut count) = (Vec::new(), Vec::new(), 0);
        for key in [self.main, self.beside] {
            let Some(Before { record, .. }) = self.read(key) else { continue };
            entries.extend(record.entries(key).into_iter().map(|entry| entry.member));
            bodies.extend(record.bodies(key));
            count += 1;
        }
        entries.sort_unstable();
        let scan = Scan::first(Index::new(DUE), 10);
        let found = now(self.store.scan(scan)).expect("open");
        assert_eq!(found.into_iter().map(|entry| entry.member).collect::<Vec<_>>(), entries);
        let names = [Bytes::from_static(COUNTER)];
        assert_eq!(now(self.store.counters(FAMILY, &names)).expect("open"), [count]);
        assert!(now(self.store.bodies(&bodies)).expect("open").iter().all(Option::is_some));
    }
}

/// The memory store never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("at once")
}
