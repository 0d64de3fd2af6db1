//! Redis that fails, forgets, fills up or is set up wrongly.

use super::*;
use crate::store::Durability;

fn is_away(result: Result<u64, CommitError>) -> bool {
    matches!(result, Err(CommitError::Unavailable(StoreError::Away(_))))
}

/// Waits until the partition answers again.
async fn returned(store: &RedisStore) {
    let back = async {
        while store.answering_since(Partition(0)).is_none() {
            store.shared.time.clock().sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("back in time");
}

#[tokio::test]
async fn a_redis_that_was_flushed_is_foreign_and_never_says_not_there() {
    let server = TestServer::start(&[]);
    let options = options(&server);
    let store = open(&options).await;
    let (key, set) = creation(&store, "one", "x");
    let mut feed = store.feed();
    commit(&store, set.clone()).await.expect("a commit");
    // The hint arrives on another connection than the acknowledgement.
    assert!(matches!(next(&mut feed).await, Event::Hint(hint) if hint.key == key));
    let _: String = raw(&options, &[b"FLUSHALL"]).await;

    let error = store.get(&[key]).await.expect_err("no absence");
    let id = store.keyspace().id().to_string();
    assert!(
        matches!(&error, StoreError::Foreign(text) if text.contains(&id) && text.contains("restart longhaul")),
        "{error}"
    );
    assert!(matches!(
        commit(&store, set.clone()).await,
        Err(CommitError::Unavailable(StoreError::Foreign(_)))
    ));
    assert!(matches!(
        store.scan(Scan::first(Index::new("list"), 1)).await,
        Err(StoreError::Foreign(_))
    ));
    assert!(matches!(
        store.bodies(&[BodyKey { record: key, slot: 0, nonce: [0; 8] }]).await,
        Err(StoreError::Foreign(_))
    ));
    assert!(matches!(store.counters("test", &["live".into()]).await, Err(StoreError::Foreign(_))));
    assert!(matches!(store.ping().await, Err(StoreError::Foreign(_))));
    assert_eq!(store.answering_since(set.partition), None);

    // Another server begins anew there; for this one it stays foreign.
    let other = open(&options).await;
    let (_, set) = creation(&other, "one", "y");
    commit(&other, set).await.expect("a commit");
    assert!(matches!(store.get(&[key]).await, Err(StoreError::Foreign(_))));
    // Readers that wait receive the gap, once.
    assert_eq!(next(&mut feed).await, Event::Gap(store.keyspace().all().collect()));
    assert!(futures_util::FutureExt::now_or_never(feed.next()).is_none());
}

#[tokio::test]
async fn a_keyspace_of_which_a_part_is_missing_is_not_opened() {
    let options = options(&SHARED);
    let store = open(&options).await;
    let keys = keys::Keys::new(&options.prefix, store.keyspace());
    let _: u64 = raw(&options, &[b"DEL", &keys.meta(Partition(3))]).await;
    let error = refusal(&options).await;
    assert!(
        matches!(&error, OpenError::Damaged(text) if text.contains("lost 1 of the 16")),
        "{error}"
    );
    let _: u64 = raw(&options, &[b"DEL", &keys::root(&options.prefix)]).await;
    let error = refusal(&options).await;
    assert!(
        matches!(&error, OpenError::Damaged(text) if text.contains("root record is gone")),
        "{error}"
    );
    assert!(!error.passes());
}

#[tokio::test]
async fn a_partition_that_is_lost_takes_no_other_with_it() {
    let options = options(&SHARED);
    let store = open(&options).await;
    let keys = keys::Keys::new(&options.prefix, store.keyspace());
    let mut feed = store.feed();
    let _: u64 = raw(&options, &[b"DEL", &keys.meta(Partition(3))]).await;
    let sets: Vec<_> = (0..60).map(|number| creation(&store, &number.to_string(), "x").1).collect();
    let results = store.commit(sets.clone()).await;
    for (set, result) in sets.iter().zip(&results) {
        let foreign = matches!(result, Err(CommitError::Unavailable(StoreError::Foreign(_))));
        assert!(if set.partition == Partition(3) { foreign } else { result.is_ok() }, "{result:?}");
    }
    // A check of all partitions that began before the loss may still find them available; the next one does not.
    let lost =
        |event| matches!(event, Event::Gap(partitions) if partitions.contains(&Partition(3)));
    while !lost(next(&mut feed).await) {}
    assert!(store.answering_since(Partition(3)).is_none());
    assert!(store.answering_since(Partition(4)).is_some());
}

#[tokio::test]
async fn a_lost_message_is_a_gap_within_a_second() {
    let options = Options { partitions: 2, ..options(&SHARED) };
    let store = open(&options).await;
    let mut feed = store.feed();
    let meta_key = keys::Keys::new(&options.prefix, store.keyspace()).meta(Partition(1));
    let meta = keys::Meta { revision: 5, sequence: 1, ..keys::Meta::new(store.keyspace().id()) };
    let _: String = raw(&options, &[b"SET", &meta_key, &meta.encode()]).await;
    assert_eq!(next(&mut feed).await, Event::Gap(vec![Partition(1)]));
    // And so is a partition that went back.
    let back = keys::Meta { revision: 4, ..meta };
    let _: String = raw(&options, &[b"SET", &meta_key, &back.encode()]).await;
    assert_eq!(next(&mut feed).await, Event::Gap(vec![Partition(1)]));
    // And one that was not ours for a while.
    let _: u64 = raw(&options, &[b"DEL", &meta_key]).await;
    assert_eq!(next(&mut feed).await, Event::Gap(vec![Partition(1)]));
    assert!(store.answering_since(Partition(1)).is_none());
    assert!(store.answering_since(Partition(0)).is_some());
    let _: String = raw(&options, &[b"SET", &meta_key, &back.encode()]).await;
    assert_eq!(next(&mut feed).await, Event::Gap(vec![Partition(1)]));
    assert!(store.answering_since(Partition(1)).is_some());
}

#[tokio::test]
async fn killed_connections_come_back_with_a_gap_for_all_partitions() {
    let server = TestServer::start(&[]);
    let options = Options { partitions: 2, ..options(&server) };
    let store = open(&options).await;
    let mut feed = store.feed();
    let _: u64 = raw(&options, &[b"CLIENT", b"KILL", b"SKIPME", b"yes"]).await;
    assert_eq!(next(&mut feed).await, Event::Gap(vec![Partition(0), Partition(1)]));
    let (key, set) = creation(&store, "one", "x");
    // A request may be the one that finds its connection dead.
    let revision = match commit(&store, set.clone()).await {
        Ok(revision) => revision,
        Err(_) => commit(&store, set).await.expect("a commit"),
    };
    assert!(
        matches!(next(&mut feed).await, Event::Hint(hint) if hint.key == key && hint.revision == revision)
    );
}

#[tokio::test]
async fn the_first_read_after_all_connections_were_killed_succeeds() {
    let server = TestServer::start(&[]);
    let options = options(&server);
    let store = open(&options).await;
    let (key, mut set) = creation(&store, "one", "x");
    let body = BodyKey { record: key, slot: 1, nonce: [7; 8] };
    set.body_puts.push((body, Bytes::from_static(b"body")));
    set.additions.push(entry(key, "a"));
    set.counters.push(count("live", 1));
    let mut revision = commit(&store, set).await.expect("a commit");
    let kill_all = async || {
        let killed: u64 = raw(&options, &[b"CLIENT", b"KILL", b"SKIPME", b"yes"]).await;
        assert!(killed > 0);
    };
    for _ in 0..10 {
        // Each kind of read meets connections that were there, on either link.
        store.get(&[key]).await.expect("records");
        store.bodies(&[body]).await.expect("bodies");
        kill_all().await;
        assert_eq!(value(&store, key).await.as_deref(), Some(&b"x"[..]));
        assert_eq!(store.bodies(&[body]).await.expect("bodies").iter().flatten().count(), 1);
        kill_all().await;
        let entries = store.scan(Scan::first(Index::new("list"), 9)).await.expect("entries");
        assert_eq!(entries.len(), 1);
        kill_all().await;
        assert_eq!(counted(&*store, b"live").await, 1);
        kill_all().await;
        store.ping().await.expect("an answer");

        // Many at once share the lost connection and the new one.
        let reads = (0..50).map(|_| store.get(std::slice::from_ref(&key)));
        let (answers, ()) =
            futures_util::future::join(futures_util::future::join_all(reads), kill_all()).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");

        // A commit may have been applied before its connection was lost: only its caller can tell.
        store.ping().await.expect("an answer");
        kill_all().await;
        revision = match commit(&store, update(&store, key, revision, "x")).await {
            Ok(revision) => revision,
            Err(error) => {
                assert!(matches!(error, CommitError::Unavailable(StoreError::Away(_))), "{error}");
                let record = store.get(&[key]).await.expect("records").remove(0);
                record.expect("a record").revision
            }
        };
    }
}

#[tokio::test]
async fn a_redis_that_crashes_and_restarts_with_its_data_is_away_and_comes_back() {
    let mut server = TestServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let options =
        Options { durability: Some(Durability::Fsync), partitions: 1, ..options(&server) };
    let store = open(&options).await;
    assert_eq!(store.durability(), Durability::Fsync);
    let (key, set) = creation(&store, "one", "x");
    let first = commit(&store, set).await.expect("a commit");
    let began = store.answering_since(Partition(0)).expect("answering");
    let mut feed = store.feed();

    server.kill();
    assert!(is_away(commit(&store, update(&store, key, first, "y")).await));
    assert!(matches!(store.get(&[key]).await, Err(StoreError::Away(_))));
    assert_eq!(store.answering_since(Partition(0)), None);
    assert!(matches!(refusal(&options).await, OpenError::Unreachable { .. }));

    server.restart();
    assert_eq!(next_gap(&mut feed).await, [Partition(0)]);
    returned(&store).await;
    assert!(store.answering_since(Partition(0)) > Some(began));
    assert_eq!(value(&store, key).await.as_deref(), Some(&b"x"[..]));
    let second = commit(&store, update(&store, key, first, "y")).await.expect("a commit");
    assert!(second > first);
    assert!(open(&options).await.keyspace() == store.keyspace());
}

#[tokio::test]
async fn a_redis_that_restarts_empty_is_foreign() {
    let mut server = TestServer::start(&[]);
    let store = open(&options(&server)).await;
    let (key, set) = creation(&store, "one", "x");
    commit(&store, set).await.expect("a commit");
    server.restart();
    let answer = store.get(&[key]).await;
    assert!(matches!(answer, Err(StoreError::Foreign(_))), "{answer:?}");
}

#[tokio::test]
async fn a_master_that_became_a_replica_is_away_and_a_gap_when_it_is_master_again() {
    let server = TestServer::start(&[]);
    let options = Options { partitions: 1, ..options(&server) };
    let store = open(&options).await;
    let (key, set) = creation(&store, "one", "x");
    commit(&store, set.clone()).await.expect("a commit");
    let mut feed = store.feed();
    // Of a master that no client can reach, so that it keeps its data.
    let _: String = raw(&options, &[b"REPLICAOF", b"127.0.0.1", b"1"]).await;
    let (other, set) = creation(&store, "two", "x");
    assert!(is_away(commit(&store, set.clone()).await));
    let error = store.get(&[key]).await.expect_err("nothing old");
    assert!(matches!(&error, StoreError::Away(text) if text.contains("replica")), "{error}");
    assert_eq!(store.answering_since(Partition(0)), None);
    assert!(matches!(refusal(&options).await, OpenError::Unreachable { .. }));

    let _: String = raw(&options, &[b"REPLICAOF", b"NO", b"ONE"]).await;
    assert_eq!(next_gap(&mut feed).await, [Partition(0)]);
    assert_eq!(value(&store, other).await, None);
    commit(&store, set).await.expect("a commit");
}

#[tokio::test]
async fn a_full_redis_refuses_what_grows_and_takes_what_begins_by_removing() {
    let server = TestServer::start(&[]);
    let options = Options { partitions: 1, ..options(&server) };
    let store = open(&options).await;
    let (key, mut set) = creation(&store, "one", "x");
    set.additions.push(entry(key, "a"));
    let revision = commit(&store, set).await.expect("a commit");
    let _: String = raw(&options, &[b"CONFIG", b"SET", b"maxmemory", b"1"]).await;

    let (other, growth) = creation(&store, "two", "x");
    let results = store.commit(vec![update(&store, key, revision, "y"), growth.clone()]).await;
    for result in &results {
        assert!(
            matches!(result, Err(CommitError::Unavailable(StoreError::Unfit(text))) if text.contains("out of memory")),
            "{result:?}"
        );
    }
    assert_eq!(value(&store, key).await.as_deref(), Some(&b"x"[..]));
    assert_eq!(value(&store, other).await, None);
    assert_eq!(store.answering_since(Partition(0)), None);

    // A refused set does not prevent one that frees memory.
    let mut removal = update(&store, key, revision, "z");
    removal.removals.push(entry(key, "a"));
    let results = store.commit(vec![growth.clone(), removal]).await;
    assert!(matches!(results[..], [Err(_), Ok(_)]), "{results:?}");
    // A set that frees memory does not let a later one pass either.
    let revision = results[1].as_ref().expect("a commit").revision;
    let mut removal = update(&store, key, revision, "z");
    removal.removals.push(entry(key, "a"));
    let results = store.commit(vec![removal, growth]).await;
    assert!(matches!(results[..], [Ok(_), Err(_)]), "{results:?}");
    assert_eq!(value(&store, key).await.as_deref(), Some(&b"z"[..]));
    assert_eq!(value(&store, other).await, None);
}

#[tokio::test]
async fn a_redis_that_forgot_the_script_learns_it_again() {
    let server = TestServer::start(&[]);
    let options = options(&server);
    let store = open(&options).await;
    for name in ["one", "two"] {
        commit(&store, creation(&store, name, "x").1).await.expect("a commit");
        let _: String = raw(&options, &[b"SCRIPT", b"FLUSH"]).await;
    }
    let sets = (0..40).map(|number| creation(&store, &number.to_string(), "x").1).collect();
    assert!(store.commit(sets).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_newer_format_and_foreign_data_are_refused() {
    let options = options(&SHARED);
    let root = keys::root(&options.prefix);
    let _: String = raw(&options, &[b"SET", &root, b"something else"]).await;
    assert!(matches!(refusal(&options).await, OpenError::Format(_)));
    // Field 2 of the root record is its format.
    let _: String = raw(&options, &[b"SET", &root, b"longhaul\0\x10\x63"]).await;
    let error = refusal(&options).await;
    assert!(matches!(&error, OpenError::Format(text) if text.contains("format 99")), "{error}");
}

#[tokio::test]
async fn settings_that_lose_data_are_refused_by_name() {
    let server = TestServer::start(&["--maxmemory-policy", "allkeys-lru"]);
    let options = options(&server);
    let error = refusal(&options).await;
    assert!(
        matches!(&error, OpenError::Unsafe(text) if text.contains("maxmemory-policy is allkeys-lru")),
        "{error}"
    );
    let _: String = raw(&options, &[b"CONFIG", b"SET", b"maxmemory-policy", b"noeviction"]).await;
    assert_eq!(open(&options).await.durability(), Durability::Memory);

    let strict = Options { durability: Some(Durability::Fsync), ..options.clone() };
    for (name, wrong, right) in [
        ("appendonly", "no", "yes"),
        ("appendfsync", "everysec", "always"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
    ] {
        let _: String =
            raw(&options, &[b"CONFIG", b"SET", name.as_bytes(), wrong.as_bytes()]).await;
        let error = refusal(&strict).await;
        assert!(matches!(&error, OpenError::Unsafe(text) if text.contains(name)), "{error}");
        let _: String =
            raw(&options, &[b"CONFIG", b"SET", name.as_bytes(), right.as_bytes()]).await;
    }
    assert_eq!(open(&strict).await.durability(), Durability::Fsync);
}

#[tokio::test]
async fn where_config_is_forbidden_the_stated_level_holds_and_credentials_stay_secret() {
    let mut server =
        TestServer::start(&["--user", "guest", "on", ">s3cret", "~*", "&*", "+@all", "-config"]);
    let mut options = options(&server);
    options.url = server.url_as("guest", "s3cret");
    assert_eq!(open(&options).await.durability(), Durability::Memory);
    options.durability = Some(Durability::Fsync);
    let store = open(&options).await;
    assert_eq!(store.durability(), Durability::Fsync);

    let wrong = Options { url: server.url_as("guest", "wr0ng"), ..options.clone() };
    let error = refusal(&wrong).await;
    assert!(matches!(error, OpenError::Address(_)), "{error}");
    server.kill();
    let away = store.ping().await.expect_err("away");
    let unreachable = refusal(&options).await;
    let nonsense =
        refusal(&Options { url: "redis://guest:s3cret@host:port/".to_owned(), ..options.clone() })
            .await;
    for text in [
        error.to_string(),
        away.to_string(),
        unreachable.to_string(),
        nonsense.to_string(),
        format!("{options:?}"),
    ] {
        assert!(
            !text.contains("s3cret") && !text.contains("wr0ng") && !text.contains("guest"),
            "{text}"
        );
    }
}
