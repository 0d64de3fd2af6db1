//! Two servers on one Redis: started through one, leased through the other, watched through the first.

use std::time::Duration;

use longhaul::clock::{Clock, SystemClock};
use longhaul::proto::longhaul::v1::watch_operation_response::Type;
use tokio::task::JoinSet;

use super::binary::Longhaul;
use super::bounds::{LONG, retried, soon, within};
use super::clients::Client;
use super::proxy::LossyProxy;
use super::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_sees_the_end_while_half_of_the_hints_are_lost() {
    let redis = Redis::forgetful();
    let before_first = LossyProxy::before(redis.address(), 1).await;
    let before_second = LossyProxy::before(redis.address(), 2).await;
    let first = Longhaul::serve(&before_first.url()).await;
    let second = Longhaul::serve(&before_second.url()).await;
    hand_over(&first, &second).await;
    assert!(before_first.lost() > 10 && before_second.lost() > 10, "too little was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_sees_the_end_while_subscriptions_are_cut() {
    let redis = Redis::forgetful();
    let (first, second) =
        (Longhaul::serve(&redis.url()).await, Longhaul::serve(&redis.url()).await);
    let clock = SystemClock::new();
    let cut = async {
        loop {
            let _: u64 = redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            clock.sleep(Duration::from_millis(400)).await;
        }
    };
    tokio::select! {
        () = hand_over(&first, &second) => {}
        () = cut => {}
    }
}

/// Starts and watches through one server, works through the other; every end is seen in time.
async fn hand_over(first: &Longhaul, second: &Longhaul) {
    assert_eq!(first.logged("keyspace"), second.logged("keyspace"));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(work(second.client()));
    }
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let client = first.client();
        callers.spawn(async move {
            for number in 0..EACH {
                let id = format!("op-{caller}-{number}");
                within(PROMPT, "the end of an operation", start_and_watch(&client, &id)).await;
            }
        });
    }
    soon("all callers", callers.join_all()).await;
    let operations = first.client().list_all().await;
    assert_eq!(operations.len(), CALLERS * EACH);
    assert!(operations.iter().all(|operation| operation.done));
}

async fn start_and_watch(client: &Client, id: &str) {
    retried("a start", || client.start(id, QUEUE)).await;
    let mut watcher = retried("a watch", || client.watch(id)).await;
    let end = watcher.until(Type::Done).await;
    assert!(end.operation.is_some_and(|operation| operation.done));
    assert!(watcher.next().await.expect("a polite end").is_none());
}

/// A worker that waits for hints: its calls last far longer than an operation may take.
async fn work(client: Client) {
    loop {
        for lease in retried("a lease", || client.lease(QUEUE, 1, LONG, LONG)).await {
            retried("a report", || client.report(&lease, 1)).await;
            retried("an end", || client.complete(&lease)).await;
        }
    }
}

const QUEUE: &str = "handed-over";
const WORKERS: usize = 4;
const CALLERS: usize = 4;
const EACH: usize = 6;
/// A few polls of a second each, and time for a busy machine.
const PROMPT: Duration = Duration::from_secs(15);
