//! Hints.

use super::harness::{Harness, commit, commit_ok, create, get, key, unconditional};
use crate::store::backend::Store;
use crate::store::feed::{Event, Feed, Hint};
use crate::store::key::Partition;
use crate::store::write_set::WriteSet;

pub(crate) async fn hints_come_in_order_with_consecutive_sequences(harness: Harness) {
    let store = &*harness.store;
    let mut feed = store.feed();
    let sets: Vec<_> = (0..20).map(|number| hinting(store, number)).collect();
    let mut revisions = Vec::new();
    for pair in sets.chunks(2) {
        for outcome in store.commit(pair.to_vec()).await {
            revisions.push(outcome.expect("nothing stands against it").revision);
        }
    }
    let hints = next(&mut feed, 20).await;
    for (number, hint) in hints.iter().enumerate() {
        assert_eq!(hint.partition, Partition(0));
        assert_eq!(hint.sequence, hints[0].sequence + number as u64);
        assert_eq!(hint.revision, revisions[number]);
        assert_eq!(hint.key, key(store, Partition(0), number));
        assert_eq!(hint.note, note(number));
    }
}

pub(crate) async fn sets_without_hint_and_refused_sets_say_nothing(harness: Harness) {
    let store = &*harness.store;
    let mut feed = store.feed();
    commit_ok(store, hinting(store, 0)).await;
    commit_ok(store, create(store, key(store, Partition(0), 1), "quiet")).await;
    assert!(commit(store, hinting(store, 0)).await.is_err(), "is there already");
    commit_ok(store, hinting(store, 2)).await;
    let hints = next(&mut feed, 2).await;
    assert_eq!((&hints[0].note[..], &hints[1].note[..]), (&note(0)[..], &note(2)[..]));
    assert_eq!(hints[1].sequence, hints[0].sequence + 1);
}

pub(crate) async fn every_feed_gets_every_hint_from_its_start_on(harness: Harness) {
    let store = &*harness.store;
    let mut first = store.feed();
    commit_ok(store, hinting(store, 0)).await;
    // Read before the second feed begins, so that a slow hint is not taken for a new one.
    let earlier = next(&mut first, 1).await;
    let mut second = store.feed();
    for partition in store.keyspace().all() {
        let mut set = unconditional(partition);
        set.hint = Some((key(store, partition, 0), partition.0.to_be_bytes().to_vec().into()));
        commit_ok(store, set).await;
    }
    let count = usize::from(store.keyspace().partitions());
    let mut first = next(&mut first, count).await;
    let mut second = next(&mut second, count).await;
    // Between partitions there is no order.
    first.sort_by_key(|hint| hint.partition);
    second.sort_by_key(|hint| hint.partition);
    assert_eq!(first, second);
    assert_eq!(first[0].sequence, earlier[0].sequence + 1);
    assert!(first.iter().map(|hint| hint.partition).eq(store.keyspace().all()));
}

pub(crate) async fn what_a_hint_is_about_can_be_read(harness: Harness) {
    let store = &*harness.store;
    let mut feed = store.feed();
    let committing = store.commit((0..50).map(|number| hinting(store, number)).collect());
    let reading = async {
        for _ in 0..50 {
            let hint = next(&mut feed, 1).await.remove(0);
            let record = get(store, hint.key).await.expect("what the hint is about");
            assert_eq!(record.revision, hint.revision);
        }
    };
    let (outcomes, ()) = futures_util::future::join(committing, reading).await;
    assert!(outcomes.iter().all(Result::is_ok));
}

pub(crate) async fn positions_are_those_of_the_last_hints(mut harness: Harness) {
    let store = &*harness.store;
    let mut feed = store.feed();
    let before = store.hint_positions().await.expect("positions");
    assert_eq!(before.len(), usize::from(store.keyspace().partitions()));
    commit_ok(store, hinting(store, 0)).await;
    commit_ok(store, create(store, key(store, Partition(0), 1), "quiet")).await;
    let last = next(&mut feed, 1).await[0].sequence;
    let after = store.hint_positions().await.expect("positions");
    assert_eq!(last, before[0] + 1);
    assert_eq!((after[0], &after[1..]), (last, &before[1..]));
    if harness.reopen().await {
        assert_eq!(harness.store.hint_positions().await.expect("positions"), after);
    }
}

fn hinting(store: &dyn Store, number: usize) -> WriteSet {
    let key = key(store, Partition(0), number);
    let mut set = create(store, key, "loud");
    set.hint = Some((key, note(number)));
    set
}

fn note(number: usize) -> bytes::Bytes {
    [&[0, 0xff, b'\n'], &number.to_be_bytes()[..]].concat().into()
}

pub(super) async fn next(feed: &mut Feed, count: usize) -> Vec<Hint> {
    let mut hints = Vec::new();
    while hints.len() < count {
        match feed.next().await.expect("the store is open") {
            Event::Hint(hint) => hints.push(hint),
            Event::Gap(partitions) => panic!("a gap over {partitions:?}"),
        }
    }
    hints
}
