//! Events become deliveries, and deliveries reach their receivers, in order, on every store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;

use super::{caller, name, report, request, wish};
use crate::engine::{
    Courier, Deliveries, EndpointRotation, EndpointTarget, Engine, Janitor, NewEndpoint, Settings,
};
use crate::limits::{DELIVERY_KEPT, MAX_DELIVERY_AGE};
use crate::operation::command::{Command, Complete, Proof};
use crate::operation::lease::Token;
use crate::operation::name::{Id, Parent};
use crate::operation::payload::type_url;
use crate::post::{
    Carrier, Letter, Receipt, ReceiverReply, Refused, SigningKey, Unanswered, UrlGuard,
};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::callback::{Event, Format};
use crate::record::AnyRecord;
use crate::record::delivery::{DELIVERIES, Delivery, DeliveryStage, LANES, LINES};
use crate::store::conformance::Harness;
use crate::store::differential::backends;
use crate::store::{Entry, Index, Key, Scan};
use crate::webhook::endpoint::{Endpoint, EndpointSettings, EndpointState, SecretAlgorithm};

/// Keeps what it carries, and answers as the test says.
#[derive(Debug, Default)]
struct Basket {
    letters: Mutex<Vec<Letter>>,
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Fixture {
    pub(super) store_name: &'static str,
    pub(super) harness: Harness,
    pub(super) engine: Engine,
    basket: Arc<Basket>,
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

    fn events(&self, host: &str) -> Vec<String> {
        self.said(host).into_iter().map(|(_, event, _)| event).collect()
    }

    async fn scan(&self, index: &'static str) -> Vec<Entry> {
        let scan = Scan::first(Index::new(index), 1_000);
        self.harness.store.scan(scan).await.expect("entries")
    }

    async fn deliveries(&self) -> Vec<(Key, Delivery)> {
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

fn engine(harness: &Harness, basket: &Arc<Basket>) -> Engine {
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

fn said(letter: &Letter) -> Said {
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

#[tokio::test]
async fn each_event_reaches_each_callback_that_wants_it_once_and_in_order() {
    for fixture in Fixture::each().await {
        let name = fixture.store_name;
        let callbacks = vec![
            callback("all.test", &EVERYTHING),
            callback("end.test", &[]),
            callback("failed.test", &[Event::Failed]),
            callback("all.test", &[Event::Done]),
        ];
        fixture.start("a", callbacks).await;
        fixture.settle().await;
        let token = fixture.lease().await;
        fixture.settle().await;
        fixture.report("a", token, "half way").await;
        fixture.settle().await;
        fixture.complete("a", token, None).await;
        fixture.settle().await;
        let all = fixture.said("all.test");
        let events: Vec<(&str, u64)> = all.iter().map(|(_, event, at)| (&**event, *at)).collect();
        let expected =
            [("operation.started", 1), ("operation.progress", 2), ("operation.succeeded", 3)];
        assert_eq!(events, expected, "{name}");
        let ids: std::collections::HashSet<&String> = all.iter().map(|(id, ..)| id).collect();
        assert_eq!(ids.len(), 3, "{name}: {all:?}");
        assert_eq!(fixture.events("end.test"), ["operation.done"], "{name}");
        assert_eq!(fixture.events("failed.test"), [""; 0], "{name}");
        assert!(fixture.scan(LINES).await.is_empty() && fixture.scan(LANES).await.is_empty());
    }
}

#[tokio::test]
async fn an_operation_without_callbacks_leaves_no_event_and_notes_none() {
    for fixture in Fixture::each().await {
        fixture.run("a", Vec::new()).await;
        assert!(fixture.scan("due/callback").await.is_empty(), "{}", fixture.store_name);
        let view = fixture.engine.get(&caller(), &name("a")).await.expect("a view");
        assert_eq!(view.operation.events, 0, "{}", fixture.store_name);
        // Nor does one whose callbacks want something else.
        fixture.run("b", vec![callback("a.test", &[Event::Cancelled])]).await;
        assert!(fixture.scan("due/callback").await.is_empty(), "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn a_delivery_that_fails_is_tried_on_schedule_with_one_id_and_then_given_up() {
    for fixture in Fixture::each().await {
        fixture.answer("a.test", 500);
        fixture.run("a", vec![callback("a.test", &[])]).await;
        fixture.settle().await;
        let first = fixture.said("a.test");
        assert_eq!(first.len(), 1, "{}", fixture.store_name);
        fixture.advance(Duration::from_secs(4));
        fixture.settle().await;
        assert_eq!(fixture.said("a.test"), [], "{}", fixture.store_name);
        for attempt in 1..10 {
            fixture.advance(Duration::from_hours(29));
            fixture.settle().await;
            // The last ones come too late: five days are over.
            let expected = if attempt < 5 { &first[..] } else { &[] };
            assert_eq!(fixture.said("a.test"), expected, "{} {attempt}", fixture.store_name);
        }
        let kept = fixture.deliveries().await;
        let [(_, kept)] = &kept[..] else { panic!("{kept:?}") };
        assert!(matches!(kept.stage, DeliveryStage::GivenUp(_)), "{kept:?}");
        assert_eq!((kept.attempts[0].status, &kept.reply[..]), (500, &b""[..]));
        assert_eq!(kept.attempts[0].latency, Duration::from_millis(7));
        fixture.advance(DELIVERY_KEPT);
        Janitor.run_once(&fixture.engine).await.expect("a sweep");
        assert_eq!(fixture.deliveries().await, [], "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn later_events_wait_behind_one_that_fails_and_follow_it_in_order() {
    for fixture in Fixture::each().await {
        let name = fixture.store_name;
        fixture.answer("a.test", 503);
        let both = vec![callback("a.test", &EVERYTHING), callback("b.test", &EVERYTHING)];
        fixture.start("a", both).await;
        let token = fixture.lease().await;
        fixture.settle().await;
        fixture.complete("a", token, None).await;
        fixture.settle().await;
        assert_eq!(fixture.events("a.test"), ["operation.started"], "{name}");
        let others = ["operation.started", "operation.succeeded"];
        assert_eq!(fixture.events("b.test"), others, "{name}: another receiver does not wait");
        fixture.answer("a.test", 200);
        fixture.advance(Duration::from_secs(6));
        fixture.settle().await;
        assert_eq!(fixture.events("a.test"), others, "{name}");
    }
}

#[tokio::test]
async fn progress_that_waits_is_replaced_by_later_news() {
    for fixture in Fixture::each().await {
        let name = fixture.store_name;
        fixture.answer("a.test", 503);
        fixture.start("a", vec![callback("a.test", &EVERYTHING)]).await;
        let token = fixture.lease().await;
        fixture.settle().await;
        for message in ["one", "two", "three"] {
            fixture.report("a", token, message).await;
            fixture.settle().await;
        }
        assert_eq!(fixture.deliveries().await.len(), 2, "{name}: one tried, one waits");
        fixture.said("a.test");
        fixture.answer("a.test", 200);
        fixture.advance(Duration::from_secs(6));
        fixture.settle().await;
        let letters = lock(&fixture.basket.letters).split_off(0);
        let bodies: Vec<serde_json::Value> = letters
            .iter()
            .map(|letter| serde_json::from_slice(&letter.body).expect("JSON"))
            .collect();
        assert_eq!(bodies.len(), 2, "{name}: {bodies:?}");
        assert_eq!(bodies[1]["data"]["statusDetail"], "three", "{name}");

        // Progress that was tried and failed gives way, too, and its successor keeps the pace.
        fixture.answer("a.test", 503);
        for message in ["four", "five"] {
            fixture.report("a", token, message).await;
            fixture.settle().await;
        }
        assert_eq!(fixture.said("a.test").len(), 1, "{name}");
        fixture.advance(Duration::from_secs(6));
        fixture.settle().await;
        assert_eq!(fixture.said("a.test").len(), 1, "{name}: four fails again, five waits");
        fixture.answer("a.test", 200);
        fixture.advance(Duration::from_mins(1));
        fixture.settle().await;
        assert_eq!(fixture.said("a.test"), [], "{name}: not before its time");
        fixture.advance(Duration::from_mins(6));
        fixture.settle().await;
        let letters = lock(&fixture.basket.letters).split_off(0);
        let text = String::from_utf8_lossy(&letters[0].body).into_owned();
        assert!(letters.len() == 1 && text.contains("five"), "{name}: {text}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_gone_delays_no_other_and_is_only_probed() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        fixture.answer("dead.test", 0);
        for number in 0..40 {
            fixture.run(&format!("d-{number}"), vec![callback("dead.test", &[])]).await;
        }
        for number in 0..10 {
            fixture.run(&format!("a-{number}"), vec![callback("alive.test", &[])]).await;
        }
        fixture.settle().await;
        assert_eq!(fixture.said("alive.test").len(), 10, "{store}");
        let tried = fixture.said("dead.test").len();
        assert!((5..=8).contains(&tried), "{store}: {tried}");
        fixture.advance(Duration::from_secs(6));
        fixture.settle().await;
        assert_eq!(fixture.said("dead.test").len(), 1, "{store}: a probe");
        fixture.answer("dead.test", 200);
        fixture.advance(Duration::from_mins(1));
        fixture.settle().await;
        fixture.advance(Duration::from_mins(10));
        fixture.settle().await;
        let ids: std::collections::HashSet<String> =
            fixture.said("dead.test").into_iter().map(|(id, ..)| id).collect();
        assert_eq!(ids.len(), 40, "{store}: all arrive once it is back");
    }
}

#[tokio::test]
async fn what_no_attempt_reaches_for_five_days_is_given_up() {
    for fixture in Fixture::each().await {
        fixture.answer("dead.test", 0);
        for number in 0..20 {
            fixture.run(&format!("d-{number}"), vec![callback("dead.test", &[])]).await;
        }
        fixture.settle().await;
        fixture.advance(MAX_DELIVERY_AGE + Duration::from_mins(1));
        fixture.settle().await;
        let over = fixture.deliveries().await;
        assert_eq!(over.len(), 20, "{}", fixture.store_name);
        assert!(
            over.iter().all(|(_, it)| matches!(it.stage, DeliveryStage::GivenUp(_))),
            "{over:?}"
        );
    }
}

#[tokio::test]
async fn receivers_end_deliveries_with_410_and_postpone_them_with_retry_after() {
    for fixture in Fixture::each().await {
        fixture.answer("gone.test", 410);
        fixture.run("a", vec![callback("gone.test", &[])]).await;
        fixture.answer("busy.test", 429);
        fixture.run("b", vec![callback("busy.test", &[])]).await;
        fixture.settle().await;
        assert_eq!(fixture.said("gone.test").len() + fixture.said("busy.test").len(), 2);
        fixture.answer("busy.test", 200);
        fixture.advance(Duration::from_mins(9));
        fixture.settle().await;
        assert_eq!(fixture.said("busy.test"), [], "{}", fixture.store_name);
        // The store's time is some microseconds ahead after many commits.
        fixture.advance(Duration::from_secs(61));
        fixture.settle().await;
        assert_eq!(fixture.said("busy.test").len(), 1, "{}", fixture.store_name);
        assert_eq!(fixture.said("gone.test"), [], "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn a_server_that_ends_at_any_step_loses_nothing_and_another_sends_the_same_id() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        // After the commit.
        fixture.run("a", vec![callback("a.test", &EVERYTHING)]).await;
        // After the event was resolved, while a delivery is claimed, and after it was sent.
        let hung: Arc<Basket> = Arc::default();
        let first = engine(&fixture.harness, &hung);
        Courier.run_once(&first).await.expect("a sweep");
        first.rooms.courier.claim_due(true).await.expect("claimed");
        let claimed = first.rooms.courier.begin();
        assert_eq!(claimed.len(), 1, "{store}");
        let letter = first.rooms.courier.deliver(claimed[0].clone());
        // It is dropped at the first wait after the request, as if the process had ended.
        let _ended = letter.now_or_never();
        // A commit that was sent before the end is applied before the next one.
        fixture.start("z", Vec::new()).await;
        let sent: Vec<Said> = lock(&hung.letters).iter().map(said).collect();

        fixture.settle().await;
        let early = fixture.said("a.test");
        fixture.advance(Duration::from_secs(31));
        fixture.settle().await;
        let all = [early, fixture.said("a.test")].concat();
        let events: Vec<&str> = all.iter().map(|(_, event, _)| &**event).collect();
        let whole = ["operation.started", "operation.succeeded"];
        let rest = &whole[whole.len() - events.len()..];
        assert!(events == rest && events.len() + sent.len() >= 2, "{store}: {sent:?} {all:?}");
        for (id, event, _) in &sent {
            let again = all.iter().find(|(_, other, _)| other == event);
            assert!(again.is_none_or(|(other, ..)| other == id), "{store}: {sent:?} {all:?}");
        }
    }
}

#[tokio::test]
async fn two_servers_send_each_event_in_order_and_once() {
    for fixture in Fixture::each().await {
        let other = engine(&fixture.harness, &fixture.basket);
        for number in 0..20 {
            let id = format!("o-{number}");
            fixture.start(&id, vec![callback("a.test", &EVERYTHING)]).await;
            let token = fixture.lease().await;
            fixture.report(&id, token, "on it").await;
            fixture.complete(&id, token, None).await;
        }
        tokio::join!(fixture.settle(), settle(&other));
        fixture.settle().await;
        let letters = lock(&fixture.basket.letters).split_off(0);
        let mut last: HashMap<String, u64> = HashMap::new();
        let mut ids = std::collections::HashSet::new();
        for letter in &letters {
            let body: serde_json::Value = serde_json::from_slice(&letter.body).expect("JSON");
            let at = body["data"]["sequence"].as_u64().expect("a sequence");
            let name = body["data"]["name"].as_str().expect("a name").to_owned();
            assert!(last.insert(name, at).is_none_or(|before| before < at), "{}", body);
            assert!(ids.insert(letter.id.clone()), "{}: sent twice", fixture.store_name);
        }
        assert!(last.len() == 20 && last.values().all(|at| *at == 3), "{last:?}");
    }
}

#[tokio::test]
async fn the_result_is_sent_where_it_is_wanted_and_in_the_form_that_is_wanted() {
    for fixture in Fixture::each().await {
        let text = prost_types::Value {
            kind: Some(prost_types::value::Kind::StringValue("x".repeat(2_000))),
        };
        let board = prost_types::Struct { fields: [("board".to_owned(), text)].into() };
        let value = prost::Message::encode_to_vec(&board).into();
        let response = Any { type_url: type_url("google.protobuf.Struct"), value };
        let full = pb::Callback { include_result: true, ..callback("full.test", &[]) };
        let bare =
            pb::Callback { format: Format::ResponseBody.into(), ..callback("bare.test", &[]) };
        fixture.start("a", vec![full, bare, callback("thin.test", &[])]).await;
        let token = fixture.lease().await;
        fixture.complete("a", token, Some(response)).await;
        fixture.settle().await;
        let mut bodies: HashMap<String, serde_json::Value> = HashMap::new();
        for letter in lock(&fixture.basket.letters).split_off(0) {
            assert_eq!(letter.keys.len(), 1, "{letter:?}");
            let body = serde_json::from_slice(&letter.body).expect("JSON");
            bodies.insert(letter.url.clone(), body);
        }
        let long = "x".repeat(2_000);
        let full = &bodies["https://full.test/hook"]["data"]["operation"];
        assert_eq!(full["response"]["value"]["board"], *long, "{}", fixture.store_name);
        assert_eq!(bodies["https://bare.test/hook"], serde_json::json!({ "board": long }));
        assert!(bodies["https://thin.test/hook"]["data"].get("operation").is_none());
    }
}

#[tokio::test]
async fn an_operation_that_is_deleted_at_once_still_reports_its_end() {
    for fixture in Fixture::each().await {
        let full = pb::Callback { include_result: true, ..callback("a.test", &[]) };
        fixture.run("a", vec![full]).await;
        fixture.engine.delete(&caller(), &name("a")).await.expect("deleted");
        fixture.settle().await;
        assert_eq!(fixture.events("a.test"), ["operation.done"], "{}", fixture.store_name);
    }
}

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

#[tokio::test]
async fn endpoints_of_a_parent_and_those_above_it_get_the_events_that_they_want() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        fixture.create(endpoint("", "root", &[Event::Succeeded], "")).await;
        let other = endpoint("projects/p", "other", &[Event::Done], "");
        fixture.create(other).await;
        fixture.create(endpoint("", "fits", &[Event::Done], "queue() = q")).await;
        fixture.create(endpoint("", "unfit", &[Event::Done], "queue() = x")).await;
        fixture.run("a", vec![callback("own.test", &[])]).await;
        fixture.settle().await;
        assert_eq!(fixture.events("own.test"), ["operation.done"], "{store}");
        assert_eq!(fixture.events("root.test"), ["operation.succeeded"], "{store}");
        assert_eq!(fixture.events("fits.test"), ["operation.done"], "{store}");
        assert_eq!(fixture.events("unfit.test"), [""; 0], "{store}");
        assert_eq!(fixture.events("other.test"), [""; 0], "{store}");
        let kept = fixture.deliveries().await;
        assert!(kept.len() == 3, "{store}: deliveries are kept: {kept:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_created_later_gets_the_events_of_then_and_none_before() {
    for fixture in Fixture::each().await {
        fixture.engine.rooms.listening.refresh().await.expect("a look");
        fixture.run("a", Vec::new()).await;
        fixture.settle().await;
        fixture.create(endpoint("", "late", &[Event::Done], "")).await;
        fixture.run("b", Vec::new()).await;
        fixture.settle().await;
        assert_eq!(fixture.said("late.test").len(), 1, "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn deliveries_to_an_endpoint_are_signed_with_its_secrets_and_note_its_health() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        let created = fixture.create(endpoint("", "e", &[Event::Done], "")).await;
        fixture.answer("e.test", 500);
        fixture.run("a", Vec::new()).await;
        fixture.settle().await;
        let failing = fixture.endpoint(&created).await;
        assert!(failing.failing_since.is_some(), "{store}: {failing:?}");
        assert_eq!(failing.state_detail, "the receiver answered 500", "{store}");
        let key = SigningKey::Shared(created.secrets[0].key.to_vec());
        assert_eq!(lock(&fixture.basket.letters)[0].keys, [key], "{store}");
        fixture.answer("e.test", 200);
        fixture.advance(Duration::from_secs(6));
        fixture.settle().await;
        assert_eq!(fixture.endpoint(&created).await.failing_since, None, "{store}");

        fixture.answer("e.test", 410);
        fixture.run("b", Vec::new()).await;
        fixture.settle().await;
        let gone = fixture.endpoint(&created).await;
        assert_eq!(gone.state, EndpointState::Disabled, "{store}");
        fixture.said("e.test");
        fixture.advance(Duration::from_secs(2));
        fixture.run("c", Vec::new()).await;
        fixture.settle().await;
        assert_eq!(fixture.said("e.test"), [], "{store}: it is not called any more");
    }
}
