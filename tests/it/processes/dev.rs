//! `longhaul dev`: the printed commands, and a sample worker that finishes the operations they start.

use longhaul::proto::DESCRIPTORS;
use longhaul::proto::google::longrunning::operation;
use longhaul::proto::longhaul::v1::OperationMetadata;
use longhaul::proto::longhaul::v1::operation_record::State;
use longhaul::proto::longhaul::v1::watch_operation_response::Type;

use prost::Message;

use super::binary::Longhaul;
use super::bounds::{eventually, soon};
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

#[tokio::test]
async fn the_first_command_that_dev_prints_works_again_and_several_are_worked_on_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("embedded:{}", folder.path().display());
    for _day in 0..2 {
        let server = Longhaul::launch(&["dev", "--listen", "127.0.0.1:0", "--store", &store]);
        server.says("Ctrl-C stops the server").await;
        let printed = server.output().clone();
        let first = printed.lines().find_map(|line| line.strip_prefix("  ")).expect("a command");
        let mut twice = [Longhaul::type_in(first), Longhaul::type_in(first)];
        let client = server.client();
        let running = || async {
            let records = client.list_all().await.into_iter();
            let metadata = records.filter_map(|operation| operation.metadata);
            let states = metadata.filter_map(|any| OperationMetadata::decode(&*any.value).ok());
            let running = states.filter(|metadata| metadata.state() == State::Running).count();
            (running == 2).then_some(())
        };
        eventually("two that run at once", running).await;
        for command in &mut twice {
            assert!(command.ended().await.success(), "{first}: {}", command.output());
        }
    }
}

#[tokio::test]
async fn dev_forgets_what_is_ephemeral() {
    let home = tempfile::tempdir().expect("a folder");
    let path = home.path().to_str().expect("a path");
    let environment = [("XDG_DATA_HOME", path), ("TMPDIR", path)];
    let args = ["dev", "--listen", "127.0.0.1:0", "--ephemeral"];
    let mut server = Longhaul::launch_with(&args, &environment);
    server.says("deletes its operations").await;
    server.client().start("one", "q").await.expect("a start");
    server.signal("-INT");
    assert_eq!(soon("the end of dev", server.ended()).await.code(), Some(0));
    assert_eq!(std::fs::read_dir(home.path()).expect("a folder").count(), 0);

    let again = Longhaul::launch_with(&args, &environment);
    again.says("deletes its operations").await;
    assert!(again.client().list_all().await.is_empty());
}

async fn finishes_what_it_tells_to_start(store: &str) {
    let mut server = Longhaul::launch(&["dev", "--listen", "127.0.0.1:0", "--store", store]);
    server.says("Ctrl-C stops the server").await;
    let address = server.address().to_string();
    let printed = server.output().clone();
    let commands: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert!(commands.len() > 5, "{printed}");
    assert!(commands.iter().all(|command| command.contains(&address)), "{printed}");
    // Operations of an earlier run still exist.
    assert!(!printed.contains("--operation-id") && !printed.contains("operation_id"), "{printed}");

    // A worker command runs in the background; all others end by themselves, and well.
    let (mut beside, mut name) = (Vec::new(), String::new());
    for command in &commands {
        if command.starts_with("grpcurl ") {
            names_a_method(command);
        } else if command.starts_with("longhaul work ") {
            beside.push(Longhaul::type_in(command));
        } else if let Some(start) = command.strip_prefix("NAME=$(") {
            let mut process = Longhaul::type_in(start.trim_end_matches(')'));
            assert!(process.ended().await.success(), "{command}: {}", process.output());
            process.output().trim().clone_into(&mut name);
        } else {
            let mut process = Longhaul::type_in(&command.replace("$NAME", &name));
            let status = process.ended().await;
            assert!(status.success(), "{command}: {}", process.output());
        }
    }
    assert!(!beside.is_empty(), "{printed}");
    drop(beside);

    let client = server.client();
    // The start by curl does not wait for its operation.
    let ended = || async {
        let operations = client.list_all().await;
        (operations.len() > 1 && operations.iter().all(|operation| operation.done)).then_some(())
    };
    eventually("the end of all operations", ended).await;
    client.start("last", "demo").await.expect("a start");
    let mut watcher = client.watch("last").await.expect("a watch");
    let progress = watcher.until(Type::Update).await.server_metadata.expect("metadata");
    assert!(progress.end_time.is_none());
    let end = watcher.until(Type::Done).await.operation.expect("an operation");
    assert!(matches!(end.result, Some(operation::Result::Response(_))), "{end:?}");
    server.signal("-INT");
    assert_eq!(soon("the end of dev", server.ended()).await.code(), Some(0));
}

/// Whether the last word is a method that the server has.
fn names_a_method(command: &str) {
    let method = command.split_whitespace().last().and_then(|word| word.split_once('/'));
    let (service, method) = method.unwrap_or_else(|| panic!("no method in {command:?}"));
    let (_, service) = service.rsplit_once('.').expect("a package");
    for name in [service, method] {
        let known = DESCRIPTORS.windows(name.len()).any(|bytes| bytes == name.as_bytes());
        assert!(known, "no {name} for {command:?}");
    }
}
