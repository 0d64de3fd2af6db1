//! Servers whose deliveries end in a basket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{caller, name, report, request, wish};
use crate::engine::{
    Courier, Deliveries, EndpointRotation, EndpointTarget, Engine, NewEndpoint, Settings,
};
use crate::operation::command::{Command, Complete, Proof};
use crate::operation::lease::Token;
use crate::operation::name::{Id, Parent};
use crate::post::{
    Carrier, Letter, Receipt, ReceiverReply, Refused, SigningKey, Unanswered, UrlGuard,
};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::callback::Event;
use crate::record::AnyRecord;
use crate::record::delivery::{DELIVERIES, Delivery};
use crate::store::conformance::Harness;
use crate::store::differential::backends;
use crate::store::{Entry, Index, Key, Scan};
use crate::webhook::endpoint::{Endpoint, EndpointSettings, SecretAlgorithm};

/// Keeps what it carries, and answers as the test says.
#[derive(Debug, Default)]
pub(super) struct Basket {
    pub(super) letters: Mutex<Vec<Letter>>,
    /// The statuses of hosts; others answer 200. 0 is no reply.
    statuses: Mutex<HashMap<String, u16>>,
}

#[async_trait]
impl Carrier for Basket {
    fn check(&self, url: &str) -> Result<(), Refused> {
        UrlGuard::default().url(url).map(drop)
    }

    async fn carry(&self, letter: &Letter) -> Receipt {
        lock(&self.letters).push(letter.clone());
        let url = url::Url::parse(&letter.url).expect("a URL");
        let status = lock(&self.statuses).get(url.host_str().expect("a host")).copied();
        let reply = match status.unwrap_or(200) {
            0 => Err(Unanswered::Late(Duration::from_secs(20))),
            status => {
                let retry_after = (status == 429).then(|| Duration::from_mins(10));
                Ok(ReceiverReply { status, retry_after, body: b"a reply".to_vec() })
            }
        };
        Receipt { latency: Duration::from_millis(7), reply }
    }

    async fn ask(&self, _: &str, _: &str) -> Result<(), Unanswered> {
        Ok(())
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Fixture {
    pub(super) store_name: &'static str,
    pub(super) harness: Harness,
    pub(super) engine: Engine,
    pub(super) basket: Arc<Basket>,
}

/// What a receiver learned: the id, the type and the sequence.
pub(super) type Said = (String, String, u64);

impl Fixture {
    pub(super) async fn each() -> Vec<Self> {
        let mut all = Vec::new();
        for (store_name, factory) in backends() {
            let harness = factory().await;
            let basket = Arc::new(Basket::default());
            let engine = engine(&harness, &basket);
            all.push(Self { store_name, harness, engine, basket });
        }
        all
    }

    pub(super) async fn start(&self, id: &str, callbacks: Vec<pb::Callback>) {
        let mut wanted = request(id);
        wanted.spec.options.callbacks = callbacks;
        self.engine.start_operation(&caller(), wanted).await.expect("a start");
    }

    pub(super) async fn lease(&self) -> Token {
        let mut batch = self.engine.lease(&caller(), wish(1)).await.expect("a batch");
        let leased = batch.load(usize::MAX).await.expect("payloads");
        batch.told();
        leased[0].lease().expect("a lease").token
    }

    pub(super) async fn report(&self, id: &str, token: Token, message: &str) {
        let mut wanted = report(token);
        wanted.status_detail = message.to_owned();
        let command = Command::Report(Box::new(wanted));
        self.engine.work(&caller(), &name(id), command).await.expect("a report");
    }

    pub(super) async fn complete(&self, id: &str, token: Token, response: Option<Any>) {
        let command = Command::Complete(Box::new(Complete {
            proof: Proof { token, fingerprint: [1; 16] },
            response,
            metadata: None,
            related_resources: Vec::new(),
            progress: None,
        }));
        self.engine.work(&caller(), &name(id), command).await.expect("a completion");
    }

    pub(super) async fn run(&self, id: &str, callbacks: Vec<pb::Callback>) {
        self.start(id, callbacks).await;
        let token = self.lease().await;
        self.complete(id, token, None).await;
    }

    /// Everything that happens without time passing.
    pub(super) async fn settle(&self) {
        settle(&self.engine).await;
    }

    pub(super) fn advance(&self, by: Duration) {
        self.harness.clock.advance(by);
    }

    pub(super) fn answer(&self, host: &str, status: u16) {
        lock(&self.basket.statuses).insert(host.to_owned(), status);
    }

    /// What receivers of that host were sent since the last call.
    pub(super) fn said(&self, host: &str) -> Vec<Said> {
        let mut letters = lock(&self.basket.letters);
        let (ours, others) = letters
            .drain(..)
            .partition(|letter: &Letter| letter.url.starts_with(&format!("https://{host}/")));
        *letters = others;
        ours.iter().map(said).collect()
    }

    /// The bodies that receivers of that host were sent since the last call.
    pub(super) fn bodies(&self, host: &str) -> Vec<serde_json::Value> {
        let mut letters = lock(&self.basket.letters);
        let (ours, others) = letters
            .drain(..)
            .partition(|letter: &Letter| letter.url.starts_with(&format!("https://{host}/")));
        *letters = others;
        let body = |letter: &Letter| serde_json::from_slice(&letter.body).expect("JSON");
        ours.iter().map(body).collect()
    }

    /// The keys that signed the last letter.
    pub(super) fn keys(&self) -> Vec<SigningKey> {
        lock(&self.basket.letters).last().expect("a letter").keys.clone()
    }

    /// Another server on the same store, which sends to the same receivers.
    pub(super) fn other(&self) -> Engine {
        engine(&self.harness, &self.basket)
    }

    pub(super) fn events(&self, host: &str) -> Vec<String> {
        self.said(host).into_iter().map(|(_, event, _)| event).collect()
    }

    pub(super) async fn scan(&self, index: &'static str) -> Vec<Entry> {
        let scan = Scan::first(Index::new(index), 1_000);
        self.harness.store.scan(scan).await.expect("entries")
    }

    pub(super) async fn deliveries(&self) -> Vec<(Key, Delivery)> {
        let entries = self.scan(DELIVERIES).await;
        let keys: Vec<Key> = entries.iter().filter_map(Entry::key).collect();
        let found = self.engine.rooms.reader.read_any(&keys).await.expect("an answer");
        let read = |(key, found)| match found {
            Ok(Some(AnyRecord::Delivery(before))) => (key, before.record),
            other => panic!("{}: {other:?}", self.store_name),
        };
        keys.into_iter().zip(found).map(read).collect()
    }
}

pub(super) fn engine(harness: &Harness, basket: &Arc<Basket>) -> Engine {
    let settings = Settings {
        carrier: Some(basket.clone()),
        progress_interval: Duration::ZERO,
        ..Settings::default()
    };
    Engine::with(harness.store.clone(), harness.clock.clone(), settings)
}

pub(super) async fn settle(engine: &Engine) {
    loop {
        let swept = Courier.run_once(engine).await.expect("a sweep");
        let sent = Deliveries.run_once(engine).await.expect("attempts");
        if swept.due == 0 && sent == 0 {
            return;
        }
    }
}

pub(super) fn said(letter: &Letter) -> Said {
    let body: serde_json::Value = serde_json::from_slice(&letter.body).expect("JSON");
    let event = body["type"].as_str().expect("a type").to_owned();
    (letter.id.clone(), event, body["data"]["sequence"].as_u64().expect("a sequence"))
}

pub(super) fn callback(host: &str, events: &[Event]) -> pb::Callback {
    pb::Callback {
        uri: format!("https://{host}/hook"),
        events: events.iter().map(|event| (*event).into()).collect(),
        ..pb::Callback::default()
    }
}

pub(super) const EVERYTHING: [Event; 2] = [Event::StateChanged, Event::Progress];

pub(super) fn endpoint(parent: &str, id: &str, events: &[Event], filter: &str) -> NewEndpoint {
    NewEndpoint {
        parent: Parent::parse(parent).expect("a parent"),
        id: Some(Id::parse(id).expect("an id")),
        settings: EndpointSettings {
            uri: format!("https://{id}.test/hook"),
            events: events.to_vec(),
            filter: filter.to_owned(),
            ..EndpointSettings::default()
        },
        algorithm: SecretAlgorithm::default(),
        request_id: String::new(),
        fingerprint: [0; 16],
        validate_only: false,
    }
}

impl Fixture {
    pub(super) async fn create(&self, new: NewEndpoint) -> Endpoint {
        let created = self.engine.create_endpoint(&caller(), new).await.expect("an endpoint");
        // Endpoints that were read a moment ago are read again.
        self.advance(Duration::from_secs(2));
        self.engine.rooms.listening.refresh().await.expect("a look");
        created
    }

    /// Gives an endpoint a new secret, beside the former ones.
    pub(super) async fn rotate(
        &self,
        endpoint: &Endpoint,
        algorithm: Option<SecretAlgorithm>,
    ) -> Endpoint {
        let name = endpoint.name.clone();
        let rotation = EndpointRotation {
            target: EndpointTarget { name, etag: String::new(), validate_only: false },
            overlap: Duration::from_hours(1),
            algorithm,
            request_id: String::new(),
        };
        self.engine.rotate_endpoint(&caller(), &rotation).await.expect("a rotation")
    }

    pub(super) async fn endpoint(&self, endpoint: &Endpoint) -> Endpoint {
        self.engine.get_endpoint(&caller(), &endpoint.name).await.expect("an endpoint")
    }
}
