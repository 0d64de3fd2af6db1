//! Counters.

use bytes::Bytes;

use super::harness::{Harness, commit_ok, unconditional};
use crate::store::backend::Store;
use crate::store::key::Partition;
use crate::store::write_set::Counter;

pub(crate) async fn a_counter_adds_up_over_partitions(harness: Harness) {
    let store = &*harness.store;
    let partitions = i64::from(store.keyspace().partitions());
    for partition in store.keyspace().all() {
        add(store, partition, "live", 1).await;
    }
    assert_eq!(store.counter(b"live").await.expect("counter"), partitions);
    add(store, Partition(0), "live", 40).await;
    add(store, Partition(0), "live", -50).await;
    assert_eq!(store.counter(b"live").await.expect("counter"), partitions - 10);
}

pub(crate) async fn a_counter_that_nobody_added_to_is_zero(harness: Harness) {
    let store = &*harness.store;
    add(store, Partition(0), "live", 3).await;
    assert_eq!(store.counter(b"liv").await.expect("counter"), 0);
    assert_eq!(store.counter(b"").await.expect("counter"), 0);
    add(store, Partition(0), "live", -3).await;
    assert_eq!(store.counter(b"live").await.expect("counter"), 0);
    add(store, Partition(0), "live", 0).await;
    assert_eq!(store.counter(b"live").await.expect("counter"), 0);
}

pub(crate) async fn several_changes_of_one_set_all_count(harness: Harness) {
    let store = &*harness.store;
    let binary = Bytes::from_static(b"\0\xff:a\n");
    let mut set = unconditional(Partition(0));
    for change in [5, -2, 4] {
        set.counters.push(Counter { name: binary.clone(), change });
    }
    set.counters.push(Counter { name: "other".into(), change: i64::from(u32::MAX) * 1_000 });
    commit_ok(store, set).await;
    assert_eq!(store.counter(&binary).await.expect("counter"), 7);
    assert_eq!(store.counter(b"other").await.expect("counter"), i64::from(u32::MAX) * 1_000);
}

async fn add(store: &dyn Store, partition: Partition, name: &'static str, change: i64) {
    let mut set = unconditional(partition);
    set.counters.push(Counter { name: name.into(), change });
    commit_ok(store, set).await;
}
