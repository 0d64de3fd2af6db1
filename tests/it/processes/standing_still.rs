//! A server that stands still, like one on a virtual machine that is moved: no worker that renews its leases loses one.

use std::time::Duration;

use futures_util::future::join_all;
use longhaul::clock::{Clock, SystemClock};

use super::binary::Longhaul;
use super::bounds::{LONG, within};
use super::clients::Client;
use super::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_outlive_a_standstill_of_the_server_on_the_embedded_store() {
    let folder = tempfile::tempdir().expect("a folder");
    leases_outlive_a_standstill(&format!("embedded:{}", folder.path().display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_outlive_a_standstill_of_the_server_on_redis() {
    let redis = Redis::forgetful();
    leases_outlive_a_standstill(&redis.url()).await;
}

async fn leases_outlive_a_standstill(store: &str) {
    let server = Longhaul::serve(store).await;
    let client = server.client();
    let ids: Vec<String> = (0..LEASES).map(|number| format!("still-{number}")).collect();
    for id in &ids {
        client.start(id, "still").await.expect("a start");
    }
    let mut leases = Vec::new();
    while leases.len() < ids.len() {
        leases.extend(client.lease("still", LEASES, LEASE, LONG).await.expect("leases"));
    }
    for round in 1..=ROUNDS {
        if round == 3 {
            server.stop_for(STANDSTILL);
        }
        let reports = leases.iter().map(|lease| client.report(lease, round));
        let answers = within(LONG, "the reports", join_all(reports)).await;
        for answer in answers {
            answer.expect("a lease that was renewed in time");
        }
        SystemClock::new().sleep(LEASE / 6).await;
    }
    for id in &ids {
        assert_eq!(attempts(&client, id).await, 1, "{id}");
    }
}

async fn attempts(client: &Client, id: &str) -> usize {
    client.record(id).await.expect("a record").attempts.len()
}

const LEASES: i32 = 20;
const LEASE: Duration = Duration::from_secs(2);
/// Longer than a lease.
const STANDSTILL: Duration = Duration::from_secs(4);
const ROUNDS: i64 = 9;
