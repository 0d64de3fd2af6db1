//! Counters.

use bytes::Bytes;

use super::harness::{Harness, commit_ok, count, counted, unconditional};
use crate::store::backend::Store;
use crate::store::key::Partition;
use crate::store::write_set::Counter;

pub(crate) async fn a_counter_adds_up_over_partitions(harness: Harness) {
    let store = &*harness.store;
    let partitions = i64::from(store.keyspace().partitions());
    for partition in store.keyspace().all() {
        add(store, partition, "live", 1).await;
    }
    assert_eq!(counted(store, b"live").await, partitions);
    add(store, Partition(0), "live", 40).await;
    add(store, Partition(0), "live", -50).await;
    assert_eq!(counted(store, b"live").await, partitions - 10);
}

pub(crate) async fn a_counter_that_nobody_added_to_is_zero(harness: Harness) {
    let store = &*harness.store;
    add(store, Partition(0), "live", 3).await;
    assert_eq!(counted(store, b"liv").await, 0);
    assert_eq!(counted(store, b"").await, 0);
    add(store, Partition(0), "live", -3).await;
    assert_eq!(counted(store, b"live").await, 0);
    add(store, Partition(0), "live", 0).await;
    assert_eq!(counted(store, b"live").await, 0);
}

pub(crate) async fn several_changes_of_one_set_all_count(harness: Harness) {
    let store = &*harness.store;
    let mut set = unconditional(Partition(0));
    set.counters.extend([5, -2, 4].map(|change| count(BINARY, change)));
    set.counters.push(count("other", i64::from(u32::MAX) * 1_000));
    set.counters.push(count("less", -(1 << 40)));
    commit_ok(store, set).await;
    assert_eq!(counted(store, BINARY).await, 7);
    assert_eq!(counted(store, b"other").await, i64::from(u32::MAX) * 1_000);
    assert_eq!(counted(store, b"less").await, -(1 << 40));
}

pub(crate) async fn many_sets_of_one_call_add_up(harness: Harness) {
    let store = &*harness.store;
    let partitions = i64::from(store.keyspace().partitions());
    let set = |partition, change| {
        let mut set = unconditional(partition);
        set.counters.extend([count("all", change), count("one", 1), count("one", -1)]);
        set
    };
    let large = (1 << 52) / partitions;
    let sets = store.keyspace().all().flat_map(|partition| {
        [set(partition, large), set(partition, 1), set(partition, -2), set(partition, 3)]
    });
    let outcomes = store.commit(sets.collect()).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(counted(store, b"all").await, (large + 2) * partitions);
    assert_eq!(store.counter_names("test", 9).await.expect("names"), ["all"]);
}

pub(crate) async fn families_keep_their_counters_apart_and_list_their_names(harness: Harness) {
    let store = &*harness.store;
    let counter =
        |family, name: usize, change| Counter { family, name: format!("{name:04}").into(), change };
    let partitions: Vec<Partition> = store.keyspace().all().collect();
    let mut sets: Vec<_> = partitions.iter().map(|partition| unconditional(*partition)).collect();
    for number in 0..600 {
        sets[number % partitions.len()].counters.push(counter("a", number, 1));
    }
    for set in &mut sets {
        set.counters.extend([counter("ab", 7, 10), counter("a", 700, 1)]);
    }
    let outcomes = store.commit(sets).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");

    let share = partitions.len() as i64;
    let names: Vec<Bytes> = [7, 700, 8_888].map(|name| format!("{name:04}").into()).into();
    assert_eq!(store.counters("a", &names).await.expect("counters"), [1, share, 0]);
    assert_eq!(store.counters("ab", &names).await.expect("counters"), [10 * share, 0, 0]);
    assert_eq!(store.counters("b", &names).await.expect("counters"), [0, 0, 0]);
    assert_eq!(store.counters("a", &[]).await.expect("counters"), Vec::<i64>::new());

    let all = (0..600).chain([700]).map(|name| format!("{name:04}"));
    assert_eq!(store.counter_names("a", 601).await.expect("names"), all.collect::<Vec<_>>());
    assert_eq!(store.counter_names("a", 5).await.expect("names").len(), 5);
    assert_eq!(store.counter_names("ab", 5).await.expect("names"), ["0007"]);
    assert_eq!(store.counter_names("b", 5).await.expect("names"), Vec::<Bytes>::new());

    let mut end = unconditional(Partition(0));
    end.counters.push(counter("ab", 7, -10));
    commit_ok(store, end).await;
    let left = store.counter_names("ab", 5).await.expect("names").len();
    assert_eq!(left, usize::from(partitions.len() > 1));
}

async fn add(store: &dyn Store, partition: Partition, name: &'static str, change: i64) {
    let mut set = unconditional(partition);
    set.counters.push(count(name, change));
    commit_ok(store, set).await;
}

const BINARY: &[u8] = b"\0\xff:a\n";
