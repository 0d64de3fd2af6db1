//! A Redis that is not there when the server starts.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use longhaul::proto::grpc::health::v1::health_check_response::ServingStatus;

use super::binary::Longhaul;
use super::bounds::{LONG, soon};
use super::clients::{Client, assert_store_unavailable};
use super::redis::Redis;
use crate::support::http::ask;

#[tokio::test]
async fn a_redis_that_is_not_there_is_named_and_so_is_the_way_to_wait_for_it() {
    let mut redis = Redis::forgetful();
    redis.kill();
    let store = redis.url();
    let refusal = Longhaul::refusal(&["serve", "--listen", "127.0.0.1:0", "--store", &store]).await;
    assert_eq!(refusal.code, Some(1), "{}", refusal.output);
    for part in [redis.address().as_str(), "cannot reach redis at", "--wait-for-store"] {
        assert!(refusal.output.contains(part), "{}", refusal.output);
    }
}

#[tokio::test]
async fn a_server_that_waits_for_its_store_says_so_and_serves_at_the_same_port_once_it_is_there() {
    let mut redis = Redis::forgetful();
    redis.kill();
    let server = waiting(&redis).await;
    let client = Client::new(server.address);
    client.becomes(ServingStatus::NotServing).await;
    let start = client.start("early", "queue").await;
    assert_store_unavailable("start", &start.expect_err("no store"));
    let get = client.get("early").await;
    assert_store_unavailable("get", &get.expect_err("no store"));
    let lease = client.lease("queue", 1, LONG, Duration::ZERO).await;
    assert_store_unavailable("lease", &lease.expect_err("no store"));
    for (path, status) in
        [("/healthz", 200), ("/readyz", 503), ("/metrics", 503), ("/v1/operations", 503)]
    {
        let answer = ask(server.address, "GET", path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    // A connection without a request does not delay others.
    let silent = TcpStream::connect(server.address).expect("a connection");

    redis.restart();
    server.process.says(" serving ").await;
    assert_eq!(server.process.address(), server.address);
    // The same connection object: it reconnects by itself.
    client.becomes(ServingStatus::Serving).await;
    client.start("early", "queue").await.expect("a start");
    drop(silent);
}

#[tokio::test]
async fn a_server_that_waits_for_its_store_stops_when_it_is_told_to() {
    let mut redis = Redis::forgetful();
    redis.kill();
    let mut server = waiting(&redis).await;
    Client::new(server.address).becomes(ServingStatus::NotServing).await;
    server.process.signal("-TERM");
    assert_eq!(soon("the end", server.process.ended()).await.code(), Some(0));
}

/// A server without a store, which has no serving line to read the address from.
async fn waiting(redis: &Redis) -> Waiting {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    drop(taken);
    let (listen, store) = (address.to_string(), redis.url());
    let args = ["serve", "--listen", &listen, "--store", &store, "--wait-for-store"];
    let process = Longhaul::launch(&args);
    process.says("waiting for the store").await;
    Waiting { process, address }
}

struct Waiting {
    process: Longhaul,
    address: SocketAddr,
}
