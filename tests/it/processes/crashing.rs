//! A server that crashes again and again.

use longhaul::proto::longhaul::v1::operation_record::State;
use tempfile::TempDir;

use super::binary::Longhaul;
use super::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_crashes_in_a_row_lose_nothing_on_the_embedded_store() {
    let folder = TempDir::new().expect("a folder");
    survives_twenty_crashes(&format!("embedded:{}", folder.path().display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_crashes_in_a_row_lose_nothing_on_redis() {
    let redis = Redis::durable();
    survives_twenty_crashes(&redis.url()).await;
}

/// Each life ends right after an acknowledgement, or before any call.
async fn survives_twenty_crashes(store: &str) {
    let (mut acknowledged, mut oldest) = (Vec::new(), None);
    for life in 0..20 {
        let mut server = Longhaul::serve(store).await;
        if life % 3 != 2 {
            let client = server.client();
            for number in 0..5 {
                let started = client.start(&format!("op-{life:02}-{number}"), "queue").await;
                acknowledged.push(started.expect("a start").name);
            }
            oldest = oldest.or(client.queue("queue").await.expect("a queue").oldest_pending_time);
        }
        server.kill();
    }
    let server = Longhaul::serve(store).await;
    let counts = server.client().counts().await.expect("counts");
    assert_eq!(counts, [(State::Pending as i32, acknowledged.len() as i64)].into());
    let queue = server.client().queue("queue").await.expect("a queue");
    let counts = (queue.pending_operations, queue.running_operations);
    assert_eq!(counts, (acknowledged.len() as i64, 0));
    assert_eq!(queue.oldest_pending_time, oldest);
    let mut listed: Vec<_> =
        server.client().list_all().await.into_iter().map(|operation| operation.name).collect();
    listed.sort_unstable();
    assert_eq!(listed, acknowledged);
}
