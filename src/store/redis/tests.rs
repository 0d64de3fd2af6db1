//! Tests of Redis only; the shared suite tests what every store promises.

mod together;
mod trouble;
mod unfit;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use uuid::Uuid;

use super::test_server::TestServer;
use super::{Options, RedisStore, StoreTime, keys, script};
use crate::clock::{Clock, ManualClock, SystemClock, Timestamp};
use crate::store::conformance::{Harness, count, counted, suite};
use crate::store::differential::Left;
use crate::store::{BodyKey, Check, CommitError, Event, Feed, Hint, Index, IndexEntry, Key};
use crate::store::{Mark, OpenError, Partition, Put, Scan, Store, StoreError, WriteSet};

/// One server for all tests that only need a prefix of their own.
static SHARED: LazyLock<TestServer> = LazyLock::new(|| TestServer::start(&[]));

fn options(server: &TestServer) -> Options {
    Options {
        prefix: format!("test-{}:", Uuid::new_v4()),
        // A machine that is busy with other tests is slow, but the store is available.
        response_timeout: PATIENCE,
        ..Options::new(server.url())
    }
}

async fn open(options: &Options) -> Arc<RedisStore> {
    RedisStore::open(options.clone()).await.expect("a store")
}

async fn refusal(options: &Options) -> OpenError {
    RedisStore::open(options.clone()).await.map(drop).expect_err("not to be opened")
}

/// Sends a command past the store.
async fn raw<T: redis::FromRedisValue>(options: &Options, words: &[&[u8]]) -> T {
    let client = redis::Client::open(&options.url[..]).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command.query_async(&mut connection).await.expect("a reply")
}

fn put(key: Key, value: &'static str) -> Put {
    Put {
        key,
        visible: Mark::New,
        fencing: Mark::Keep(0),
        value: Bytes::from_static(value.as_bytes()),
    }
}

/// A write set that creates a record.
fn creation(store: &RedisStore, name: &str, value: &'static str) -> (Key, WriteSet) {
    let key = store.keyspace().key(name);
    let mut set = WriteSet::new(store.keyspace().partition(key), Check::Absent(key));
    set.puts.push(put(key, value));
    set.hint = Some((key, Bytes::from_static(b"note")));
    (key, set)
}

fn update(store: &RedisStore, key: Key, revision: u64, value: &'static str) -> WriteSet {
    let mut set = WriteSet::new(store.keyspace().partition(key), Check::At(key, revision));
    set.puts.push(put(key, value));
    set
}

async fn commit(store: &RedisStore, set: WriteSet) -> Result<u64, CommitError> {
    let result = store.commit(vec![set]).await.pop().expect("one result");
    result.map(|committed| committed.revision)
}

async fn value(store: &RedisStore, key: Key) -> Option<Bytes> {
    store.get(&[key]).await.expect("an answer").pop().flatten().map(|record| record.value)
}

async fn next(feed: &mut Feed) -> Event {
    let event = tokio::time::timeout(PATIENCE, feed.next()).await;
    event.expect("an event in time").expect("an open feed")
}

async fn next_gap(feed: &mut Feed) -> Vec<Partition> {
    loop {
        if let Event::Gap(partitions) = next(feed).await {
            return partitions;
        }
    }
}

fn entry(key: Key, prefix: &str) -> IndexEntry {
    IndexEntry {
        index: Index::new("list"),
        member: [prefix.as_bytes(), key.as_bytes()].concat().into(),
    }
}

#[tokio::test]
async fn a_write_set_is_applied_whole_or_not_at_all() {
    let store = open(&options(&SHARED)).await;
    let (key, mut set) = creation(&store, "one", "first");
    let body = BodyKey { record: key, slot: 1, nonce: [7; 8] };
    set.body_puts.push((body, Bytes::from_static(b"body")));
    set.additions.push(entry(key, "a"));
    set.counters.push(count("live", 2));
    let revision = commit(&store, set.clone()).await.expect("a commit");

    let record = store.get(&[key]).await.expect("an answer").pop().flatten().expect("a record");
    assert_eq!(
        (record.revision, record.visible_revision, record.fencing_number),
        (revision, revision, 0)
    );
    assert_eq!(
        store.bodies(&[body]).await.expect("an answer"),
        [Some(Bytes::from_static(b"body"))]
    );
    assert_eq!(counted(&*store, b"live").await, 2);

    // The same set again fails in its check; one that fails in its second check has not applied the first.
    assert!(matches!(commit(&store, set.clone()).await, Err(CommitError::Conflict)));
    let mut late = update(&store, key, revision, "second");
    late.removals.push(entry(key, "a"));
    late.checks.push(Check::TimeAtLeast(Timestamp::MAX));
    assert!(matches!(commit(&store, late.clone()).await, Err(CommitError::Early)));
    assert_eq!(value(&store, key).await.as_deref(), Some(&b"first"[..]));
    assert_eq!(store.scan(Scan::first(Index::new("list"), 9)).await.expect("entries").len(), 1);

    // Between two that conflict, one in the same call goes through.
    let mut last = update(&store, key, revision, "third");
    last.deletes.push(key);
    last.puts.clear();
    last.body_deletes.push(body);
    last.removals.push(entry(key, "a"));
    last.counters.push(count("live", -2));
    let results = store.commit(vec![set.clone(), last, late]).await;
    assert!(matches!(results[..], [Err(CommitError::Conflict), Ok(_), Err(_)]), "{results:?}");
    assert_eq!(value(&store, key).await, None);
    assert_eq!(store.bodies(&[body]).await.expect("an answer"), [None]);
    assert_eq!(counted(&*store, b"live").await, 0);
    assert!(store.scan(Scan::first(Index::new("list"), 9)).await.expect("entries").is_empty());
}

#[tokio::test]
async fn only_the_metas_remain_of_what_was_removed() {
    let options = Options { partitions: 1, ..options(&SHARED) };
    let store = open(&options).await;
    let (key, mut set) = creation(&store, "one", "first");
    set.additions.push(entry(key, "a"));
    set.counters.push(count("live", 1));
    let revision = commit(&store, set.clone()).await.expect("a commit");
    let mut end = WriteSet::new(set.partition, Check::At(key, revision));
    (end.deletes, end.removals) = (vec![key], set.additions);
    end.counters.push(count("live", -1));
    commit(&store, end).await.expect("a commit");
    let left: Vec<String> =
        raw(&options, &[b"KEYS", format!("{}*", options.prefix).as_bytes()]).await;
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn revisions_of_commits_in_the_same_microsecond_differ_and_are_exact() {
    // A number that Lua prints with 14 digits would lose its last two.
    let clock = ManualClock::new(Timestamp::from_micros(1_790_000_000_123_456));
    let options =
        Options { clock: clock.clone(), time: StoreTime::Clock, partitions: 1, ..options(&SHARED) };
    let store = open(&options).await;
    let (key, set) = creation(&store, "one", "first");
    let first = commit(&store, set).await.expect("a commit");
    assert_eq!(first, 1_790_000_000_123_456);
    let second = commit(&store, update(&store, key, first, "second")).await.expect("a commit");
    assert_eq!(second, first + 1);
    clock.advance(Duration::from_micros(100));
    let mut third = update(&store, key, second, "third");
    (third.puts[0].visible, third.puts[0].fencing) = (Mark::Keep(second), Mark::New);
    let third = commit(&store, third).await.expect("a commit");
    assert_eq!(third, first + 100);
    let record = store.get(&[key]).await.expect("an answer").pop().flatten().expect("a record");
    assert_eq!(
        (record.revision, record.visible_revision, record.fencing_number),
        (third, second, third)
    );
    assert_eq!(store.now(Partition(0)), clock.now());

    let sets = (0..100).map(|number| creation(&store, &number.to_string(), "many").1).collect();
    let revisions: Vec<u64> = store
        .commit(sets)
        .await
        .into_iter()
        .map(|result| result.expect("a commit").revision)
        .collect();
    assert!(revisions.windows(2).all(|pair| pair[0] < pair[1]), "{revisions:?}");
}

#[tokio::test]
async fn hints_arrive_in_order_and_those_of_others_are_ignored() {
    let options = Options { partitions: 1, ..options(&SHARED) };
    let (writer, reader) = (open(&options).await, open(&options).await);
    let mut feed = reader.feed();
    let channel = keys::Keys::new(&options.prefix, reader.keyspace()).channel();
    let _: u64 = raw(&options, &[b"PUBLISH", &channel, b"garbage"]).await;
    let _: u64 = raw(&options, &[b"PUBLISH", &channel, &[1; 60]]).await;
    for sequence in 1..=20 {
        let (key, set) = creation(&writer, &sequence.to_string(), "x");
        let revision = commit(&writer, set).await.expect("a commit");
        let note = Bytes::from_static(b"note");
        assert_eq!(
            next(&mut feed).await,
            Event::Hint(Hint { partition: Partition(0), sequence, revision, key, note })
        );
    }
}

#[tokio::test]
async fn scans_merge_partitions_in_both_directions_however_uneven_they_are() {
    let store = open(&Options { partitions: 4, ..options(&SHARED) }).await;
    let mut members = Vec::new();
    let mut sets = Vec::new();
    for number in 0..120 {
        let (key, mut set) = creation(&store, &number.to_string(), "x");
        // Most of the first page is in one partition.
        let prefix = if set.partition == Partition(2) { "a" } else { "b" };
        set.additions.push(entry(key, prefix));
        members.push(set.additions[0].member.clone());
        sets.push(set);
    }
    assert!(store.commit(sets).await.iter().all(Result::is_ok));
    members.sort();
    for limit in [0, 1, 7, 30, 60, 119, 120, 500, usize::MAX] {
        for descending in [false, true] {
            let scan = Scan { descending, ..Scan::first(Index::new("list"), limit) };
            let found: Vec<Bytes> = store
                .scan(scan)
                .await
                .expect("entries")
                .into_iter()
                .map(|entry| entry.member)
                .collect();
            let mut expected = members.clone();
            if descending {
                expected.reverse();
            }
            expected.truncate(limit);
            assert!(found == expected, "limit {limit}, descending {descending}");
        }
    }
    let within = Scan::first(Index::new("list"), 500).with_prefix(b"a").within(Partition(2));
    let found = store.scan(within.clone()).await.expect("entries");
    assert!(!found.is_empty() && found.iter().all(|entry| entry.partition == Partition(2)));
    assert_eq!(found.len(), members.iter().filter(|member| within.contains(member)).count());
}

#[tokio::test]
async fn all_who_open_at_once_get_one_keyspace() {
    let options = options(&SHARED);
    let stores = futures_util::future::join_all((0..8).map(|_| open(&options))).await;
    assert!(stores.iter().all(|store| store.keyspace() == stores[0].keyspace()));
    let named = Options { keyspace: Some(stores[0].keyspace().id()), ..options.clone() };
    assert_eq!(open(&named).await.keyspace(), stores[0].keyspace());
    let other = Options { keyspace: Some(Uuid::nil()), ..options.clone() };
    assert!(matches!(refusal(&other).await, OpenError::WrongKeyspace { .. }));

    // A named keyspace is never made: it would be another one.
    let elsewhere = Options { prefix: format!("{}-none:", options.prefix), ..named };
    assert!(matches!(refusal(&elsewhere).await, OpenError::WrongKeyspace { .. }));
    assert!(RedisStore::open(Options { keyspace: None, ..elsewhere }).await.is_ok());
}

#[test]
fn the_documentation_shows_every_key_and_the_whole_script() {
    let page = include_str!("../../../docs/redis.md");
    for pattern in keys::PATTERNS {
        assert!(page.contains(&format!("`{pattern}`")), "docs/redis.md does not explain {pattern}");
    }
    assert!(
        page.contains(script::TEXT),
        "docs/redis.md shows another script than src/store/redis/commit.lua"
    );
    let code = script::TEXT.lines().filter(|line| !line.starts_with("--")).count();
    assert!(code <= 100, "{code} lines of Lua");
}

/// An empty store under a prefix of its own.
pub(crate) async fn harness() -> Harness {
    let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
    let options = Options { clock: clock.clone(), time: StoreTime::Clock, ..options(&SHARED) };
    let store = open(&options).await;
    let reopen = move || {
        let options = options.clone();
        async move { open(&options).await as Arc<dyn Store> }.boxed()
    };
    Harness::new(store, clock, Some(Box::new(reopen)))
}

/// A new store, and what counts its keys beyond those of an empty one.
pub(crate) async fn emptiable() -> (Harness, Left) {
    let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
    let options = Options { clock: clock.clone(), time: StoreTime::Clock, ..options(&SHARED) };
    let store = open(&options).await;
    let of_every_store = 1 + usize::from(store.keyspace().partitions());
    let left = move || {
        let options = options.clone();
        async move {
            let pattern = format!("{}*", options.prefix);
            let keys: Vec<Vec<u8>> = raw(&options, &[b"KEYS", pattern.as_bytes()]).await;
            keys.len() - of_every_store
        }
        .boxed()
    };
    (Harness::new(store, clock, None), Box::new(left))
}

suite!(harness);

const PATIENCE: Duration = Duration::from_mins(1);
