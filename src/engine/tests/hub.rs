use std::time::Duration;

use super::super::{EventKind, Reason, WatchFrom, WatchOptions};
use super::{Bench, caller, name};

fn options() -> WatchOptions {
    WatchOptions {
        from: WatchFrom::Start,
        min_interval: Duration::ZERO,
        heartbeat: Duration::from_secs(30),
    }
}

#[tokio::test]
async fn deleting_what_is_unfinished_ends_its_watches_and_waits() {
    let bench = Bench::new();
    let name = bench.start("a").await;
    let mut watch = bench.engine.watch(&caller(), &name, options()).await.expect("watch");
    assert_eq!(watch.next().await.expect("event").expect("event").kind, EventKind::Snapshot);
    let (engine, waited) = (bench.engine.clone(), name.clone());
    let mut wait = tokio::task::JoinSet::new();
    wait.spawn(async move { engine.wait(&caller(), &waited, Duration::from_mins(1)).await });
    tokio::task::yield_now().await;
    bench.engine.delete(&caller(), &name).await.expect("delete");
    assert_eq!(watch.next().await.expect("event").expect("event").kind, EventKind::Deleted);
    assert!(watch.next().await.is_none());
    assert_eq!(
        wait.join_next().await.expect("task").expect("task").expect_err("deleted").reason,
        Reason::OperationDeleted
    );
}

#[tokio::test]
async fn a_new_operation_is_seen_although_somebody_looked_for_it_before() {
    let bench = Bench::new();
    let rooms = &bench.engine.rooms;
    let key = rooms.context.key(&name("a"));
    let early = rooms.hub.follow(key).await.expect("interest");
    let name = bench.start("a").await;
    let view = bench.engine.wait(&caller(), &name, Duration::ZERO).await.expect("view");
    assert_eq!(view.operation.name, name);
    drop(early);
}

#[tokio::test]
async fn a_watch_that_holds_states_back_still_shows_that_it_lives() {
    let bench = Bench::new();
    let name = bench.start("a").await;
    let slow = WatchOptions { min_interval: Duration::from_secs(100), ..options() };
    let mut watch = bench.engine.watch(&caller(), &name, slow).await.expect("watch");
    assert_eq!(watch.next().await.expect("event").expect("event").kind, EventKind::Snapshot);
    bench.engine.pause(&caller(), &name, String::new(), String::new()).await.expect("pause");
    for (seconds, kind) in [
        (30, EventKind::Heartbeat),
        (30, EventKind::Heartbeat),
        (30, EventKind::Heartbeat),
        (10, EventKind::Update),
    ] {
        let clock = bench.clock.clone();
        let (event, ()) =
            tokio::join!(watch.next(), async { clock.advance(Duration::from_secs(seconds)) });
        assert_eq!(event.expect("event").expect("event").kind, kind);
    }
}
