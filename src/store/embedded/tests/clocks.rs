//! No step of the wall clock moves the store's time.

use super::*;

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn a_wall_clock_that_steps_moves_nothing_while_the_store_is_open() {
    let directory = TempDir::new().expect("a temporary directory");
    let clock = clock();
    let store = EmbeddedStore::open(options(directory.path(), &clock)).expect("a new store");
    let start = store.now(Partition(0));
    write(&store, 0..1).await;
    let since = store.answering_since(Partition(0));
    for (number, step) in [(1, Back(DAY)), (2, Ahead(DAY)), (3, Ahead(DAY * 3650)), (4, Back(DAY))]
    {
        step.of(&clock);
        clock.advance(Duration::from_secs(6));
        let expected = start + Duration::from_secs(6 * number);
        assert_eq!(store.now(Partition(0)), expected, "{step:?}");
        // An entry that is due at that time is due for the commit too.
        let key = store.keyspace().key(&number.to_string());
        let mut due = WriteSet::new(Partition(0), Check::TimeAtLeast(expected));
        due.puts.push(Put { key, visible: Mark::New, fencing: Mark::New, value: Bytes::new() });
        let early = WriteSet::new(Partition(0), Check::TimeAtLeast(expected + DAY));
        let outcomes = store.commit(vec![due, early]).await;
        let revision = outcomes[0].as_ref().expect("due").revision;
        assert!(Timestamp::from_micros(revision).since(expected) < Duration::from_secs(1));
        assert!(matches!(outcomes[1], Err(CommitError::Early)), "{:?}", outcomes[1]);
    }
    assert_eq!(store.answering_since(Partition(0)), since, "nothing has to be held back");
}

#[tokio::test]
async fn time_goes_on_from_the_last_commit_where_the_wall_clock_is_behind_it_at_a_start() {
    let directory = TempDir::new().expect("a temporary directory");
    let clock = clock();
    let store = EmbeddedStore::open(options(directory.path(), &clock)).expect("a new store");
    let last = Timestamp::from_micros(write(&store, 0..1).await);
    drop(store);
    clock.step_wall_clock_back(DAY);
    let store = EmbeddedStore::open(options(directory.path(), &clock)).expect("the same store");
    assert_eq!(store.now(Partition(0)), last);
    assert_eq!(store.answering_since(Partition(0)), Some(last));
    clock.advance(Duration::from_secs(3));
    assert_eq!(store.now(Partition(0)), last + Duration::from_secs(3));
    let set = WriteSet::new(Partition(0), Check::TimeAtLeast(last + Duration::from_secs(3)));
    store.commit(vec![set]).await.remove(0).expect("what was to take 3 s has taken 3 s");
}

#[tokio::test]
async fn a_wall_clock_that_is_right_again_is_taken_over_at_a_start() {
    let directory = TempDir::new().expect("a temporary directory");
    let clock = clock();
    let store = EmbeddedStore::open(options(directory.path(), &clock)).expect("a new store");
    write(&store, 0..1).await;
    clock.step_wall_clock(DAY);
    assert!(store.now(Partition(0)) < clock.now());
    drop(store);
    let store = EmbeddedStore::open(options(directory.path(), &clock)).expect("the same store");
    assert_eq!(store.now(Partition(0)), clock.now());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ahead(Duration),
    Back(Duration),
}

use Step::{Ahead, Back};

impl Step {
    fn of(self, clock: &ManualClock) {
        match self {
            Ahead(step) => clock.step_wall_clock(step),
            Back(step) => clock.step_wall_clock_back(step),
        }
    }
}
