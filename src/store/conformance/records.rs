//! Records and bodies.

use bytes::Bytes;

use super::harness::{Harness, commit_ok, create, get, key, replace, unconditional};
use crate::store::backend::Record;
use crate::store::key::{BodyKey, Partition};
use crate::store::write_set::{Check, Mark, WriteSet};

pub(crate) async fn a_record_reads_back_as_it_was_put(harness: Harness) {
    let store = &*harness.store;
    let every_byte: Bytes = (0..=255).collect::<Vec<u8>>().into();
    for (number, value) in [Bytes::new(), "text\r\n".into(), every_byte].into_iter().enumerate() {
        let key = key(store, Partition(0), number);
        assert_eq!(get(store, key).await, None);
        let revision = commit_ok(store, create(store, key, value.clone())).await;
        let wanted = Record { revision, visible_revision: revision, fencing_number: 0, value };
        assert_eq!(get(store, key).await, Some(wanted));
    }
}

pub(crate) async fn stamps_are_made_new_or_kept(harness: Harness) {
    let store = &*harness.store;
    let key = key(store, Partition(0), 0);
    let mut revision = commit_ok(store, create(store, key, "")).await;
    // A script that counts in floating point would round (1 << 53) + 1 and the largest.
    let kept = [0, 1, (1 << 53) + 1, u64::MAX];
    let marks = kept.map(Mark::Keep).into_iter().chain([Mark::New]);
    let pairs: Vec<_> = marks
        .clone()
        .flat_map(|visible| marks.clone().map(move |fencing| (visible, fencing)))
        .collect();
    for (visible, fencing) in pairs {
        let mut set = replace(store, key, revision, "v");
        set.puts[0].visible = visible;
        set.puts[0].fencing = fencing;
        revision = commit_ok(store, set).await;
        let record = get(store, key).await.expect("record");
        assert_eq!(record.revision, revision);
        assert_eq!(record.visible_revision, visible.resolve(revision));
        assert_eq!(record.fencing_number, fencing.resolve(revision));
        assert_eq!(record.value, "v");
    }
}

pub(crate) async fn a_deleted_record_is_gone_and_can_be_made_again(harness: Harness) {
    let store = &*harness.store;
    let key = key(store, Partition(0), 0);
    let first = commit_ok(store, create(store, key, "1")).await;
    let mut delete = WriteSet::new(Partition(0), Check::At(key, first));
    delete.deletes.push(key);
    let deleted = commit_ok(store, delete).await;
    assert_eq!(get(store, key).await, None);
    let again = commit_ok(store, create(store, key, "2")).await;
    assert!(first < deleted && deleted < again);
    assert_eq!(get(store, key).await.expect("record").revision, again);

    let mut absent = unconditional(Partition(0));
    absent.deletes.push(super::harness::key(store, Partition(0), 1));
    commit_ok(store, absent).await;
}

pub(crate) async fn keys_are_answered_in_their_order_over_partitions(harness: Harness) {
    let store = &*harness.store;
    let keys: Vec<_> =
        (0..200).map(|number: u64| store.keyspace().key(&format!("order {number}"))).collect();
    let sets = keys.iter().step_by(2).map(|key| create(store, *key, key.as_bytes().to_vec()));
    for outcome in store.commit(sets.collect()).await {
        outcome.expect("nothing stands against it");
    }
    let wanted: Vec<_> = keys.iter().chain(&keys[..3]).copied().collect();
    let records = store.get(&wanted).await.expect("records");
    assert_eq!(records.len(), wanted.len());
    for (number, (key, record)) in wanted.iter().zip(records).enumerate() {
        let there = (number % 200) % 2 == 0;
        assert_eq!(
            record.map(|record| record.value.to_vec()),
            there.then(|| key.as_bytes().to_vec())
        );
    }
}

pub(crate) async fn keys_come_in_ascending_order_from_where_the_last_call_ended(harness: Harness) {
    let store = &*harness.store;
    let mut wanted: Vec<_> =
        (0..300).map(|number: u64| store.keyspace().key(&format!("listed {number}"))).collect();
    for outcome in store.commit(wanted.iter().map(|key| create(store, *key, "")).collect()).await {
        outcome.expect("nothing stands against it");
    }
    let gone = wanted.pop().expect("the last");
    let mut delete = unconditional(store.keyspace().partition(gone));
    delete.deletes.push(gone);
    delete.body_puts.push((BodyKey { record: gone, slot: 1, nonce: [1; 8] }, "body".into()));
    commit_ok(store, delete).await;
    wanted.sort_unstable();

    let mut found = Vec::new();
    for partition in store.keyspace().all() {
        let mut after = None;
        loop {
            let keys = store.keys(partition, after, 7).await.expect("keys");
            assert!(keys.len() <= 7 && keys.is_sorted(), "{keys:?}");
            assert!(keys.iter().all(|key| store.keyspace().partition(*key) == partition));
            after = keys.last().copied();
            found.extend(keys);
            if after.is_none() {
                break;
            }
        }
    }
    found.sort_unstable();
    assert_eq!(found, wanted);
    assert_eq!(store.keys(Partition(0), None, 0).await.expect("keys"), []);
}

pub(crate) async fn bodies_come_and_go_with_their_own_keys(harness: Harness) {
    let store = &*harness.store;
    let record = key(store, Partition(0), 0);
    let body = |slot, nonce| BodyKey { record, slot, nonce: [nonce; 8] };
    let mut set = unconditional(Partition(0));
    set.body_puts.extend([
        (body(1, 1), "a".into()),
        (body(2, 1), Bytes::new()),
        (body(0xff, 0xff), "c".into()),
    ]);
    commit_ok(store, set).await;
    let asked = [body(0xff, 0xff), body(1, 2), body(1, 1), body(2, 1), body(1, 1)];
    let found = store.bodies(&asked).await.expect("bodies");
    assert_eq!(
        found,
        [Some("c".into()), None, Some("a".into()), Some(Bytes::new()), Some("a".into())]
    );

    let mut set = unconditional(Partition(0));
    set.body_deletes.extend([body(1, 1), body(7, 7)]);
    set.body_puts.push((body(1, 2), "b".into()));
    commit_ok(store, set).await;
    let found = store.bodies(&asked).await.expect("bodies");
    assert_eq!(found, [Some("c".into()), Some("b".into()), None, Some(Bytes::new()), None]);
}

pub(crate) async fn no_keys_no_answers(harness: Harness) {
    let store = &*harness.store;
    assert!(store.get(&[]).await.expect("records").is_empty());
    assert!(store.bodies(&[]).await.expect("bodies").is_empty());
    assert!(store.commit(Vec::new()).await.is_empty());
}
