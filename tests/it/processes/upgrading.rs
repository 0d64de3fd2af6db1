//! `longhaul upgrade` and its `--check`, on stores that are in use, missing, current, older and newer.

use std::path::Path;
use std::sync::Arc;

use longhaul::proto::longhaul::store::v1::Root;
use longhaul::record::server::{ServerId, ServerRecord};
use longhaul::record::{self, Change, write_set};
use longhaul::store::embedded::{self, EmbeddedStore};
use longhaul::store::redis::{self, RedisStore};
use longhaul::store::{FORMAT, Store};
use prost::Message;

use super::binary::{Longhaul, Refusal};
use super::bounds::eventually;
use super::redis::Redis;

/// Runs `longhaul upgrade`, with `--check` or without.
async fn upgrade(store: &str, check: bool) -> Refusal {
    let args = ["upgrade", "--store", store, "--check"];
    Longhaul::refusal(&args[..if check { 4 } else { 3 }]).await
}

/// Upgrades where all of `parts` must be said.
async fn upgraded(store: &str, check: bool, parts: &[&str]) {
    ended(&upgrade(store, check).await, 0, parts);
}

/// Upgrades where it must be refused, with and without `--check`.
async fn refused(store: &str, parts: &[&str]) {
    for check in [true, false] {
        ended(&upgrade(store, check).await, 1, parts);
    }
}

fn ended(ended: &Refusal, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.output);
    for part in parts {
        assert!(ended.output.contains(part), "no {part:?} in: {}", ended.output);
    }
}

fn embedded(path: &Path) -> String {
    format!("embedded:{}", path.display())
}

fn open(path: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(embedded::Options::new(path, record::layout())).expect("the store")
}

/// A root record as a version before the first would have written it, with the minimum at 0.
fn older(root: &[u8]) -> Vec<u8> {
    let body = root.strip_prefix(MAGIC).expect("a root record");
    let root = Root { format: 0, min_writer: 0, ..Root::decode(body).expect("a root record") };
    [MAGIC, &root.encode_to_vec()].concat()
}

#[tokio::test]
async fn there_is_nothing_to_upgrade_in_a_store_of_this_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = embedded(folder.path());
    let mut server = Longhaul::serve(&store).await;
    let keyspace = server.logged("keyspace");
    // What a killed server leaves behind does not count as a server that runs.
    server.kill();
    for check in [true, false] {
        let nothing = ["format 1 and newer", &keyspace, "there is nothing to upgrade"];
        upgraded(&store, check, &nothing).await;
        let said = upgrade(&store, check).await.output;
        assert!(!said.contains("server ") && !said.contains("raised"), "{said}");
    }
    assert_eq!(Longhaul::serve(&store).await.logged("keyspace"), keyspace);
}

#[tokio::test]
async fn a_directory_that_a_server_has_open_is_not_upgraded() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = embedded(folder.path());
    let server = Longhaul::serve(&store).await;
    let path = folder.path().to_str().expect("a path");
    refused(&store, &["a server has", path, "stop it", "then start the new version"]).await;
    server.client().start("still", "there").await.expect("the server is not disturbed");
}

#[tokio::test]
async fn where_there_is_no_store_none_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing");
    refused(&embedded(&missing), &["there is no store in", "missing", "--store"]).await;
    assert!(!missing.exists());
    refused(&embedded(folder.path()), &["there is no store in"]).await;
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);

    let redis = Redis::forgetful();
    refused(&redis.url(), &["there is no store in", &redis.address(), "lh:", "redis.prefix"]).await;
    assert_eq!(redis.command::<u64>(&["DBSIZE"]), 0);
}

#[tokio::test]
async fn an_embedded_store_of_an_older_format_is_upgraded_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let root = older(&store.keyspace().encode());
    store.close().await;
    let database = fjall::Database::builder(folder.path().join("database")).open();
    let database = database.expect("a database");
    let meta = database.keyspace("meta", fjall::KeyspaceCreateOptions::default).expect("meta");
    meta.insert("root", root).expect("written");
    database.persist(fjall::PersistMode::SyncAll).expect("synced");
    drop((meta, database));

    let store = embedded(folder.path());
    for _ in 0..2 {
        upgraded(&store, true, &["format 0 and newer", "an upgrade raises this to format 1"]).await;
    }
    upgraded(&store, false, &["raised to format 1"]).await;
    upgraded(&store, false, &["format 1 and newer", "there is nothing to upgrade"]).await;
}

#[tokio::test]
async fn an_embedded_store_that_a_newer_version_upgraded_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.raise_min_writer(FORMAT + 1).await.expect("raised");
    store.close().await;
    let again = EmbeddedStore::open(embedded::Options::new(folder.path(), record::layout()));
    let text = again.expect_err("too new").to_string();
    assert!(text.contains("format 2") && text.contains("run a newer one"), "{text}");
    let path = folder.path().to_str().expect("a path");
    let parts = [path, "is stored in format 2", "this longhaul writes format 1", "run a newer one"];
    refused(&embedded(folder.path()), &parts).await;
    let args = ["serve", "--listen", "127.0.0.1:0", "--store", &embedded(folder.path())];
    ended(&Longhaul::refusal(&args).await, 1, &parts);
}

#[tokio::test]
async fn a_redis_is_upgraded_beside_its_servers_unless_one_is_of_an_older_version() {
    let redis = Redis::forgetful();
    let url = redis.url();
    let server = Longhaul::serve(&url).await;
    let this = format!("{}, writes format 1", env!("CARGO_PKG_VERSION"));
    upgraded(&url, true, &["server ", &this, "there is nothing to upgrade"]).await;
    let root: Vec<u8> = redis.command(&["GET", "lh:root"]);
    redis.set("lh:root", &older(&root));

    // A server that does not say which format it writes.
    let options = redis::Options { create: false, ..redis::Options::new(url.clone()) };
    let store = RedisStore::open(options).await.expect("the keyspace");
    let id = ServerId([9; 8]);
    let old = ServerRecord::unknown(id.key());
    let set = write_set(store.keyspace(), id.key(), None, &Change::of(Some(old)));
    store.commit(vec![set]).await.remove(0).expect("a sign of life");
    store.close().await;
    let check = upgrade(&url, true).await;
    ended(&check, 0, &["0909090909090909 does not say", "replace or stop it", "to format 1"]);
    // It counts as gone after 6 s without a sign of life; until then the upgrade is refused.
    let said = eventually("the old server to count as gone", || async {
        let ended = upgrade(&url, false).await;
        let refused = ended.output.contains("not upgraded: running servers of an older version: 1");
        assert_eq!(ended.code, Some(i32::from(refused)), "{}", ended.output);
        (!refused).then_some(ended.output)
    });
    assert!(said.await.contains("raised to format 1"));
    upgraded(&url, false, &["server ", "there is nothing to upgrade"]).await;
    assert_eq!(redis.command::<Vec<u8>>(&["GET", "lh:root"]), root);
    server.client().start("still", "there").await.expect("the server goes on");
}

const MAGIC: &[u8] = b"longhaul\0";
