//! The end of a server: polite at the first signal, at once at the second.

use std::time::Duration;

use longhaul::proto::longhaul::v1::watch_operation_response::Type;

use super::binary::Longhaul;
use super::bounds::{LONG, retried, soon, within};
use super::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_waits_watches_and_long_polls_politely_on_the_embedded_store() {
    let folder = tempfile::tempdir().expect("a folder");
    ends_politely(&format!("embedded:{}", folder.path().display()), "-TERM").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_ends_waits_watches_and_long_polls_politely_on_redis() {
    let redis = Redis::forgetful();
    ends_politely(&redis.url(), "-INT").await;
}

async fn ends_politely(store: &str, signal: &str) {
    let mut server = Longhaul::serve(store).await;
    let client = server.client();
    client.start("watched", "queue").await.expect("a start");
    let mut watcher = client.watch("watched").await.expect("a watch");
    watcher.until(Type::Snapshot).await;

    let script = async {
        // Answered after the calls beside it, which the same connection took before, were begun.
        client.get("watched").await.expect("an answer");
        server.signal(signal);
        let last = watcher.next().await.expect("a polite end").expect("an event");
        assert_eq!(last.r#type(), Type::Reconnect);
        assert!(!last.resume_token.is_empty() && last.reconnect_delay.is_some());
        assert!(watcher.next().await.expect("a polite end").is_none());
    };
    let (waited, leased, ()) = within(PROMPT, "the end of all calls", async {
        tokio::join!(client.wait("watched", LONG * 2), client.lease("none", 1, LONG, LONG), script)
    })
    .await;
    assert!(!waited.expect("the state as it is").done);
    assert!(leased.expect("an answer").is_empty());
    let status = within(PROMPT, "the end of the server", server.ended()).await;
    assert_eq!(status.code(), Some(0), "{}", server.output());

    // What was acknowledged is there for the next one.
    let next = Longhaul::serve(store).await;
    let leases = next.client().lease("queue", 1, LONG, LONG).await.expect("an answer");
    assert_eq!(leases.len(), 1);
    next.client().complete(&leases[0]).await.expect("an end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_server_that_still_drains() {
    let redis = Redis::forgetful();
    let environment = [("LONGHAUL_REDIS__RESPONSE_TIMEOUT", "10m")];
    let mut server = Longhaul::serve_in(&redis.url(), &[], &environment).await;
    let client = server.client();
    client.start("one", "queue").await.expect("a start");
    // A call that does not end keeps the server from ending.
    let freezer = redis.freezer();
    freezer.freeze();
    let script = async {
        server.signal("-TERM");
        server.says("draining; a second signal stops at once").await;
        server.signal("-TERM");
        soon("the end of the server", server.ended()).await
    };
    let (reply, status) = soon("the end", async { tokio::join!(client.get("one"), script) }).await;
    assert!(reply.is_err());
    assert_eq!(status.code(), Some(130));
    freezer.thaw();
}

#[tokio::test]
async fn a_server_whose_log_nobody_reads_any_more_serves_on_and_stops_politely() {
    let redis = Redis::forgetful();
    let store = redis.url();
    let args = ["serve", "--listen", "127.0.0.1:0", "--store", &store];
    let mut server = Longhaul::launch_heard_until(" serving ", &args);
    server.says(" serving ").await;
    let client = server.client();
    // Each time there is something to be logged.
    for _ in 0..3 {
        redis.cut_connections();
        retried("a start", || client.start("one", "queue")).await;
    }
    server.signal("-TERM");
    assert_eq!(soon("the end of the server", server.ended()).await.code(), Some(0));
}

/// A few seconds, and room for a busy machine.
const PROMPT: Duration = Duration::from_secs(8);
