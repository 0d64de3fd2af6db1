//! Much at once.

use bytes::Bytes;

use super::harness::{Harness, all, commit_ok, create, entry, get, key, members};
use crate::store::key::{BodyKey, Partition};

pub(crate) async fn a_large_body_and_a_large_value_read_back(harness: Harness) {
    let store = &*harness.store;
    let key = key(store, Partition(0), 0);
    // Not a run of one byte: compression would hide a wrong length.
    let large: Bytes = (0_u32..1 << 18)
        .flat_map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect::<Vec<_>>()
        .into();
    assert_eq!(large.len(), 1 << 20);
    let body = BodyKey { record: key, slot: 0, nonce: [1; 8] };
    let mut set = create(store, key, large.slice(..1 << 19));
    set.body_puts.push((body, large.clone()));
    commit_ok(store, set).await;
    assert!(get(store, key).await.expect("record").value == large[..1 << 19]);
    let found = store.bodies(&[body]).await.expect("bodies").remove(0).expect("body");
    assert!(found == large);
}

pub(crate) async fn a_thousand_sets_in_one_call_all_apply(harness: Harness) {
    let store = &*harness.store;
    let keys: Vec<_> =
        (0..1_000).map(|number: u64| store.keyspace().key(&format!("of many {number}"))).collect();
    let sets = keys.iter().map(|key| {
        let mut set = create(store, *key, "one of many");
        set.additions.push(entry("list", key.as_bytes().to_vec()));
        set
    });
    let outcomes = store.commit(sets.collect()).await;
    assert_eq!(outcomes.len(), keys.len());
    let records = store.get(&keys).await.expect("records");
    for (outcome, record) in outcomes.into_iter().zip(records) {
        let revision = outcome.expect("nothing stands against it").revision;
        assert_eq!(record.expect("record").revision, revision);
    }
    assert_eq!(members(store, all("list")).await.len(), keys.len());
}
