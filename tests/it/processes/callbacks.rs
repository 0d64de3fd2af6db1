//! Callbacks, with servers that are killed at any step of a delivery, and receivers that are down, flap, hang or are slow.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use longhaul::clock::{Clock, SystemClock};
use longhaul::post::{SignedHead, VerifyingKey};
use longhaul::proto::longhaul::v1::callback::Event;
use longhaul::proto::longhaul::v1::webhooks_client::WebhooksClient;
use longhaul::proto::longhaul::v1::{
    Callback, ListWebhookDeliveriesRequest, ReplayWebhookDeliveryRequest, WebhookDelivery,
};
use tempfile::TempDir;

use super::binary::Longhaul;
use super::bounds::{eventually, retried};
use super::receiver::{Arrived, IMPATIENT, LOOPBACK, listen};
use super::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_killed_at_any_step_deliver_each_event_in_order_on_the_embedded_store() {
    let folder = TempDir::new().expect("a folder");
    survives_kills(&format!("embedded:{}", folder.path().display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_killed_at_any_step_deliver_each_event_in_order_on_redis() {
    let redis = Redis::durable();
    survives_kills(&redis.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_deliver_each_event_in_order_while_receivers_are_down_flap_hang_or_are_slow() {
    let redis = Redis::forgetful();
    let servers = [serve(&redis.url()).await, serve(&redis.url()).await];
    let manners = [Manners::Down, Manners::Flaps, Manners::Hangs, Manners::Slow, Manners::Well];
    let receivers = manners.map(Receiver::open);
    for number in 0..10 {
        let (here, there) = (&servers[number % 2], &servers[(number + 1) % 2]);
        let id = format!("op-{number}");
        let callbacks = receivers.iter().map(Receiver::callback).collect();
        here.client().start_told(&id, callbacks).await.expect("a start");
        work(there).await;
    }
    // The healthy one has everything although others hang.
    let well = &receivers[manners.len() - 1];
    complete(well, 10).await;
    for receiver in &receivers {
        receiver.behave(Manners::Well);
    }
    for receiver in &receivers {
        complete(receiver, 10).await;
        receiver.check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_between_a_replay_and_its_request_sends_it_later() {
    let folder = TempDir::new().expect("a folder");
    let store = format!("embedded:{}", folder.path().display());
    let receiver = Receiver::open(Manners::Well);
    let mut server = serve(&store).await;
    server.client().start_told("op", vec![receiver.callback()]).await.expect("a start");
    work(&server).await;
    complete(&receiver, 1).await;
    // The reply to the end may not be noted yet, and what is not over is not replayed.
    let parent = super::clients::name("op");
    let replayed = retried("a replay", || async {
        let mut webhooks = WebhooksClient::new(server.client().channel());
        let request = ListWebhookDeliveriesRequest { parent: parent.clone(), ..Default::default() };
        let listed = webhooks.list_webhook_deliveries(request).await?.into_inner();
        let over = |it: &WebhookDelivery| it.sequence == 2 && it.end_time.is_some();
        let over = listed.webhook_deliveries.into_iter().find(over);
        let over = over.ok_or_else(|| tonic::Status::unavailable("it has not ended"))?;
        receiver.behave(Manners::Down);
        webhooks.replay_webhook_delivery(ReplayWebhookDeliveryRequest { name: over.name }).await
    });
    let name = replayed.await.into_inner().name;
    server.kill();
    receiver.behave(Manners::Well);
    let _server = serve(&store).await;
    let again = || async {
        let requests = receiver.requests();
        let same = requests.iter().filter(|it| it.accepted && name.ends_with(&it.head.id));
        (same.count() >= 2).then_some(())
    };
    eventually("the replayed event", again).await;
    receiver.check();
}

/// Each life starts and completes operations, and ends at another step of their deliveries.
async fn survives_kills(store: &str) {
    let receiver = Receiver::open(Manners::Flaps);
    let clock = SystemClock::new();
    for life in 0..LIVES {
        let mut server = serve(store).await;
        for number in 0..3 {
            let id = format!("op-{life}-{number}");
            let client = server.client();
            client.start_told(&id, vec![receiver.callback()]).await.expect("a start");
            work(&server).await;
        }
        clock.sleep(Duration::from_millis(3 * life)).await;
        server.kill();
    }
    receiver.behave(Manners::Well);
    let server = serve(store).await;
    complete(&receiver, 3 * LIVES as usize).await;
    receiver.check();
    let key = VerifyingKey::parse(&server.logged("callback_key")).expect("a public key");
    for request in &*receiver.requests() {
        assert_eq!(request.head.check(&key, &request.body), Ok(()), "{request:?}");
    }
}

pub(super) async fn serve(store: &str) -> Longhaul {
    Longhaul::serve_in(store, &[], &[LOOPBACK, IMPATIENT].concat()).await
}

/// Leases one operation and completes it.
pub(super) async fn work(server: &Longhaul) {
    let client = server.client();
    let lease = retried("a lease", || async {
        let lease = Duration::from_secs(30);
        let leases = client.lease("callbacks", 1, lease, Duration::ZERO).await?;
        leases.into_iter().next().ok_or_else(|| tonic::Status::unavailable("nothing is ready yet"))
    });
    client.complete(&lease.await).await.expect("a completion");
}

/// Waits until a receiver knows the end of that many operations.
async fn complete(receiver: &Receiver, count: usize) {
    let what = format!("{count} ends of operations");
    eventually(&what, || async { (receiver.ends() >= count).then_some(()) }).await;
}

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manners {
    Well,
    Down,
    Flaps,
    Hangs,
    Slow,
}

/// A request, and whether it was accepted.
#[derive(Clone, Debug)]
struct Request {
    head: SignedHead,
    body: Vec<u8>,
    accepted: bool,
}

/// A receiver on this machine.
pub(super) struct Receiver {
    url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    manners: AtomicU8,
    requests: Mutex<Vec<Request>>,
}

impl Receiver {
    pub(super) fn open(manners: Manners) -> Self {
        let shared = Arc::<Shared>::default();
        let answering = Arc::clone(&shared);
        let url = format!("{}/hook", listen(move |arrived| answering.answer(arrived)));
        let receiver = Self { url, shared };
        receiver.behave(manners);
        receiver
    }

    pub(super) fn behave(&self, manners: Manners) {
        self.shared.manners.store(manners as u8, Ordering::Relaxed);
    }

    /// Where it is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn callback(&self) -> Callback {
        Callback {
            uri: self.url.clone(),
            events: vec![Event::StateChanged.into()],
            ..Callback::default()
        }
    }

    fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.shared.requests()
    }

    /// How many operations are known to have ended.
    fn ends(&self) -> usize {
        let requests = self.requests();
        let ended = requests.iter().filter(|request| request.accepted);
        let ended = ended.map(|request| data(&request.body)).filter(|data| data["done"] == true);
        ended.map(|data| data["name"].to_string()).collect::<std::collections::HashSet<_>>().len()
    }

    /// Each operation's accepted events are complete and in order, and repeats have their id.
    fn check(&self) {
        let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut ids: HashMap<String, (String, u64)> = HashMap::new();
        for request in self.requests().iter().filter(|request| request.accepted) {
            let data = data(&request.body);
            let name = data["name"].as_str().expect("a name").to_owned();
            let sequence = data["sequence"].as_u64().expect("a sequence");
            let event = (name.clone(), sequence);
            let known = ids.entry(request.head.id.clone()).or_insert_with(|| event.clone());
            assert_eq!(*known, event, "one id for two events");
            let events = seen.entry(name).or_default();
            if events.contains(&sequence) {
                let others = ids.iter().filter(|(_, other)| **other == event).count();
                assert_eq!(others, 1, "a repeat with another id: {request:?}");
            } else {
                assert!(events.last().is_none_or(|last| *last < sequence), "out of order: {data}");
                events.push(sequence);
            }
        }
        for (name, events) in seen {
            assert_eq!(events, [1, 2], "{name}");
        }
    }
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, arrived: Arrived) -> Option<u16> {
        let head = SignedHead::parse(|name| arrived.header(name)).expect("the signed headers");
        let now = self.manners.load(Ordering::Relaxed);
        let is = |manners: Manners| now == manners as u8;
        let count = self.requests().len();
        if is(Manners::Hangs) {
            thread::sleep(Duration::from_secs(3));
            return None;
        }
        if is(Manners::Slow) {
            thread::sleep(Duration::from_millis(300));
        }
        let accepted = !(is(Manners::Down) || is(Manners::Flaps) && count.is_multiple_of(3));
        self.requests().push(Request { head, body: arrived.body, accepted });
        Some(if accepted { 200 } else { 503 })
    }
}

fn data(body: &[u8]) -> serde_json::Value {
    serde_json::from_slice::<serde_json::Value>(body).expect("JSON")["data"].clone()
}

const LIVES: u64 = 6;
