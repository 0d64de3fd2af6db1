//! Redis that answers but takes no writes, or may lose them.

use super::*;
use crate::store::{Durability, FORMAT};

const USER: [&str; 6] = ["--user", "guest", "on", ">s3cret", "~*", "&*"];

fn unfit<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Unfit(why)) => why,
        other => panic!("not unfit: {other:?}"),
    }
}

async fn refused(store: &RedisStore, set: WriteSet) -> String {
    match commit(store, set).await {
        Err(CommitError::Unavailable(StoreError::Unfit(why))) => why,
        other => panic!("not refused: {other:?}"),
    }
}

/// Waits until a condition holds that depends on the next check of Redis.
async fn seen(what: &str, holds: impl Fn() -> bool) {
    let clock = SystemClock::new();
    let waiting = async {
        while !holds() {
            clock.sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect(what);
}

async fn set(options: &Options, name: &str, value: &str) {
    let _: String = raw(options, &[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()]).await;
}

#[tokio::test]
async fn a_missing_permission_is_named_when_the_store_is_opened() {
    let server = TestServer::start(&[&USER[..], &["+@all"]].concat());
    let (admin, mut guest) = (options(&server), options(&server));
    guest.url = server.url_as("guest", "s3cret");
    open(&guest).await;
    for command in [
        "TIME",
        "MGET",
        "GETRANGE",
        "MSET",
        "ZADD",
        "HINCRBY",
        "HDEL",
        "ZREM",
        "PUBLISH",
        "UNLINK",
        "ZRANGE",
        "HMGET",
        "HSCAN",
        "EVAL",
        "EVALSHA",
        "INFO",
        "SUBSCRIBE",
    ] {
        let denied = format!("-{}", command.to_lowercase());
        let _: String =
            raw(&admin, &[b"ACL", b"SETUSER", b"guest", b"+@all", denied.as_bytes()]).await;
        let error = refusal(&guest).await;
        let said = format!("does not let its user run {command};");
        assert!(
            matches!(&error, OpenError::Address(text) if text.contains(&said)),
            "{command}: {error:?}"
        );
        assert!(!error.to_string().contains("guest"), "{error}");
    }
    let acl = async |rules: &[&[u8]]| {
        let words: Vec<&[u8]> = [&[&b"ACL"[..], b"SETUSER", b"guest"], rules].concat();
        let _: String = raw(&admin, &words).await;
    };
    acl(&[b"+@all", b"resetchannels"]).await;
    assert!(refusal(&guest).await.to_string().contains("use the channel of hints"));
    acl(&[b"allchannels", b"resetkeys", b"~other:*"]).await;
    assert!(refusal(&guest).await.to_string().contains("use the keys with this prefix"));
    acl(&[b"allkeys"]).await;
    open(&guest).await;
}

#[tokio::test]
async fn a_ping_fails_while_no_write_can_succeed_and_says_why() {
    let server = TestServer::start(&[&USER[..], &["+@all"]].concat());
    let admin = options(&server);
    let guest = Options { url: server.url_as("guest", "s3cret"), ..admin.clone() };
    let store = open(&guest).await;
    store.ping().await.expect("fit");
    for (name, bad, good, said) in [
        ("maxmemory", "1", "0", "out of memory"),
        ("min-replicas-to-write", "1", "0", "min-replicas-to-write"),
    ] {
        set(&admin, name, bad).await;
        let why = unfit(store.ping().await);
        assert!(why.contains(said), "{why}");
        // Full or not, it can be opened: stored records may be finished and deleted.
        open(&guest).await;
        set(&admin, name, good).await;
        store.ping().await.expect("fit again");
    }

    let (key, creation) = creation(&store, "one", "x");
    let revision = commit(&store, creation.clone()).await.expect("a commit");
    for command in ["unlink", "evalsha"] {
        let denied = format!("-{command}");
        let _: String = raw(&admin, &[b"ACL", b"SETUSER", b"guest", denied.as_bytes()]).await;
        let said = format!("run {};", command.to_uppercase());
        let why = unfit(store.ping().await);
        assert!(why.contains(&said), "{why}");
        // Without UNLINK, a commit would be applied in part.
        let mut end = WriteSet::new(creation.partition, Check::At(key, revision));
        end.deletes.push(key);
        assert!(refused(&store, end).await.contains(&said));
        let _: String = raw(&admin, &[b"ACL", b"SETUSER", b"guest", b"+@all"]).await;
        store.ping().await.expect("fit again");
    }
    commit(&store, update(&store, key, revision, "y")).await.expect("a commit");
}

#[tokio::test]
async fn a_ping_fails_while_redis_cannot_save_to_its_disk() {
    let server = TestServer::start(&[]);
    let options = options(&server);
    let store = open(&options).await;
    let (_, folder): (String, String) = raw(&options, &[b"CONFIG", b"GET", b"dir"]).await;
    std::fs::remove_dir_all(folder).expect("removed");
    set(&options, "save", "900 1").await;
    let _: String = raw(&options, &[b"BGSAVE"]).await;
    let failed = async {
        loop {
            let info: String = raw(&options, &[b"INFO", b"persistence"]).await;
            if info.contains("rdb_last_bgsave_status:err") {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.expect("a failed save");
    let why = unfit(store.ping().await);
    assert!(why.contains("cannot save to its disk"), "{why}");
}

#[tokio::test]
async fn nothing_is_written_while_the_eviction_policy_may_lose_it() {
    let server = TestServer::start(&[]);
    let options = options(&server);
    let store = open(&options).await;
    let (key, first) = creation(&store, "one", "x");
    let (_, second) = creation(&store, "two", "x");
    let partition = first.partition;
    commit(&store, first).await.expect("a commit");

    set(&options, "maxmemory-policy", "allkeys-lru").await;
    seen("the policy", || store.answering_since(partition).is_none()).await;
    let why = unfit(store.ping().await);
    assert!(why.contains("maxmemory-policy is allkeys-lru; set it to noeviction"), "{why}");
    assert_eq!(refused(&store, second.clone()).await, why);
    assert_eq!(value(&store, key).await.as_deref(), Some(&b"x"[..]));
    // After a lost connection too.
    let _: u64 = raw(&options, &[b"CLIENT", b"KILL", b"SKIPME", b"yes"]).await;
    assert_eq!(unfit(store.ping().await), why);

    set(&options, "maxmemory-policy", "noeviction").await;
    seen("the policy", || store.answering_since(partition).is_some()).await;
    store.ping().await.expect("fit again");
    commit(&store, second).await.expect("a commit");
}

#[tokio::test]
async fn a_durability_that_is_lowered_while_the_server_runs_is_noticed() {
    let server = TestServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let options = options(&server);
    let strict = Options { durability: Some(Durability::Fsync), ..options.clone() };
    let (store, strict) = (open(&options).await, open(&strict).await);
    set(&options, "appendfsync", "everysec").await;
    seen("the level", || store.durability() == Durability::Memory).await;
    seen("the level", || strict.answering_since(Partition(0)).is_none()).await;
    store.ping().await.expect("less durable, as nothing else was asked for");
    commit(&store, creation(&store, "one", "x").1).await.expect("a commit");
    let why = refused(&strict, creation(&strict, "two", "x").1).await;
    assert!(why.contains("appendfsync is \"everysec\"; set it to \"always\""), "{why}");
    assert_eq!(unfit(strict.ping().await), why);

    set(&options, "appendfsync", "always").await;
    seen("the level", || store.durability() == Durability::Fsync).await;
    seen("the level", || strict.answering_since(Partition(0)).is_some()).await;
    commit(&strict, creation(&strict, "two", "x").1).await.expect("a commit");
}

#[tokio::test]
async fn a_running_store_notices_within_seconds_that_it_is_too_old_to_write() {
    let options = options(&SHARED);
    let (old, upgrading) = (open(&options).await, open(&options).await);
    let (key, creation) = creation(&old, "one", "x");
    let revision = commit(&old, creation).await.expect("a commit");
    upgrading.raise_min_writer(FORMAT).await.expect("raised");
    assert_eq!(upgrading.keyspace().min_writer(), FORMAT, "nothing to raise");
    upgrading.raise_min_writer(FORMAT + 1).await.expect("raised");

    seen("the minimum", || old.keyspace().min_writer() == FORMAT + 1).await;
    seen("the refusal", || old.answering_since(Partition(0)).is_none()).await;
    for store in [&old, &upgrading] {
        let mut change = WriteSet::new(store.keyspace().partition(key), Check::At(key, revision));
        change.deletes.push(key);
        let why = match commit(store, change).await {
            Err(CommitError::Unavailable(error)) => unfit::<()>(Err(error)),
            other => panic!("{other:?}"),
        };
        assert!(why.contains("at least format 2") && why.contains("run a newer one"), "{why}");
        assert!(unfit(store.ping().await).contains("format 2"));
        assert_eq!(store.get(&[key]).await.expect("reads go on").len(), 1);
    }
    assert!(matches!(refusal(&options).await, OpenError::Format(_)));
}
