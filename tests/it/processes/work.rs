//! `longhaul work`: what becomes of the program, and of the worker, when somebody cancels, and when the server is killed.

use std::time::Duration;

use longhaul::proto::google::longrunning::{Operation, operation};
use tonic::Code;

use super::binary::Longhaul;
use super::bounds::{LONG, eventually, retried, soon, within};
use super::clients::Client;
use super::redis::Redis;

/// A worker on queue `q` that runs a line of shell.
fn work(server: &Longhaul, more: &[&str], line: &str) -> Longhaul {
    let address = server.address().to_string();
    let fixed = ["work", "--server", &address, "--queue", "q"];
    Longhaul::launch(&[&fixed, more, &["--", "sh", "-c", line]].concat())
}

async fn embedded() -> (Longhaul, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (Longhaul::serve(&store(&folder)).await, folder)
}

fn store(folder: &tempfile::TempDir) -> String {
    format!("embedded:{}", folder.path().display())
}

/// Waits for progress, which only the program makes.
async fn begins(client: &Client, id: &str) {
    eventually("the program's progress", || async {
        let record = client.record(id).await.ok()?;
        record.server_metadata?.progress.and_then(|progress| progress.fraction)
    })
    .await;
}

async fn ends(client: &Client, id: &str) -> Operation {
    retried("the end", || client.wait(id, LONG)).await
}

fn error(operation: Operation) -> (i32, String) {
    match operation.result {
        Some(operation::Result::Error(error)) => (error.code, error.message),
        other => panic!("an error, not {other:?}"),
    }
}

#[tokio::test]
async fn a_cancel_is_a_sigterm_at_once_and_a_sigkill_to_what_does_not_listen() {
    let (server, _folder) = embedded().await;
    let client = server.client();
    let polite = "trap 'exit 3' TERM; echo progress 0.1 begun; sleep 600 & wait";
    let worker = work(&server, &[], polite);
    client.start("polite", "q").await.expect("a start");
    begins(&client, "polite").await;
    client.cancel("polite").await.expect("a cancel");
    let ended = within(AT_ONCE, "the end after SIGTERM", ends(&client, "polite")).await;
    assert_eq!(
        error(ended),
        (Code::Cancelled as i32, "the program was stopped on request".to_owned())
    );
    drop(worker);

    let deaf = "trap '' TERM; echo progress 0.1 begun; sleep 600 & wait; wait";
    let _worker = work(&server, &["--kill-after", "300ms"], deaf);
    client.start("deaf", "q").await.expect("a start");
    begins(&client, "deaf").await;
    client.cancel("deaf").await.expect("a cancel");
    let ended = within(AT_ONCE, "the end after SIGKILL", ends(&client, "deaf")).await;
    assert_eq!(error(ended).0, Code::Cancelled as i32);
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_costs_a_program_nothing() {
    let (mut server, folder) = embedded().await;
    let address = server.address().to_string();
    let gate = folder.path().join("gate");
    let line = format!(
        "echo progress 0.5 half; until [ -e {} ]; do sleep 0.02; done; echo '{{\"n\": 1}}'",
        gate.display()
    );
    let mut worker = work(&server, &[], &line);
    let client = server.client();
    client.start("first", "q").await.expect("a start");
    begins(&client, "first").await;
    server.kill();
    // It ends while nobody listens.
    std::fs::write(&gate, "").expect("a file");
    let again = Longhaul::launch(&["serve", "--listen", &address, "--store", &store(&folder)]);
    again.says(" serving ").await;
    let ended = ends(&client, "first").await;
    assert!(matches!(ended.result, Some(operation::Result::Response(_))), "{ended:?}");
    let record = client.record("first").await.expect("a record");
    assert_eq!(record.server_metadata.map(|metadata| metadata.attempt_count), Some(1));

    // It serves on.
    client.start("second", "q").await.expect("a start");
    assert!(ends(&client, "second").await.done);
    worker.signal("-TERM");
    assert_eq!(soon("the end of the worker", worker.ended()).await.code(), Some(0));
}

#[tokio::test]
async fn a_worker_that_is_stopped_finishes_the_program_in_hand_and_takes_no_other() {
    let redis = Redis::forgetful();
    let server = Longhaul::serve(&redis.url()).await;
    let client = server.client();
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("gate");
    let line =
        format!("echo progress 0.5 half; until [ -e {} ]; do sleep 0.02; done", gate.display());
    let mut worker = work(&server, &[], &line);
    client.start("first", "q").await.expect("a start");
    begins(&client, "first").await;
    client.start("second", "q").await.expect("a start");
    worker.signal("-TERM");
    worker.says("no more work is taken").await;
    std::fs::write(&gate, "").expect("a file");
    assert_eq!(soon("the end of the worker", worker.ended()).await.code(), Some(0));
    assert!(client.get("first").await.expect("an operation").done);
    let second = client.lease("q", 1, LONG, LONG).await.expect("a lease");
    assert_eq!((second[0].attempt, &second[0].operation[..]), (1, "operations/second"));
}

#[tokio::test]
async fn a_worker_that_is_killed_loses_its_lease_within_the_grace() {
    let (server, _folder) = embedded().await;
    let client = server.client();
    // A server that has just started is patient for as long as a lease, up to 30 s.
    let short = ["--lease-duration", "2s"];
    let mut worker = work(&server, &short, "echo progress 0.5 half; sleep 600");
    client.start("first", "q").await.expect("a start");
    begins(&client, "first").await;
    worker.kill();
    let lease = within(GRACE, "the next lease", client.lease("q", 1, LONG, LONG)).await;
    assert_eq!(lease.expect("an answer")[0].attempt, 2);
}

/// Much less than any lease.
const AT_ONCE: Duration = Duration::from_secs(8);
/// 2 s for the worker to come back, and the rest for a busy machine; much less than a lease that nobody gave up.
const GRACE: Duration = Duration::from_secs(8);
