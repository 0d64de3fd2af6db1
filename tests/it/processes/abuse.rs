//! Clients that mean harm over real connections: what they send is refused, what they hold is bounded, and others are served.

use std::time::Duration;

use h2::Reason;
use longhaul::limits::{MAX_BODY_BYTES, MAX_CONNECTIONS};
use prost::bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::attacks::{Attacked, MOST};
use super::bounds::soon;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_resets_its_calls_as_soon_as_they_are_sent_is_disconnected() {
    let attacked = Attacked::begin().await;
    let stream = TcpStream::connect(attacked.address()).await.expect("a connection");
    let (mut requests, connection) = h2::client::handshake(stream).await.expect("a handshake");
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let resets = async {
        loop {
            let Ok(ready) = requests.ready().await else { return };
            requests = ready;
            let request = http::Request::post("http://longhaul.test/longhaul.v1.Workers/Reset");
            let request = request.header("content-type", "application/grpc").body(());
            match requests.send_request(request.expect("a request"), false) {
                Ok((_, mut stream)) => stream.send_reset(Reason::CANCEL),
                Err(_) => return,
            }
        }
    };
    soon("the end of the connection", resets).await;
    let ended = soon("the reason", driver.join_next()).await.expect("a driver").expect("no panic");
    let reason = ended.expect_err("an error").reason();
    assert!(reason.is_none_or(|reason| reason == Reason::ENHANCE_YOUR_CALM), "{reason:?}");
    attacked.took_at_most(MOST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_bytes_of_headers_are_refused_over_both_versions_of_http() {
    let attacked = Attacked::begin().await;
    let long = "x".repeat(100_000);
    let request = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n");
    let answer = exchanged(&attacked, &request).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = "x: y\r\n".repeat(10_000);
    let request = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    let answer = exchanged(&attacked, &request).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");

    let stream = TcpStream::connect(attacked.address()).await.expect("a connection");
    let (mut requests, connection) = h2::client::handshake(stream).await.expect("a handshake");
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    requests = requests.ready().await.expect("a connection");
    let request = http::Request::get("http://localhost/healthz").header("x", &long).body(());
    let answer = match requests.send_request(request.expect("a request"), true) {
        Ok((answer, _)) => soon("an answer", answer).await.map(|answer| answer.status().as_u16()),
        Err(error) => Err(error),
    };
    assert!(answer.as_ref().is_ok_and(|status| *status == 431) || answer.is_err(), "{answer:?}");
    attacked.took_at_most(MOST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_send_a_byte_now_and_then_keep_none_from_being_served() {
    let attacked = Attacked::begin().await;
    let mut drips = JoinSet::new();
    for number in 0..SLOW {
        let address = attacked.address();
        drips.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            let begun = if number % 2 == 0 {
                "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: "
            } else {
                "POST /v1/operations:start HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{"
            };
            stream.write_all(begun.as_bytes()).await.expect("sent");
            let mut byte = [0];
            // A byte every 100 ms, until the server ends it.
            while tokio::time::timeout(DRIP, stream.read(&mut byte)).await.is_err() {
                if stream.write_all(b" ").await.is_err() {
                    return;
                }
            }
        });
    }
    for _ in 0..20 {
        attacked.serves().await;
    }
    // The heads are late after ten seconds; the bodies have a minute.
    soon("the end of slow heads", async {
        for _ in 0..SLOW / 2 {
            drips.join_next().await.expect("a client").expect("no panic");
        }
    })
    .await;
    attacked.took_at_most(MOST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_take_bounded_memory_and_a_newcomer_is_served() {
    let attacked = Attacked::begin().await;
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let connected = soon("a place", TcpStream::connect(attacked.address())).await;
        let mut stream = connected.expect("a connection");
        // The preface and empty settings: all that an idle client says. It may have made room for another one already.
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        idle.push(stream);
        if idle.len() % 1_000 == 0 {
            attacked.serves().await;
        }
    }
    attacked.newcomer().await;
    attacked.took_at_most(MOST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_is_too_large_or_too_deep_is_refused() {
    let attacked = Attacked::begin().await;
    for (body, status) in [
        ("[".repeat(1_000_000), "400"),
        (format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)), "400"),
        (format!("{{\"queue\":\"{}\"}}", "q".repeat(MAX_BODY_BYTES)), "413"),
    ] {
        let length = body.len();
        let request = format!(
            "POST /v1/operations:start HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        let answer = exchanged(&attacked, &request).await;
        let beginning = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&beginning), "{length} bytes: {answer}");
    }
    attacked.took_at_most(MOST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_messages_are_refused_unread() {
    let attacked = Attacked::begin().await;
    let stream = TcpStream::connect(attacked.address()).await.expect("a connection");
    let (requests, connection) = h2::client::handshake(stream).await.expect("a handshake");
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let mut requests = requests.ready().await.expect("a connection");
    let path = "http://localhost/longhaul.v1.Producers/StartOperation";
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("grpc-encoding", "gzip")
        .body(())
        .expect("a request");
    let (answer, mut stream) = requests.send_request(request, false).expect("sent");
    // The server may have answered by the headers alone, and ended the stream.
    let _ = stream.send_data(Bytes::from_static(b"\x01\0\0\0\x04bomb"), true);
    let answer = soon("an answer", answer).await.expect("an answer");
    // UNIMPLEMENTED.
    assert_eq!(answer.headers()["grpc-status"], "12", "{answer:?}");

    let request = "POST /v1/operations:start HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbomb";
    let answer = exchanged(&attacked, request).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    attacked.serves().await;
}

/// Sends a request on a connection of its own, and reads all that is answered.
async fn exchanged(attacked: &Attacked, request: &str) -> String {
    let stream = TcpStream::connect(attacked.address()).await.expect("a connection");
    let (mut reading, mut writing) = stream.into_split();
    let sending = async {
        // The server may answer before it has read everything.
        let _ = writing.write_all(request.as_bytes()).await;
    };
    let receiving = async {
        let (mut answer, mut part) = (Vec::new(), [0; 4_096]);
        while let Ok(length @ 1..) = reading.read(&mut part).await {
            answer.extend_from_slice(&part[..length]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let ((), answer) = soon("an answer", async { tokio::join!(sending, receiving) }).await;
    answer
}

const SLOW: usize = 400;
const DRIP: Duration = Duration::from_millis(100);
