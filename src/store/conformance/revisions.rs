//! Revisions and the store's time.

use std::time::Duration;

use super::harness::{Harness, commit_ok, create, key, unconditional};
use crate::clock::Clock;

pub(crate) async fn revisions_rise_while_the_clock_stands(harness: Harness) {
    let store = &*harness.store;
    for partition in store.keyspace().all() {
        let mut last = 0;
        for _ in 0..10 {
            let sets = vec![unconditional(partition); 3];
            for outcome in store.commit(sets).await {
                let revision = outcome.expect("nothing stands against it").revision;
                assert!(revision > last, "{revision} after {last}");
                last = revision;
            }
        }
    }
}

pub(crate) async fn a_revision_is_not_before_the_stores_clock(harness: Harness) {
    let store = &*harness.store;
    for (number, partition) in store.keyspace().all().enumerate() {
        harness.clock.advance(Duration::from_hours(1));
        let now = harness.clock.now().as_micros();
        let revision = commit_ok(store, create(store, key(store, partition, number), "")).await;
        assert_eq!(revision, now);
        harness.clock.advance(Duration::from_micros(1));
        let revision = commit_ok(store, unconditional(partition)).await;
        assert_eq!(revision, now + 1);
    }
}

pub(crate) async fn the_stores_clock_never_goes_back(harness: Harness) {
    let store = &*harness.store;
    for partition in store.keyspace().all() {
        let mut last = store.now(partition);
        assert!(last >= harness.clock.now());
        for _ in 0..20 {
            commit_ok(store, unconditional(partition)).await;
            let now = store.now(partition);
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
    }
}
