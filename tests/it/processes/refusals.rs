//! Starts that must fail, and their errors.

use std::net::TcpListener;
use std::path::Path;

use super::binary::Longhaul;
use super::redis::{DURABLE, Redis};

/// Runs `serve` where it must refuse: with exit code 1, naming all of `parts`, and showing no password.
async fn refused(args: &[&str], parts: &[&str]) {
    refused_in(args, &[], parts).await;
}

async fn refused_in(args: &[&str], environment: &[(&str, &str)], parts: &[&str]) {
    let args = [&["serve"], args].concat();
    let refusal = Longhaul::refusal_with(&args, environment).await;
    assert_eq!(refusal.code, Some(1), "{args:?}: {}", refusal.output);
    for part in parts {
        assert!(refusal.output.contains(part), "{args:?}: no {part:?} in: {}", refusal.output);
    }
    for secret in ["s3cret", "wr0ng"] {
        assert!(!refusal.output.contains(secret), "{args:?}: {}", refusal.output);
    }
}

fn embedded(path: &Path) -> String {
    format!("embedded:{}", path.display())
}

const ANYWHERE: &str = "127.0.0.1:0";

#[tokio::test]
async fn settings_that_cannot_be_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = embedded(&folder.path().join("data"));
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, "stoer = \"embedded:x\"\n").expect("written");
    let file = file.to_str().expect("a path");
    let nowhere = folder.path().join("none.toml");
    let nowhere = nowhere.to_str().expect("a path");

    let open = ["--listen", "0.0.0.0:0", "--store", &store];
    refused(&open, &["0.0.0.0:0", "--insecure", "127.0.0.1"]).await;
    refused(&["--listen", "somewhere", "--store", &store], &["listen", "somewhere"]).await;
    refused(&["--config", file], &["stoer"]).await;
    refused(&["--config", nowhere], &["cannot read", nowhere]).await;
    refused_in(&[], &[("LONGHAUL_LISTNE", "x")], &["LONGHAUL_LISTNE", "LONGHAUL_LISTEN"]).await;
    refused_in(&[], &[("LONGHAUL_REDIS_PREFIX", "x")], &["LONGHAUL_REDIS__PREFIX"]).await;
    for url in ["postgres://user:s3cret@host", "data", "embedded:"] {
        refused(&["--listen", ANYWHERE, "--store", url], &["embedded:"]).await;
    }
    let url = "redis://user:s3cret@host:port/";
    refused(&["--listen", ANYWHERE, "--store", url], &["redis URL"]).await;
    let level = ["--listen", ANYWHERE, "--store", &store, "--durability", "replica"];
    refused(&level, &["redis.durability", "replica"]).await;
    refused(
        &["--listen", ANYWHERE, "--store", &store, "--keyspace", "mine"],
        &["keyspace", "mine"],
    )
    .await;

    // With --insecure it is the operator's decision.
    let server =
        Longhaul::launch(&["serve", "--listen", "0.0.0.0:0", "--store", &store, "--insecure"]);
    server.says(" serving ").await;
}

#[tokio::test]
async fn what_others_put_into_the_environment_is_ignored_with_one_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = [
        ("LONGHAUL_PORT", "tcp://10.0.0.7:50051"),
        ("LONGHAUL_SERVICE_HOST", "10.0.0.7"),
        ("LONGHAUL_SERVICE_PORT_GRPC", "50051"),
        ("LONGHAUL_PORT_50051_TCP_ADDR", "10.0.0.7"),
        // Of `longhaul work`, which may run a server as its program.
        ("LONGHAUL_METHOD", "serve"),
        ("LONGHAUL_OPERATION", "operations/x"),
    ];
    let server = Longhaul::serve_in(&embedded(folder.path()), &[], &environment).await;
    let output = server.output();
    let warnings: Vec<&str> = output.lines().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(warnings.len(), 1, "{output}");
    assert!(warnings[0].contains("LONGHAUL_PORT ") && !output.contains("METHOD"), "{output}");
}

#[tokio::test]
async fn a_server_listens_where_a_name_leads_and_says_what_to_do_where_none_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = embedded(folder.path());
    let args = ["serve", "--listen", "localhost:0", "--store", &store];
    let server = Longhaul::launch(&args);
    server.says(" serving ").await;
    assert!(server.address().ip().is_loopback());
    for (listen, part) in [
        ("nowhere.invalid:1", "such as 127.0.0.1:50051"),
        (":50051", "0.0.0.0:50051"),
        ("127.0.0.1:http", "a number up to 65535"),
    ] {
        refused(&["--listen", listen, "--store", &store], &["listen", listen, part]).await;
    }
    let elsewhere = ["--listen", "192.0.2.1:1", "--store", &store, "--insecure"];
    refused(&elsewhere, &["cannot listen on 192.0.2.1:1", "no such address", "--listen"]).await;
}

#[tokio::test]
async fn a_port_in_use_and_a_directory_in_use_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = embedded(folder.path());
    let taken = TcpListener::bind(ANYWHERE).expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    refused(
        &["--listen", &address, "--store", &store],
        &["cannot listen on", &address, "in use", "name another port"],
    )
    .await;

    let server = Longhaul::serve(&store).await;
    let path = folder.path().to_str().expect("a path");
    let parts = ["another longhaul has", path, "open", "name another directory"];
    refused(&["--listen", ANYWHERE, "--store", &store], &parts).await;
    server.client().start("still", "there").await.expect("the first one serves on");
}

#[tokio::test]
async fn a_directory_that_is_not_ours_or_of_another_kind_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("thesis.txt"), "precious").expect("written");
    let store = embedded(folder.path());
    refused(
        &["--listen", ANYWHERE, "--store", &store],
        &["thesis.txt", "an empty or a new directory"],
    )
    .await;
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);

    // Another keyspace than the existing one, and one where there is none.
    let named = folder.path().join("named");
    let store = embedded(&named);
    let mut server = Longhaul::serve(&store).await;
    let found = server.logged("keyspace");
    server.kill();
    let other = ["--listen", ANYWHERE, "--store", &store, "--keyspace", OTHER];
    refused(&other, &[&found, OTHER, "leave --keyspace out"]).await;
    let empty = embedded(&folder.path().join("empty"));
    refused(&["--listen", ANYWHERE, "--store", &empty, "--keyspace", OTHER], &["none", OTHER])
        .await;
    let same = Longhaul::serve_with(&store, &["--keyspace", &found]).await;
    assert_eq!(same.logged("keyspace"), found);
    drop(same);

    // A newer format, as another version would write it.
    let database = fjall::Database::builder(named.join("database")).open().expect("a database");
    let meta = database.keyspace("meta", fjall::KeyspaceCreateOptions::default).expect("meta");
    meta.insert("root", FORMAT_99).expect("written");
    database.persist(fjall::PersistMode::SyncAll).expect("synced");
    drop((meta, database));
    refused(&["--listen", ANYWHERE, "--store", &store], &["format 99", "run a newer one"]).await;
}

#[tokio::test]
async fn a_redis_that_would_lose_data_or_holds_something_else_is_named() {
    let redis = Redis::with(&["--maxmemory-policy", "allkeys-lru"]);
    let (url, address) = (redis.url(), redis.address());
    let args = ["--listen", ANYWHERE, "--store", &url];
    refused(&args, &[&address, "maxmemory-policy is allkeys-lru", "noeviction"]).await;
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);

    let strict = [&args[..], &["--durability", "fsync"]].concat();
    refused(&strict, &[&address, "appendonly", "durability memory"]).await;
    let named = [&args[..], &["--keyspace", OTHER]].concat();
    refused(&named, &["holds keyspace none", OTHER]).await;

    // None of these attempts has left a key behind.
    assert_eq!(redis.command::<u64>(&["DBSIZE"]), 0);
    let server = Longhaul::serve(&url).await;
    let found = server.logged("keyspace");
    refused(&named, &[&found, OTHER, "leave --keyspace out"]).await;

    let _: String = redis.command(&["SET", "other:root", "something else"]);
    let other = [("LONGHAUL_REDIS__PREFIX", "other:")];
    refused_in(&args, &other, &["longhaul did not write", "choose another prefix"]).await;
    let format = std::str::from_utf8(FORMAT_99).expect("a text");
    let _: String = redis.command(&["SET", "other:root", format]);
    refused_in(&args, &other, &["format 99", "run a newer one"]).await;
}

#[tokio::test]
async fn a_redis_that_syncs_is_served_at_that_level() {
    let redis = Redis::with(&DURABLE);
    let server = Longhaul::serve_with(&redis.url(), &["--durability", "fsync"]).await;
    assert_eq!(server.logged("durability"), "fsync");
    let memory = Redis::forgetful();
    assert_eq!(Longhaul::serve(&memory.url()).await.logged("durability"), "memory");
}

#[tokio::test]
async fn the_password_of_a_redis_is_never_shown() {
    let redis = Redis::with(&["--user", "guest", "on", ">s3cret", "~*", "&*", "+@all"]);
    let wrong = redis.url_as("guest", "wr0ng");
    let address = redis.address();
    refused(&["--listen", ANYWHERE, "--store", &wrong], &[&address, "credentials"]).await;
    // Waiting does not help against that.
    let args = ["--listen", ANYWHERE, "--store", &wrong, "--wait-for-store"];
    refused(&args, &[&address, "credentials"]).await;

    let right = redis.url_as("guest", "s3cret");
    let environment = [("LONGHAUL_STORE", right.as_str()), ("LONGHAUL_LOG", "trace")];
    let mut server = Longhaul::launch_with(&["serve", "--listen", ANYWHERE], &environment);
    server.says(" serving ").await;
    server.client().start("one", "queue").await.expect("a start");
    redis.cut_connections();
    server.says("listening again").await;
    server.signal("-TERM");
    assert!(server.ended().await.success());
    let output = server.output();
    assert!(!output.contains("s3cret") && output.contains("redis://***@"), "{output}");
}

const OTHER: &str = "00000000-0000-4000-8000-000000000000";
/// A root record with 99 in field 2, the format.
const FORMAT_99: &[u8] = b"longhaul\0\x10\x63";
