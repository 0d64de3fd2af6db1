//! Write sets that are handed in while a call is under way, and go out in one.

use futures_util::future::join_all;

use super::*;
use crate::store::Durability;

/// Keeps Redis from answering for a while, as one that is busy does.
async fn pause(options: &Options, time: Duration) {
    let millis = time.as_millis().to_string();
    let _: String = raw(options, &[b"CLIENT", b"PAUSE", millis.as_bytes(), b"ALL"]).await;
}

/// How often the script was called.
async fn calls(options: &Options) -> u64 {
    let info: String = raw(options, &[b"INFO", b"commandstats"]).await;
    let count = |name: &str| {
        let line =
            info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        let count = line.and_then(|rest| rest.split(',').next());
        count.map_or(0, |count| count.parse::<u64>().expect("a number"))
    };
    count("evalsha") + count("eval")
}

#[tokio::test]
async fn sets_of_many_callers_go_out_in_a_few_calls() {
    let server = TestServer::start(&[]);
    let options = options(&server);
    let store = open(&options).await;
    commit(&store, creation(&store, "first", "x").1).await.expect("a commit");
    let before = calls(&options).await;
    let sets: Vec<_> = (0..100).map(|number| creation(&store, &number.to_string(), "x")).collect();
    let results = join_all(sets.iter().map(|(_, set)| commit(&store, set.clone()))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let calls = calls(&options).await - before;
    assert!((2..=4).contains(&calls), "{calls} calls");
    let keys: Vec<Key> = sets.iter().map(|(key, _)| *key).collect();
    let records = store.get(&keys).await.expect("records");
    for (record, revision) in records.into_iter().zip(results) {
        assert_eq!(record.expect("a record").revision, revision.expect("a commit"));
    }
}

#[tokio::test]
async fn of_two_sets_for_one_record_at_the_same_moment_one_conflicts() {
    let store = open(&options(&SHARED)).await;
    let (key, set) = creation(&store, "one", "first");
    let (first, second) = tokio::join!(
        commit(&store, set.clone()),
        commit(&store, WriteSet { puts: vec![put(key, "second")], ..set })
    );
    assert!(first.is_ok() && matches!(second, Err(CommitError::Conflict)), "{second:?}");
    assert_eq!(value(&store, key).await.as_deref(), Some(&b"first"[..]));

    // Entries and bodies of one record without a check of it also keep their order.
    let mut add =
        WriteSet::new(store.keyspace().partition(key), Check::TimeAtLeast(Timestamp::EPOCH));
    add.additions.push(entry(key, "a"));
    let mut remove = add.clone();
    std::mem::swap(&mut remove.additions, &mut remove.removals);
    let results = tokio::join!(commit(&store, add), commit(&store, remove));
    assert!(matches!(results, (Ok(_), Ok(_))), "{results:?}");
    assert!(store.scan(Scan::first(Index::new("list"), 9)).await.expect("entries").is_empty());
}

#[tokio::test]
async fn one_that_conflicts_leaves_the_others_of_its_batch_alone() {
    let store = open(&options(&SHARED)).await;
    let mut feed = store.feed();
    let (taken, set) = creation(&store, "taken", "x");
    commit(&store, set.clone()).await.expect("a commit");
    let mut early = creation(&store, "early", "x").1;
    early.checks.push(Check::TimeAtLeast(Timestamp::MAX));
    let (stale, mut others) = (update(&store, taken, 1, "y"), Vec::new());
    for number in 0..10 {
        others.push(creation(&store, &number.to_string(), "x").1);
    }
    let mut sets = others.clone();
    sets.extend([set, early, stale]);
    let results = join_all(sets.into_iter().map(|set| commit(&store, set))).await;
    assert!(results[..10].iter().all(Result::is_ok), "{results:?}");
    assert!(matches!(
        results[10..],
        [Err(CommitError::Conflict), Err(CommitError::Early), Err(CommitError::Conflict)]
    ));
    // One hint for each applied set, and none for the others.
    let mut heard = Vec::new();
    while heard.len() < 11 {
        let Event::Hint(hint) = next(&mut feed).await else { panic!("a gap") };
        heard.push(hint.key);
    }
    assert_eq!(heard.iter().filter(|key| **key == taken).count(), 1);
    store.ping().await.expect("an answer");
    assert!(futures_util::FutureExt::now_or_never(feed.next()).is_none());
}

#[tokio::test]
async fn a_caller_that_gives_up_takes_nobodys_result_away() {
    let server = TestServer::start(&[]);
    let options = options(&server);
    let store = open(&options).await;
    pause(&options, Duration::from_millis(300)).await;
    let gone = commit(&store, creation(&store, "gone", "x").1);
    let others = join_all((0..20).map(|number| {
        let set = creation(&store, &number.to_string(), "x").1;
        commit(&store, set)
    }));
    let giving_up = tokio::time::timeout(Duration::from_millis(50), gone);
    let (gone, others) = tokio::join!(giving_up, others);
    assert!(gone.is_err() && others.iter().all(Result::is_ok), "{gone:?}, {others:?}");
}

#[tokio::test]
async fn what_is_under_way_when_the_store_closes_is_answered() {
    let server = TestServer::start(&[]);
    let options = options(&server);
    let store = open(&options).await;
    pause(&options, Duration::from_millis(300)).await;
    // More than one call: the rest goes out while the store is closing.
    let commits = join_all((0..100).map(|number| {
        let set = creation(&store, &number.to_string(), "x").1;
        commit(&store, set)
    }));
    let closing = async {
        tokio::task::yield_now().await;
        store.close().await;
    };
    let (results, ()) = tokio::join!(commits, closing);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let late = commit(&store, creation(&store, "late", "x").1).await;
    assert!(matches!(late, Err(CommitError::Unavailable(StoreError::Closed))), "{late:?}");
}

#[tokio::test]
async fn of_a_lost_call_nothing_is_known_and_nobody_waits_twice() {
    let server = TestServer::start(&[]);
    let options = Options { response_timeout: Duration::from_millis(300), ..options(&server) };
    let store = open(&options).await;
    commit(&store, creation(&store, "first", "x").1).await.expect("a commit");
    pause(&options, Duration::from_secs(2)).await;
    let began = store.shared.time.clock().elapsed();
    let sets = (0..200).map(|number| creation(&store, &number.to_string(), "x").1);
    let results = join_all(sets.map(|set| commit(&store, set))).await;
    let away = |result: &Result<u64, CommitError>| {
        matches!(result, Err(CommitError::Unavailable(StoreError::Away(_))))
    };
    assert!(results.iter().all(away), "{results:?}");
    let took = store.shared.time.clock().elapsed().saturating_sub(began);
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    assert_eq!(store.durability(), Durability::Memory);
}

/// A runtime that ends must not leave a lane without a task that serves it.
#[test]
fn a_runtime_that_ends_leaves_nothing_behind() {
    let server = TestServer::start(&[]);
    let options = options(&server);
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    let store = first.block_on(open(&options));
    let other = runtime();
    other.block_on(async {
        pause(&options, Duration::from_millis(200)).await;
        let set = creation(&store, "one", "x").1;
        let commit = commit(&store, set);
        tokio::select! {
            _ = commit => panic!("answered while paused"),
            () = tokio::task::yield_now() => {}
        }
    });
    drop(other);
    let set = creation(&store, "two", "x").1;
    let result = first.block_on(commit(&store, set));
    assert!(result.is_ok(), "{result:?}");
}

/// Where commits wait for an fsync two calls are under way at once; one caller's sets keep their order all the same.
#[tokio::test]
async fn two_calls_at_once_leave_every_callers_sets_in_order() {
    let server = TestServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let options = options(&server);
    let store = open(&options).await;
    assert_eq!(store.durability(), Durability::Fsync);
    let callers = join_all((0..4).map(|caller| {
        let set = |number| creation(&store, &format!("{caller}-{number}"), "x").1;
        let sets: Vec<_> = (0..100).chain(0..100).map(set).collect();
        store.commit(sets)
    }));
    for results in callers.await {
        let (first, again) = results.split_at(100);
        assert!(first.iter().all(Result::is_ok), "{first:?}");
        assert!(again.iter().all(|result| matches!(result, Err(CommitError::Conflict))));
    }
    let (key, set) = creation(&store, "chain", "x");
    let delete = |revision| {
        let mut set = update(&store, key, revision, "x");
        (set.puts, set.deletes) = (Vec::new(), vec![key]);
        set
    };
    for _ in 0..20 {
        let other = |_| creation(&store, &Uuid::new_v4().to_string(), "x").1;
        let mut sets: Vec<WriteSet> = (0..70).map(other).collect();
        sets.push(set.clone());
        sets.push(set.clone());
        let results = store.commit(sets).await;
        let revision = results[70].as_ref().expect("a commit").revision;
        assert!(matches!(results[71], Err(CommitError::Conflict)));
        commit(&store, delete(revision)).await.expect("a commit");
    }
}
