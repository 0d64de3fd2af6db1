//! A Redis that comes back with its data after it was killed, cut off or full.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longhaul::clock::{Clock, SystemClock, Timestamp};
use longhaul::proto::grpc::health::v1::health_check_response::ServingStatus;
use longhaul::proto::longhaul::v1::operation_record::State;
use longhaul::proto::longhaul::v1::watch_operation_response::Type;
use tokio::task::JoinSet;
use tonic::Code;

use super::binary::Longhaul;
use super::bounds::{LONG, eventually, retried, soon};
use super::clients::{Client, assert_store_unavailable, name};
use super::redis::Redis;
use crate::support::http::ask;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_restarts_with_its_data_costs_time_and_no_lease() {
    let mut redis = Redis::durable();
    let (first, second) =
        (Longhaul::serve(&redis.url()).await, Longhaul::serve(&redis.url()).await);
    let (one, two) = (first.client(), second.client());
    one.start("held", "queue").await.expect("a start");
    one.start("next", "queue").await.expect("a start");
    let held = two.lease("queue", 1, LEASE, LONG).await.expect("an answer").remove(0);
    let mut watchers = Vec::new();
    for client in [&one, &two] {
        let mut watcher = client.watch("held").await.expect("a watch");
        watcher.until(Type::Snapshot).await;
        watchers.push(watcher);
    }

    redis.kill();
    for client in [&one, &two] {
        client.becomes(ServingStatus::NotServing).await;
    }
    let expiry: Timestamp = held.expire_time.as_ref().expect("an expiry").into();
    let clock = SystemClock::new();
    eventually("the lease's expiry", || async { (clock.now() > expiry).then_some(()) }).await;
    redis.restart();

    retried("an end", || two.complete(&held)).await;
    for watcher in &mut watchers {
        let end = watcher.until(Type::Done).await;
        let metadata = end.server_metadata.expect("metadata");
        assert_eq!((metadata.state(), metadata.attempt_count), (State::Succeeded, 1));
    }
    for client in [&one, &two] {
        client.becomes(ServingStatus::Serving).await;
        assert_eq!(client.list_all().await.len(), 2);
        assert!(client.get("held").await.expect("an answer").done);
    }
    let next = one.lease("queue", 10, LONG, LONG).await.expect("an answer");
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].operation, name("next"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cutting_every_connection_under_load_costs_no_more_than_time() {
    let redis = Redis::forgetful();
    let (first, second) =
        (Longhaul::serve(&redis.url()).await, Longhaul::serve(&redis.url()).await);
    let load = Load::default();
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        workers.spawn(load.clone().work(second.client()));
    }
    let mut callers = JoinSet::new();
    for caller in 0..4 {
        callers.spawn(load.clone().start_and_watch(first.client(), caller));
    }
    for count in (1..=5).map(|cut| cut * STARTS / 6) {
        eventually("the next start", || async {
            (load.started.load(Ordering::SeqCst) >= count).then_some(())
        })
        .await;
        assert!(redis.cut_connections() > 0);
    }
    soon("all callers", callers.join_all()).await;

    let operations = first.client().list_all().await;
    assert_eq!(operations.len(), STARTS);
    assert!(operations.iter().all(|operation| operation.done));
    let ends = load.ends.lock().unwrap_or_else(PoisonError::into_inner);
    let doubled: Vec<_> = ends.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
}

/// Callers and workers that must see no error but UNAVAILABLE.
#[derive(Clone, Default)]
struct Load {
    started: Arc<AtomicUsize>,
    /// How often the end of each was acknowledged.
    ends: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Load {
    async fn start_and_watch(self, client: Client, caller: usize) {
        for number in 0..STARTS / 4 {
            let id = &format!("op-{caller}-{number}");
            retried("a start", || client.start(id, "load")).await;
            self.started.fetch_add(1, Ordering::SeqCst);
            // A watcher that is connected when connections to Redis are cut keeps its watch.
            let mut watcher = retried("a watch", || client.watch(id)).await;
            watcher.until(Type::Done).await;
        }
    }

    async fn work(self, client: Client) {
        loop {
            // No worker received a lease whose reply was lost: it soon expires.
            for lease in retried("a lease", || client.lease("load", 4, SHORT, LONG)).await {
                retried("an end", || client.complete(&lease)).await;
                let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
                *ends.entry(lease.operation).or_default() += 1;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_refuses_starts_and_lets_work_end_once_there_is_room() {
    let redis = Redis::durable();
    let server = Longhaul::serve(&redis.url()).await;
    let client = server.client();
    for id in ["first", "second"] {
        client.start(id, "queue").await.expect("a start");
    }
    let held = client.lease("queue", 2, LONG * 10, LONG).await.expect("an answer");
    assert_eq!(held.len(), 2);
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory", "1"]);

    for id in ["third", "fourth"] {
        let status = client.start(id, "queue").await.expect_err("no room");
        assert_store_unavailable("start", &status);
    }
    // Reads work, and nothing is half-written.
    for id in ["third", "fourth"] {
        let status = client.get(id).await.expect_err("not there");
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
    }
    assert_eq!(client.list_all().await.len(), 2);
    assert!(client.lease("queue", 9, LONG, Duration::ZERO).await.expect("an answer").is_empty());
    // An end may be refused too, but only as something that passes.
    let first = client.complete(&held[0]).await;
    if let Err(status) = &first {
        assert_store_unavailable("complete", status);
        assert_eq!(client.state("first").await.expect("an answer"), State::Running);
    }

    let _: String = redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    for lease in &held {
        client.complete(lease).await.expect("an end, or the same end again");
    }
    for id in ["third", "fourth"] {
        client.start(id, "queue").await.expect("a start");
    }
    let rest = client.lease("queue", 9, LONG, LONG).await.expect("an answer");
    assert_eq!(rest.len(), 2);
    assert_eq!(client.list_all().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eviction_policy_set_under_a_server_makes_it_unready_with_the_reason_that_it_logs() {
    let redis = Redis::durable();
    let server = Longhaul::serve(&redis.url()).await;
    let client = server.client();
    client.start("first", "queue").await.expect("a start");
    let _: String = redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    client.becomes(ServingStatus::NotServing).await;
    let reason =
        "may evict acknowledged data: maxmemory-policy is allkeys-lru; set it to noeviction";
    let answer = ask(server.address(), "GET", "/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains(reason), "{answer:?}");
    server.says(answer.body.trim()).await;
    let status = client.start("second", "queue").await.expect_err("a refusal");
    assert_store_unavailable("start", &status);
    client.get("first").await.expect("reads go on");

    let _: String = redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    client.becomes(ServingStatus::Serving).await;
    client.start("second", "queue").await.expect("a start");
    assert_eq!(client.list_all().await.len(), 2);
}

/// Shorter than the outage of Redis, and than the extension of leases afterwards.
const LEASE: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_secs(4);
const STARTS: usize = 240;
