//! Closing and opening again.

use std::time::Duration;

use super::feed::next;
use super::harness::{
    Harness, INDEXES, all, commit, commit_ok, count, counted, create, entry, get, key, members,
    replace, unconditional,
};
use crate::clock::Clock;
use crate::store::error::{CommitError, StoreError};
use crate::store::key::{BodyKey, Partition};

pub(crate) async fn a_closed_store_answers_nothing(harness: Harness) {
    let store = &*harness.store;
    let key = key(store, Partition(0), 0);
    commit_ok(store, create(store, key, "1")).await;
    let mut feed = store.feed();
    store.close().await;
    store.close().await;
    assert!(matches!(store.get(&[key]).await, Err(StoreError::Closed)));
    let body = BodyKey { record: key, slot: 0, nonce: [0; 8] };
    assert!(matches!(store.bodies(&[body]).await, Err(StoreError::Closed)));
    assert!(matches!(store.scan(all("list")).await, Err(StoreError::Closed)));
    assert!(matches!(store.counters("test", &["x".into()]).await, Err(StoreError::Closed)));
    assert!(matches!(store.ping().await, Err(StoreError::Closed)));
    let outcome = commit(store, unconditional(Partition(0))).await;
    assert!(matches!(outcome, Err(CommitError::Unavailable(StoreError::Closed))));
    assert_eq!(store.answering_since(Partition(0)), None);
    assert_eq!(feed.next().await, None);
    assert_eq!(store.feed().next().await, None);
}

pub(crate) async fn an_open_store_answers_since_it_was_opened(harness: Harness) {
    let store = &*harness.store;
    store.ping().await.expect("open");
    let opened = store.now(Partition(0));
    for partition in store.keyspace().all() {
        assert!(store.answering_since(partition).expect("answers") <= opened);
    }
    harness.clock.advance(Duration::from_mins(1));
    store.ping().await.expect("open");
    assert!(store.answering_since(Partition(0)).expect("answers") <= opened);
    assert!(store.now(Partition(0)) >= harness.clock.now());
}

pub(crate) async fn everything_is_there_after_a_reopen(mut harness: Harness) {
    let store = &*harness.store;
    let keyspace = store.keyspace().clone();
    let (kept, gone) = (key(store, Partition(0), 0), key(store, Partition(0), 1));
    let body = BodyKey { record: kept, slot: 3, nonce: [9; 8] };
    let gone_at = commit_ok(store, create(store, gone, "gone")).await;
    let mut set = create(store, kept, "kept");
    set.body_puts.push((body, "body".into()));
    set.deletes.push(gone);
    set.checks.push(crate::store::write_set::Check::At(gone, gone_at));
    set.counters.push(count("count", -7));
    for index in INDEXES {
        set.additions.extend([entry(index, "one"), entry(index, "\0two")]);
    }
    commit_ok(store, set).await;
    let mut set = unconditional(Partition(0));
    set.removals.extend(INDEXES.map(|index| entry(index, "one")));
    commit_ok(store, set).await;
    let record = get(store, kept).await;

    if !harness.reopen().await {
        return;
    }
    let store = &*harness.store;
    assert_eq!(*store.keyspace(), keyspace);
    assert_eq!(get(store, kept).await, record);
    assert_eq!(get(store, gone).await, None);
    assert_eq!(store.bodies(&[body]).await.expect("bodies"), [Some("body".into())]);
    assert_eq!(counted(store, b"count").await, -7);
    for index in INDEXES {
        assert_eq!(members(store, all(index)).await, ["\0two"], "{index}");
    }
}

pub(crate) async fn revisions_and_sequences_go_on_after_a_reopen(mut harness: Harness) {
    let store = &*harness.store;
    let key = key(store, Partition(0), 0);
    let mut feed = store.feed();
    let mut set = create(store, key, "1");
    set.hint = Some((key, "".into()));
    let mut revision = commit_ok(store, set).await;
    let mut sequence = next(&mut feed, 1).await[0].sequence;
    for _ in 0..3 {
        // The clock stands still, and a set with only checks takes a revision too.
        let checked = commit_ok(&*harness.store, unconditional(Partition(0))).await;
        assert!(checked > revision);
        if !harness.reopen().await {
            return;
        }
        let store = &*harness.store;
        let mut feed = store.feed();
        let mut set = replace(store, key, revision, "2");
        set.hint = Some((key, "".into()));
        revision = commit_ok(store, set).await;
        assert!(revision > checked);
        let hint = next(&mut feed, 1).await.remove(0);
        assert!(hint.sequence > sequence);
        sequence = hint.sequence;
    }
}
