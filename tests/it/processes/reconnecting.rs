//! Faults that a worker's stream survives, and those that it does not: its server killed, and itself.

use std::time::Duration;

use longhaul::proto::google::longrunning::{Operation, operation};

use super::binary::Longhaul;
use super::bounds::{LONG, eventually, retried, soon, within};
use super::clients::Client;

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
    // It ends while no server listens.
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

/// 2 s for the worker to come back, and the rest for a busy machine; much less than the expiry of a lease.
const GRACE: Duration = Duration::from_secs(8);
