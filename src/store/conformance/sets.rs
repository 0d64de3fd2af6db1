//! Write sets: each whole, one after the other.

use super::harness::{
    Harness, INDEXES, all, commit_ok, count, counted, create, entry, get, key, members, put,
    replace, unconditional,
};
use crate::store::error::CommitError;
use crate::store::index::Scan;
use crate::store::key::{BodyKey, Partition};
use crate::store::write_set::{Check, WriteSet};

pub(crate) async fn sets_of_one_call_see_the_former(harness: Harness) {
    let store = &*harness.store;
    let key = key(store, Partition(0), 0);
    let mut delete = create(store, super::harness::key(store, Partition(0), 1), "after");
    delete.checks.push(Check::Absent(key));
    let mut two = unconditional(Partition(0));
    two.counters.push(count("n", 2));
    let outcomes = store
        .commit(vec![
            create(store, key, "1"),
            create(store, key, "2"),
            delete.clone(),
            two.clone(),
            two,
        ])
        .await;
    assert!(outcomes[0].is_ok());
    assert!(matches!(outcomes[1], Err(CommitError::Conflict)), "the record is there by now");
    assert!(matches!(outcomes[2], Err(CommitError::Conflict)), "the record is there by now");
    assert_eq!(counted(store, b"n").await, 4);

    let revision = get(store, key).await.expect("record").revision;
    let mut remove = WriteSet::new(Partition(0), Check::At(key, revision));
    remove.deletes.push(key);
    let replaced = replace(store, key, revision, "3");
    let outcomes = store.commit(vec![remove, replaced, create(store, key, "4"), delete]).await;
    assert!(matches!(outcomes[1], Err(CommitError::Conflict)), "the record is gone by now");
    assert!(matches!(outcomes[3], Err(CommitError::Conflict)), "the record is back by now");
    let created = outcomes[2].as_ref().expect("nothing stands against it").revision;
    let record = get(store, key).await.expect("record");
    assert_eq!((record.revision, &record.value[..]), (created, &b"4"[..]));
}

pub(crate) async fn a_failing_set_leaves_the_others_of_its_call_alone(harness: Harness) {
    let store = &*harness.store;
    let keys: Vec<_> = (0..9).map(|number| key(store, Partition(0), number)).collect();
    commit_ok(store, create(store, keys[4], "there")).await;
    let mut sets: Vec<_> = keys.iter().map(|key| create(store, *key, "new")).collect();
    for set in &mut sets {
        set.additions.push(entry("list", set.puts[0].key.as_bytes().to_vec()));
    }
    sets[7].checks.push(Check::TimeAtLeast(crate::clock::Timestamp::MAX));
    let outcomes = store.commit(sets).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        match number {
            4 => assert!(matches!(outcome, Err(CommitError::Conflict))),
            7 => assert!(matches!(outcome, Err(CommitError::Early))),
            _ => assert!(outcome.is_ok(), "{outcome:?}"),
        }
    }
    let records = store.get(&keys).await.expect("records");
    assert!(records.iter().enumerate().all(|(number, record)| record.is_some() == (number != 7)));
    assert_eq!(members(store, all("list")).await.len(), 7);
}

pub(crate) async fn removals_come_before_puts_and_additions(harness: Harness) {
    let store = &*harness.store;
    let key = key(store, Partition(0), 0);
    let body = BodyKey { record: key, slot: 0, nonce: [0; 8] };
    let revision = commit_ok(store, create(store, key, "1")).await;
    let mut set = WriteSet::new(Partition(0), Check::At(key, revision));
    set.deletes.push(key);
    set.puts.push(put(key, "2"));
    set.body_deletes.push(body);
    set.body_puts.push((body, "2".into()));
    for index in INDEXES {
        set.removals.push(entry(index, "member"));
        set.additions.push(entry(index, "member"));
    }
    let revision = commit_ok(store, set).await;
    let record = get(store, key).await.expect("deleted, then put");
    assert_eq!((record.revision, &record.value[..]), (revision, &b"2"[..]));
    assert_eq!(store.bodies(&[body]).await.expect("bodies"), [Some("2".into())]);
    for index in INDEXES {
        assert_eq!(members(store, all(index)).await, ["member"], "{index}");
    }
}

pub(crate) async fn a_set_is_applied_whole(harness: Harness) {
    let store = &*harness.store;
    for partition in store.keyspace().all() {
        let keys: Vec<_> = (0..3).map(|number| key(store, partition, number)).collect();
        let mut set = create(store, keys[0], "0");
        set.puts.extend([put(keys[1], "1"), put(keys[2], "2")]);
        let bodies = keys
            .iter()
            .map(|key| BodyKey { record: *key, slot: 1, nonce: [4; 8] })
            .collect::<Vec<_>>();
        set.body_puts.extend(bodies.iter().map(|body| (*body, "body".into())));
        set.additions.extend(INDEXES.map(|index| entry(index, keys[0].as_bytes().to_vec())));
        set.counters.push(count("whole", 1));
        let revision = commit_ok(store, set).await;

        let records = store.get(&keys).await.expect("records");
        assert!(records.iter().flatten().all(|record| record.revision == revision));
        assert_eq!(records.iter().flatten().count(), 3, "all carry the revision of their commit");
        assert!(store.bodies(&bodies).await.expect("bodies").iter().all(Option::is_some));
        for index in INDEXES {
            let found =
                store.scan(Scan { limit: 9, ..all(index).within(partition) }).await.expect("scan");
            assert_eq!(
                found.iter().map(crate::store::index::Entry::key).collect::<Vec<_>>(),
                [Some(keys[0])]
            );
        }
    }
    let partitions = i64::from(store.keyspace().partitions());
    assert_eq!(counted(store, b"whole").await, partitions);
}
