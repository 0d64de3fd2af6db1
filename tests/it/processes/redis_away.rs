//! Every verb while Redis is away: UNAVAILABLE in time, nothing half-written, and success as soon as Redis is back.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use longhaul::proto::grpc::health::v1::health_check_response::ServingStatus;
use longhaul::proto::longhaul::v1::Lease;
use longhaul::proto::longhaul::v1::operation_record::State;
use longhaul::proto::longhaul::v1::watch_operation_response::Type;
use tonic::Code;

use super::binary::Longhaul;
use super::bounds::{LONG, retried, within};
use super::clients::{Client, Reply, assert_store_unavailable, name};
use super::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_is_unavailable_while_redis_is_dead_and_works_when_it_is_back() {
    let mut redis = Redis::durable();
    let table = Table::on(&redis).await;
    redis.kill();
    table.is_unavailable().await;
    redis.restart();
    table.is_untouched().await;
    table.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_is_unavailable_while_redis_hangs_and_works_when_it_goes_on() {
    let redis = Redis::durable();
    let table = Table::on(&redis).await;
    let freezer = redis.freezer();
    freezer.freeze();
    table.is_unavailable().await;
    freezer.thaw();
    table.works().await;
}

/// A server, and for each verb an operation that it is for.
struct Table {
    _server: Longhaul,
    client: Client,
    reported: Lease,
    completed: Lease,
}

impl Table {
    async fn on(redis: &Redis) -> Self {
        let environment = [("LONGHAUL_REDIS__RESPONSE_TIMEOUT", "1s")];
        let server = Longhaul::serve_in(&redis.url(), &[], &environment).await;
        let client = server.client();
        for id in PREPARED {
            client.start(id, id).await.expect("a start");
        }
        let lease =
            async |id| client.lease(id, 1, LONG * 10, LONG).await.expect("a lease").remove(0);
        let (reported, completed) = (lease("reported").await, lease("completed").await);
        Self { _server: server, client, reported, completed }
    }

    /// Each verb once.
    fn calls(&self) -> Vec<(&'static str, BoxFuture<'_, Reply<()>>)> {
        let client = &self.client;
        vec![
            ("start", client.start("started", "started").map(|reply| reply.map(drop)).boxed()),
            ("get", client.get("read").map(|reply| reply.map(drop)).boxed()),
            ("record", client.record("read").map(|reply| reply.map(drop)).boxed()),
            ("list", client.list(5, "").map(|reply| reply.map(drop)).boxed()),
            ("wait", client.wait("read", MOMENT).map(|reply| reply.map(drop)).boxed()),
            ("watch", self.watch().boxed()),
            ("lease", self.lease().boxed()),
            ("report", client.report(&self.reported, 1).boxed()),
            ("complete", client.complete(&self.completed).boxed()),
            ("cancel", client.cancel("cancelled").boxed()),
            ("delete", client.delete("deleted").boxed()),
            ("pause", client.pause("paused").map(|reply| reply.map(drop)).boxed()),
        ]
    }

    async fn watch(&self) -> Reply<()> {
        let mut watcher = self.client.watch("read").await?;
        let event = watcher.next().await?.expect("a state");
        assert_eq!(event.r#type(), Type::Snapshot);
        Ok(())
    }

    async fn lease(&self) -> Reply<()> {
        let leases = self.client.lease("leased", 1, LONG, Duration::ZERO).await?;
        assert_eq!(leases.len(), 1);
        Ok(())
    }

    /// Each verb fails with a reason and a retry delay, and in time.
    async fn is_unavailable(&self) {
        let refused = self.calls().into_iter().map(async |(verb, call)| {
            let reply = within(BOUND, verb, call).await;
            assert_store_unavailable(verb, &reply.expect_err(verb));
        });
        join_all(refused).await;
        self.client.becomes(ServingStatus::NotServing).await;
    }

    /// Nothing was done, not even in part.
    async fn is_untouched(&self) {
        let client = &self.client;
        client.becomes(ServingStatus::Serving).await;
        let names = client.list_all().await.into_iter().map(|operation| operation.name);
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        assert_eq!(names, PREPARED.map(name));
        for id in ["cancelled", "deleted", "leased", "paused", "read"] {
            assert_eq!(client.state(id).await.expect("a state"), State::Pending, "{id}");
        }
        for id in ["reported", "completed"] {
            let record = client.record(id).await.expect("a record");
            assert_eq!(record.state(), State::Running, "{id}");
            assert!(record.server_metadata.expect("metadata").progress.is_none(), "{id}");
        }
    }

    /// The same calls are done, each once.
    async fn works(&self) {
        let client = &self.client;
        client.becomes(ServingStatus::Serving).await;
        for position in 0..self.calls().len() {
            let verb = self.calls().swap_remove(position).0;
            retried(verb, || self.calls().swap_remove(position).1).await;
        }
        for (id, state) in [
            ("started", State::Pending),
            ("read", State::Pending),
            ("leased", State::Running),
            ("reported", State::Running),
            ("completed", State::Succeeded),
            ("cancelled", State::Cancelled),
            ("paused", State::Suspended),
        ] {
            assert_eq!(client.state(id).await.expect("a state"), state, "{id}");
        }
        let record = client.record("reported").await.expect("a record");
        let progress = record.server_metadata.and_then(|metadata| metadata.progress);
        assert_eq!(progress.expect("progress").completed_units, 1);
        let gone = client.get("deleted").await.expect_err("deleted");
        assert_eq!(gone.code(), Code::NotFound);
        // One more than before, one less than that.
        assert_eq!(client.list_all().await.len(), PREPARED.len());
    }
}

/// In the order of their names.
const PREPARED: [&str; 7] =
    ["cancelled", "completed", "deleted", "leased", "paused", "read", "reported"];
const MOMENT: Duration = Duration::from_millis(1);
/// A few answers of Redis that do not come within a second each, and room for a busy machine.
const BOUND: Duration = Duration::from_secs(10);
