//! Limits of queues count what was leased before they were set.

use std::time::Duration;

use crate::engine::tests::servers::{Ground, Servers, finish, leases, limit, on_each_store};
use crate::engine::tests::{caller, wish};
use crate::engine::{Engine, Leased, QueueUpdate};

on_each_store! {
    a_limit_counts_what_runs_when_it_is_set,
    a_limit_that_is_lower_than_what_runs_drains,
    a_limit_that_is_taken_off_and_set_again_counts_what_was_leased_between,
    leases_of_a_server_that_missed_the_limit_count_soon_after,
    a_limit_that_a_dying_server_sets_counts_what_runs,
    an_older_limit_does_not_replace_a_newer_one,
}

/// Starts so many operations.
async fn backlog(servers: &Servers, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|number| format!("o{number}")).collect();
    for id in &ids {
        servers.start_plain(0, id).await.expect("started");
    }
    ids
}

async fn take(engine: &Engine, most: usize) -> Vec<Leased> {
    leases(engine, wish(most)).await
}

/// How many leases both servers give at once.
async fn given(servers: &Servers) -> usize {
    let mut given = 0;
    for (engine, _) in &servers.all {
        given += take(engine, 10).await.len();
    }
    given
}

async fn a_limit_counts_what_runs_when_it_is_set(ground: Ground) {
    let servers = Servers::on(ground).await;
    backlog(&servers, 12).await;
    let (one, other) = (&servers.all[0].0, &servers.all[1].0);
    let early = take(one, 3).await;
    servers.limit(0, 4).await;
    assert_eq!(given(&servers).await, 1);
    // One that ends makes room at once, on whichever server.
    finish(one, &early[0]).await;
    assert_eq!(take(other, 10).await.len(), 1);
    finish(other, &early[1]).await;
    assert_eq!(take(one, 10).await.len(), 1);
    assert_eq!(given(&servers).await, 0);
    // The last one ends without a worker that asks: a second later, its room is known.
    finish(one, &early[2]).await;
    servers.pass(0, 2).await;
    let gate = servers.gate_of_queue().await.expect("a gate");
    assert_eq!((gate.unslotted, gate.slots.len()), (0, 3));
    assert_eq!(given(&servers).await, 1);
}

async fn a_limit_that_is_lower_than_what_runs_drains(ground: Ground) {
    let servers = Servers::on(ground).await;
    backlog(&servers, 8).await;
    let mut running = take(servers.engine(), 3).await;
    servers.limit(1, 2).await;
    assert_eq!(given(&servers).await, 0);
    for left in [2, 1, 0] {
        finish(servers.engine(), &running.remove(0)).await;
        servers.settled(0).await;
        let leased = take(&servers.all[1].0, 10).await;
        assert_eq!(leased.len(), usize::from(left < 2), "{left} of those before are left");
    }
    assert_eq!(given(&servers).await, 0);
}

async fn a_limit_that_is_taken_off_and_set_again_counts_what_was_leased_between(ground: Ground) {
    let servers = Servers::on(ground).await;
    let ids = backlog(&servers, 8).await;
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    servers.limit(0, 2).await;
    assert_eq!(given(&servers).await, 2);
    servers.limit(0, 0).await;
    let between = take(&servers.all[1].0, 2).await;
    assert_eq!(between.len(), 2);
    // The same limit as before: the gate cannot tell by its number.
    servers.limit(0, 2).await;
    assert_eq!(given(&servers).await, 0);
    servers.limit(0, 5).await;
    assert_eq!(given(&servers).await, 1);
    assert_eq!(servers.leased(&ids).await.1.len(), 3);
}

/// The hint is lost, and the server gives leases before it reads the settings again.
async fn leases_of_a_server_that_missed_the_limit_count_soon_after(ground: Ground) {
    let servers = Servers::on(ground).await;
    backlog(&servers, 12).await;
    let (one, late) = (&servers.all[0].0, &servers.all[1].0);
    assert_eq!(given(&servers).await, 10 + 2, "it has read that there is no limit");
    backlog_more(&servers).await;
    servers.all[0].1.set_hints_lost(true);
    one.update_queue(&caller(), limit(13)).await.expect("a limit");
    assert_eq!(take(one, 10).await.len(), 1);
    let unaware = take(late, 2).await;
    assert_eq!(unaware.len(), 2, "nothing has told it");
    late.rooms.known_queues.changed();
    let knows = async || late.rooms.known_queues.limit_of("q").is_some();
    servers.until("it knows", knows).await;
    servers.pass(0, 2).await;
    let gate = servers.gate_of_queue().await.expect("a gate");
    assert_eq!((gate.unslotted, gate.slots.len()), (14, 1));
    for leased in &unaware {
        assert_eq!(given(&servers).await, 0);
        finish(late, leased).await;
    }
    servers.pass(0, 2).await;
    assert_eq!(given(&servers).await, 0, "thirteen run");
}

async fn backlog_more(servers: &Servers) {
    for id in ["x", "y", "z", "more"] {
        servers.start_plain(0, id).await.expect("started");
    }
}

/// The server that set the limit dies before it has told its gate.
async fn a_limit_that_a_dying_server_sets_counts_what_runs(ground: Ground) {
    let mut servers = Servers::on(ground).await;
    backlog(&servers, 8).await;
    assert_eq!(take(servers.engine(), 3).await.len(), 3);
    servers.limit(0, 3).await;
    servers.crash().await;
    assert_eq!(take(&servers.all[1].0, 10).await.len(), 0);
    let gate = servers.gate_of_queue().await.expect("a gate");
    assert_eq!((gate.unslotted, gate.slots.len()), (3, 0));
    // The leases expire, and make room.
    servers.pass(1, 40).await;
    servers.settled(1).await;
    assert_eq!(take(&servers.all[1].0, 10).await.len(), 3);
}

/// A server that missed the newest limit asks with the one that it knows.
async fn an_older_limit_does_not_replace_a_newer_one(ground: Ground) {
    let servers = Servers::on(ground).await;
    backlog(&servers, 8).await;
    let (one, late) = (&servers.all[0].0, &servers.all[1].0);
    servers.limit(0, 5).await;
    assert_eq!(take(late, 1).await.len(), 1);
    servers.all[0].1.set_hints_lost(true);
    one.update_queue(&caller(), limit(2)).await.expect("a limit");
    assert_eq!(take(one, 1).await.len(), 1);
    assert_eq!(take(late, 10).await.len(), 0, "two run");
    // Another setting changes, and no limit.
    let (queue, aging) = (limit(0).queue, Some(Duration::from_secs(10)));
    let change = QueueUpdate { queue, aging_interval: aging, ..QueueUpdate::default() };
    one.update_queue(&caller(), change).await.expect("a change");
    assert_eq!(given(&servers).await, 0);
}
