//! The end of a server: polite at the first signal, at once at the second.

use std::time::Duration;

use longhaul::proto::longhaul::v1::watch_operation_response::Type;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::attacks::{Attacker, CLOSED, PAYLOAD, WIDE, payload};
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

    // The next server has all acknowledged data.
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
async fn a_server_whose_log_has_no_reader_continues_and_stops_cleanly() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stops_in_time_whatever_clients_are_connected() {
    for runtime in ["per-core", "work-stealing"] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = format!("embedded:{}", folder.path().display());
        let environment = [("LONGHAUL_RUNTIME", runtime)];
        let mut server = Longhaul::serve_in(&store, &[], &environment).await;
        let client = server.client();
        client.start_with("large", "queue", PAYLOAD).await.expect("a start");
        let lease = client.lease("queue", 1, LONG, LONG).await.expect("a lease").remove(0);
        client.complete_with(&lease, payload(1_000_000)).await.expect("an end");

        let mut said = Vec::new();
        for text in ["", "PRI * HT", "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1"] {
            let mut stream = TcpStream::connect(server.address()).await.expect("a connection");
            stream.write_all(text.as_bytes()).await.expect("a connection");
            said.push(stream);
        }
        let mut unfinished = Attacker::to(server.address(), WIDE).await;
        unfinished.half_a_request().await;
        let mut unread = Attacker::to(server.address(), CLOSED).await;
        unread.get("large").await;
        let mut deaf = Attacker::to(server.address(), WIDE).await;
        deaf.get("large").await;
        deaf.serve_queue("queue").await;
        deaf.go_deaf().await;

        server.signal("-TERM");
        let status = within(IN_TIME, "the end of the server", server.ended()).await;
        assert_eq!(status.code(), Some(0), "{runtime}: {}", server.output());
        // It had the directory to itself to the end.
        Longhaul::serve(&store).await.client().get("large").await.expect("what was stored");
    }
}

/// Ten seconds, and room for a busy machine.
const IN_TIME: Duration = Duration::from_secs(18);
/// A few seconds, and room for a busy machine.
const PROMPT: Duration = Duration::from_secs(8);
