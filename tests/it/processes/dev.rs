//! `longhaul dev`: commands to type, and a sample worker that finishes what they start.

use longhaul::proto::google::longrunning::operation;
use longhaul::proto::longhaul::v1::watch_operation_response::Type;

use super::binary::Longhaul;
use super::bounds::soon;
use super::redis::Redis;

#[tokio::test]
async fn dev_tells_what_to_type_and_its_worker_finishes_it_on_the_embedded_store() {
    let folder = tempfile::tempdir().expect("a folder");
    finishes_what_it_tells_to_start(&format!("embedded:{}", folder.path().display())).await;
}

#[tokio::test]
async fn dev_tells_what_to_type_and_its_worker_finishes_it_on_redis() {
    let redis = Redis::forgetful();
    finishes_what_it_tells_to_start(&redis.url()).await;
}

#[tokio::test]
async fn dev_without_a_store_keeps_its_data_in_a_place_of_its_own() {
    let home = tempfile::tempdir().expect("a folder");
    let environment = [("XDG_DATA_HOME", home.path().to_str().expect("a path"))];
    let server = Longhaul::launch_with(&["dev", "--listen", "127.0.0.1:0"], &environment);
    server.says("longhaul is ready at").await;
    assert!(home.path().join("longhaul/dev/database").is_dir());
}

async fn finishes_what_it_tells_to_start(store: &str) {
    let mut server = Longhaul::launch(&["dev", "--listen", "127.0.0.1:0", "--store", store]);
    server.says("Ctrl-C stops the server").await;
    let address = server.address();
    for command in [
        format!(
            r#"-d '{{"operation_id": "first", "queue": "demo"}}' {address} longhaul.v1.Producers/StartOperation"#
        ),
        format!(
            r#"-d '{{"name": "operations/first"}}' {address} longhaul.v1.Callers/WatchOperation"#
        ),
        format!(
            r#"-d '{{"name": "operations/first"}}' {address} google.longrunning.Operations/WaitOperation"#
        ),
        format!("{address} google.longrunning.Operations/ListOperations"),
        format!(
            r#"-d '{{"name": "operations/first"}}' {address} google.longrunning.Operations/CancelOperation"#
        ),
    ] {
        let line = format!("  grpcurl -plaintext {command}");
        assert!(
            server.output().lines().any(|printed| printed == line),
            "no {line:?} in:\n{}",
            server.output()
        );
    }

    let client = server.client();
    client.start("first", "demo").await.expect("a start");
    let mut watcher = client.watch("first").await.expect("a watch");
    let progress = watcher.until(Type::Update).await.server_metadata.expect("metadata");
    assert!(progress.end_time.is_none());
    let end = watcher.until(Type::Done).await.operation.expect("an operation");
    assert!(matches!(end.result, Some(operation::Result::Response(_))), "{end:?}");
    server.signal("-INT");
    assert_eq!(soon("the end of dev", server.ended()).await.code(), Some(0));
}
