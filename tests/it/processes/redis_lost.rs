//! A Redis that lost its data, or went back to older data.

use std::time::Duration;

use longhaul::proto::grpc::health::v1::health_check_response::ServingStatus;
use longhaul::proto::longhaul::v1::operation_record::State;
use longhaul::proto::longhaul::v1::watch_operation_response::Type;
use tonic::Code;
use tonic_types::StatusExt;

use super::binary::Longhaul;
use super::bounds::{LONG, eventually, retried, soon};
use super::clients::{Client, Watcher, assert_store_unavailable, name};
use super::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_redis_after_a_restart_is_unavailable_and_answers_no_reads() {
    let mut redis = Redis::forgetful();
    loses_everything(&mut redis, Redis::restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_is_unavailable_and_answers_no_reads() {
    let mut redis = Redis::forgetful();
    loses_everything(&mut redis, |redis| redis.command(&["FLUSHALL"])).await;
}

async fn loses_everything(redis: &mut Redis, lose: impl FnOnce(&mut Redis)) {
    let (first, mut second) =
        (Longhaul::serve(&redis.url()).await, Longhaul::serve(&redis.url()).await);
    let (one, two) = (first.client(), second.client());
    one.start("waited-for", "idle").await.expect("a start");
    one.start("held", "busy").await.expect("a start");
    let held = two.lease("busy", 1, LONG, LONG).await.expect("an answer").remove(0);
    let mut watchers = [watch(&one, "waited-for").await, watch(&two, "held").await];

    let meanwhile = async {
        one.get("waited-for").await.expect("an answer");
        lose(redis);
        for watcher in &mut watchers {
            assert_store_unavailable("watch", &watcher.error().await);
        }
    };
    let (waited, leased, ()) = soon("waiting calls", async {
        tokio::join!(one.wait("waited-for", LONG), two.lease("none", 1, LONG, LONG), meanwhile)
    })
    .await;
    assert_store_unavailable("wait", &waited.expect_err("nothing to be known"));
    assert_store_unavailable("lease", &leased.expect_err("nothing to be known"));
    for client in [&one, &two] {
        client.becomes(ServingStatus::NotServing).await;
        knows_nothing(client).await;
    }
    assert_store_unavailable("complete", &two.complete(&held).await.expect_err("no answer"));

    // A server that names the earlier keyspace does not adopt another.
    let old = first.logged("keyspace");
    let refusal = serve_keyspace(redis, &old).await;
    assert!(refusal.contains("holds keyspace none, not") && refusal.contains(&old), "{refusal}");

    // A server that is started anew begins anew; the other one goes on refusing.
    second.kill();
    let anew = Longhaul::serve(&redis.url()).await;
    let new = anew.logged("keyspace");
    assert_ne!(new, old);
    anew.client().start("new", "idle").await.expect("a start");
    assert_eq!(anew.client().list_all().await.len(), 1);
    let refusal = serve_keyspace(redis, &old).await;
    assert!(refusal.contains(&format!("holds keyspace {new}, not {old}")), "{refusal}");
    knows_nothing(&one).await;
    assert_store_unavailable("get", &one.get("new").await.expect_err("another keyspace"));
    one.becomes(ServingStatus::NotServing).await;
}

/// Lost operations and those that never existed look the same.
async fn knows_nothing(client: &Client) {
    for id in ["waited-for", "held", "never-started"] {
        assert_store_unavailable("get", &client.get(id).await.expect_err("nothing to be known"));
    }
    let wait = client.wait("held", LONG).await;
    assert_store_unavailable("wait", &wait.expect_err("nothing to be known"));
    let watch = client.watch("held").await;
    assert_store_unavailable("watch", &watch.err().expect("nothing to be known"));
    let start = client.start("another", "idle").await;
    assert_store_unavailable("start", &start.expect_err("nowhere to write"));
    let list = client.list(10, "").await;
    assert_store_unavailable("list", &list.expect_err("nothing to be known"));
    let lease = client.lease("idle", 1, LONG, Duration::ZERO).await;
    assert_store_unavailable("lease", &lease.expect_err("nothing to be known"));
}

async fn serve_keyspace(redis: &Redis, keyspace: &str) -> String {
    let store = redis.url();
    let args = ["serve", "--listen", "127.0.0.1:0", "--store", &store, "--keyspace", keyspace];
    let refusal = Longhaul::refusal(&args).await;
    assert_eq!(refusal.code, Some(1), "{}", refusal.output);
    refusal.output
}

async fn watch(client: &Client, id: &str) -> Watcher {
    let mut watcher = client.watch(id).await.expect("a watch");
    watcher.until(Type::Snapshot).await;
    watcher
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_went_back_is_told_by_resync_and_nothing_is_served_from_memory() {
    let mut redis = Redis::durable();
    let (first, second) =
        (Longhaul::serve(&redis.url()).await, Longhaul::serve(&redis.url()).await);
    let (one, two) = (first.client(), second.client());
    one.start("older", "queue").await.expect("a start");
    let backup = redis.back_up();
    one.start("gone", "elsewhere").await.expect("a start");
    let held = two.lease("queue", 1, LONG, LONG).await.expect("an answer").remove(0);
    two.report(&held, 1).await.expect("a report");
    let mut of_older = [watch(&one, "older").await, watch(&two, "older").await];
    let mut of_gone = [watch(&one, "gone").await, watch(&two, "gone").await];

    redis.restore(&backup);
    for watcher in &mut of_older {
        let event = watcher.until(Type::Resync).await;
        assert_eq!(event.server_metadata.expect("metadata").state(), State::Pending);
        assert_eq!(event.operation.expect("an operation").name, name("older"));
    }
    for watcher in &mut of_gone {
        watcher.until(Type::Deleted).await;
        assert!(watcher.next().await.expect("a polite end").is_none());
    }
    for client in [&one, &two] {
        client.becomes(ServingStatus::Serving).await;
        let status = eventually("a certain answer", || async {
            client.get("gone").await.err().filter(|status| status.code() != Code::Unavailable)
        });
        assert_eq!(status.await.code(), Code::NotFound);
        let wait = client.wait("gone", LONG).await.expect_err("nothing there");
        assert_eq!(wait.code(), Code::NotFound);
        assert_eq!(client.state("older").await.expect("an answer"), State::Pending);
        let names: Vec<_> =
            client.list_all().await.into_iter().map(|operation| operation.name).collect();
        assert_eq!(names, [name("older")]);
    }

    // The lease was lost with the data; the next worker gets the operation.
    let lost = two.complete(&held).await.expect_err("a lease that never was");
    assert_eq!(lost.code(), Code::FailedPrecondition, "{lost:?}");
    assert_eq!(lost.get_details_error_info().expect("a reason").reason, "LEASE_LOST");
    let again = retried("a lease", || one.lease("queue", 1, LONG, LONG)).await.remove(0);
    two.complete(&again).await.expect("an end");
    for watcher in &mut of_older {
        watcher.until(Type::Done).await;
    }
}
