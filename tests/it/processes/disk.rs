//! A disk that fails under a server: it acknowledges nothing wrong, reports the problem, and recovers by itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use longhaul::proto::grpc::health::v1::health_check_response::ServingStatus;
use tempfile::TempDir;
use tonic::Code;

use super::binary::{BINARY, Longhaul};
use super::bounds::{eventually, retried};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_writes_failed_is_readable_and_serves_again_by_itself() {
    let folder = TempDir::new().expect("a folder");
    let server = serve(&["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"], &folder).await;
    let client = server.client();
    client.start("before", "queue").await.expect("a start");

    // No file may grow: as on a disk that is full, and the writes are refused in the same places.
    limit(&server, "1024:unlimited");
    let refusal = client.start("meanwhile", "queue").await.expect_err("it cannot be written");
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    server.says("the store commits nothing").await;
    client.becomes(ServingStatus::NotServing).await;
    client.get("before").await.expect("what can be read is read");
    assert!(!server.output().contains("commits again"));

    limit(&server, "unlimited:unlimited");
    server.says("the store commits again").await;
    client.becomes(ServingStatus::Serving).await;
    retried("a start", || client.start("after", "queue")).await;
    let lease = || async {
        let leases = client.lease("queue", 1, Duration::from_secs(1), LEASE).await.expect("leases");
        leases.into_iter().next()
    };
    let lease = eventually("a lease", lease).await;
    client.complete(&lease).await.expect("an end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_cannot_be_written_to_any_more_acknowledges_nothing_until_it_can() {
    let folder = TempDir::new().expect("a folder");
    // Drops the capabilities of the superuser, who is never refused otherwise.
    let plain = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let superuser = rustix::process::geteuid().is_root();
    let server = serve(if superuser { &plain } else { &[] }, &folder).await;
    let client = server.client();
    client.start("before", "queue").await.expect("a start");
    let store = folder.path().join("store");
    fs::set_permissions(&store, Permissions::from_mode(0o555)).expect("closed");
    let refusal = client.start("meanwhile", "queue").await.expect_err("not allowed");
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    server.says("cannot write to").await;
    client.becomes(ServingStatus::NotServing).await;
    client.get("before").await.expect("what can be read is read");

    fs::set_permissions(&store, Permissions::from_mode(0o755)).expect("opened");
    client.becomes(ServingStatus::Serving).await;
    retried("a start", || client.start("after", "queue")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_deleted_under_a_server_acknowledges_nothing() {
    let folder = TempDir::new().expect("a folder");
    let server = serve(&[], &folder).await;
    let client = server.client();
    client.start("before", "queue").await.expect("a start");
    fs::remove_dir_all(folder.path().join("store")).expect("deleted");
    let refusal = client.start("meanwhile", "queue").await.expect_err("it would be lost");
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    server.says("was deleted or moved").await;
    client.becomes(ServingStatus::NotServing).await;
}

/// A server on the directory `store` in the folder, launched through that program.
async fn serve(through: &[&str], folder: &TempDir) -> Longhaul {
    let store = format!("embedded:{}", folder.path().join("store").display());
    let args = [BINARY, "serve", "--listen", "127.0.0.1:0", "--store", &store];
    let server = Longhaul::launch_beside(
        &[through, &args].concat(),
        &[("LONGHAUL_EMBEDDED__RESERVE_MIB", "0")],
    );
    server.says(" serving ").await;
    server
}

/// Bounds the size of the files that it writes.
fn limit(server: &Longhaul, bytes: &str) {
    let arguments = [format!("--pid={}", server.id()), format!("--fsize={bytes}")];
    let set = Command::new("prlimit").args(arguments).status().expect("prlimit");
    assert!(set.success(), "cannot set {bytes}");
}

const LEASE: Duration = Duration::from_secs(30);
