//! Long histories of many concurrent calls with faults, and the properties that must hold nevertheless.
//!
//! Many producers, callers and watchers, and workers as processes of their own, on two servers that share a Redis, or on one
//! with the embedded store. Workers and servers are killed, both are stopped beyond leases, connections are cut. Some operations
//! have a callback, whose receiver refuses some deliveries.
//! Every actor writes down its calls and their results; at the end [`checker`] searches for violations.
//! `LONGHAUL_SEED` repeats the choices of a history, though not the moments; `LONGHAUL_HISTORY_SECONDS` makes it longer;
//! `LONGHAUL_HISTORY_KEEP=1` leaves the journals behind, which a failure does anyway.

mod callers;
mod checker;
mod checker_tests;
mod dice;
mod door;
mod drive;
mod event;
mod holders;
mod journal;
mod look;
mod receiver;
mod stage;
mod stream_worker;
mod told;
mod unary_worker;
mod worker;

use super::redis::Redis;
use drive::{Size, play};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_full_of_accidents_on_two_servers_and_a_redis_is_as_it_should_be() {
    let redis = Redis::forgetful();
    play(redis.url(), Size { servers: 2, server_deaths: 15, ..SIZE }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_full_of_accidents_on_the_embedded_store_is_as_it_should_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("embedded:{}", folder.path().display());
    play(store, Size { servers: 1, server_deaths: 10, ..SIZE }).await;
}

const SIZE: Size =
    Size { servers: 0, server_deaths: 0, producers: 3, callers: 4, watchers: 64, workers: 6 };
