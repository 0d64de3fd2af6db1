//! Acknowledged data is there, once, whichever process is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longhaul::proto::longhaul::v1::Lease;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Code;

use super::binary::Longhaul;
use super::bounds::{LONG, eventually, soon};
use super::clients::{Client, Reply, name};
use super::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_the_server_loses_and_doubles_nothing_on_the_embedded_store() {
    let folder = tempfile::tempdir().expect("a folder");
    survives_kill_9_of_the_server(&format!("embedded:{}", folder.path().display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_the_server_loses_and_doubles_nothing_on_a_redis_that_syncs() {
    let redis = Redis::durable();
    survives_kill_9_of_the_server(&redis.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_a_redis_that_syncs_loses_and_doubles_nothing() {
    let mut redis = Redis::durable();
    let server = Longhaul::serve_with(&redis.url(), &["--durability", "fsync"]).await;
    // The server lives on: callers see no error but UNAVAILABLE.
    let campaign = Campaign::new(server.client(), Some(Code::Unavailable));
    let callers = campaign.start_operations();
    for count in [300, 600] {
        campaign.acknowledged(count).await;
        redis.kill();
        redis.restart();
    }
    campaign.finish_starting(callers).await;
    let workers = campaign.complete_operations().await;
    campaign.completed(STARTS / 2).await;
    redis.kill();
    redis.restart();
    campaign.finish_completing(workers).await;
}

async fn survives_kill_9_of_the_server(store: &str) {
    let mut server = Longhaul::serve(store).await;
    let campaign = Campaign::new(server.client(), None);
    let callers = campaign.start_operations();
    for count in [400, 700] {
        campaign.acknowledged(count).await;
        server.kill();
        server = Longhaul::serve(store).await;
        campaign.client.send_replace(server.client());
    }
    campaign.finish_starting(callers).await;
    let workers = campaign.complete_operations().await;
    campaign.completed(STARTS / 2).await;
    server.kill();
    server = Longhaul::serve(store).await;
    campaign.client.send_replace(server.client());
    campaign.finish_completing(workers).await;
}

/// Callers and workers that record which calls were acknowledged.
#[derive(Clone)]
struct Campaign {
    /// Of the server that lives now.
    client: watch::Sender<Client>,
    /// The only refusal that is acceptable; any, where the server itself is killed.
    refusal: Option<Code>,
    notes: Arc<Mutex<Notes>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Notes {
    acknowledged: BTreeSet<String>,
    /// Started or not: the call failed, and there was no retry.
    unknown: BTreeSet<String>,
    /// How often the end of each was acknowledged.
    completed: BTreeMap<String, usize>,
}

#[derive(Default)]
struct Counts {
    next: AtomicUsize,
    acknowledged: AtomicUsize,
    completed: AtomicUsize,
}

impl Campaign {
    fn new(client: Client, refusal: Option<Code>) -> Self {
        let client = watch::Sender::new(client);
        Self { client, refusal, notes: Arc::default(), counts: Arc::default() }
    }

    /// Has callers start operations until enough are acknowledged.
    fn start_operations(&self) -> JoinSet<()> {
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let campaign = self.clone();
            callers.spawn(async move {
                while campaign.counts.acknowledged.load(Ordering::SeqCst) < STARTS {
                    campaign.start_one().await;
                }
            });
        }
        callers
    }

    /// Every other operation is retried until it is acknowledged; the result of a failed call of the rest is unknown.
    async fn start_one(&self) {
        let number = self.counts.next.fetch_add(1, Ordering::SeqCst);
        let id = &format!("op-{number}");
        if number.is_multiple_of(2) {
            self.until_done("a start", |client| async move { client.start(id, QUEUE).await }).await;
        } else if !self.once(|client| async move { client.start(id, QUEUE).await }).await {
            self.notes().unknown.insert(name(id));
            return;
        }
        self.notes().acknowledged.insert(name(id));
        self.counts.acknowledged.fetch_add(1, Ordering::SeqCst);
    }

    async fn acknowledged(&self, count: usize) {
        reached(&self.counts.acknowledged, count, "acknowledged starts").await;
    }

    async fn completed(&self, count: usize) {
        reached(&self.counts.completed, count, "acknowledged ends").await;
    }

    /// No acknowledged operation is missing, none exists twice, and none exists that was not started.
    async fn finish_starting(&self, callers: JoinSet<()>) {
        soon("all callers", callers.join_all()).await;
        let listed = self.listed().await;
        let notes = self.notes();
        let missing: Vec<_> = notes.acknowledged.difference(&listed).collect();
        assert!(missing.is_empty(), "acknowledged, but not there: {missing:?}");
        let strange: Vec<_> = listed
            .iter()
            .filter(|name| !notes.acknowledged.contains(*name) && !notes.unknown.contains(*name))
            .collect();
        assert!(strange.is_empty(), "there, but asked for by nobody: {strange:?}");
    }

    /// Leases all there is and has workers finish it.
    async fn complete_operations(&self) -> JoinSet<()> {
        let (listed, mut leases) = (self.listed().await, Vec::new());
        loop {
            let client = self.now();
            let leased = client.lease(QUEUE, 100, LONG * 10, Duration::ZERO);
            let leased = soon("leases", leased).await.expect("leases");
            if leased.is_empty() {
                break;
            }
            leases.extend(leased);
        }
        let names: BTreeSet<&str> = leases.iter().map(|lease| lease.operation.as_str()).collect();
        assert_eq!(names.len(), leases.len(), "an operation is leased twice");
        let idle: Vec<_> = listed.iter().filter(|name| !names.contains(name.as_str())).collect();
        assert!(idle.is_empty(), "not leased: {idle:?}");

        let share = leases.len().div_ceil(CALLERS);
        let mut workers = JoinSet::new();
        for leases in leases.chunks(share) {
            let (campaign, leases) = (self.clone(), leases.to_vec());
            workers.spawn(async move {
                for lease in leases {
                    campaign.complete_one(lease).await;
                }
            });
        }
        workers
    }

    async fn complete_one(&self, lease: Lease) {
        assert_eq!(lease.attempt, 1, "{}", lease.operation);
        let held = &lease;
        self.until_done("an end", |client| async move { client.complete(held).await }).await;
        *self.notes().completed.entry(lease.operation).or_default() += 1;
        self.counts.completed.fetch_add(1, Ordering::SeqCst);
    }

    /// All operations are done, and none is left to lease.
    async fn finish_completing(&self, workers: JoinSet<()>) {
        soon("all workers", workers.join_all()).await;
        let operations = self.now().list_all().await;
        let unfinished: Vec<_> = operations.iter().filter(|operation| !operation.done).collect();
        assert!(unfinished.is_empty(), "{unfinished:?}");
        assert_eq!(operations.len(), self.notes().completed.len());
        assert!(self.notes().completed.values().all(|times| *times == 1));
        let rest = self.now().lease(QUEUE, 1, LONG, Duration::ZERO).await.expect("an answer");
        assert!(rest.is_empty(), "{rest:?}");
    }

    async fn listed(&self) -> BTreeSet<String> {
        self.now().list_all().await.into_iter().map(|operation| operation.name).collect()
    }

    fn now(&self) -> Client {
        self.client.borrow().clone()
    }

    async fn once<T, F: Future<Output = Reply<T>>>(&self, call: impl Fn(Client) -> F) -> bool {
        let reply = soon("an answer", Box::pin(call(self.now()))).await;
        if let (Err(status), Some(refusal)) = (&reply, self.refusal) {
            assert_eq!(status.code(), refusal, "{status:?}");
        }
        reply.is_ok()
    }

    async fn until_done<T, F>(&self, what: &str, call: impl Fn(Client) -> F)
    where
        F: Future<Output = Reply<T>>,
    {
        eventually(what, || async { self.once(&call).await.then_some(()) }).await;
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn reached(count: &AtomicUsize, wanted: usize, what: &str) {
    eventually(&format!("{wanted} {what}"), || async {
        (count.load(Ordering::SeqCst) >= wanted).then_some(())
    })
    .await;
}

const STARTS: usize = 1_000;
const CALLERS: usize = 8;
const QUEUE: &str = "campaign";
