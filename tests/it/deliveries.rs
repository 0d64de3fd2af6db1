//! Deliveries over the API: listed, shown, replayed; test events; and receivers that are never called.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use longhaul::engine::{Courier, Deliveries};
use longhaul::post::{
    Carrier, Letter, Receipt, ReceiverReply, Refused, SignedHead, Unanswered, UrlGuard,
    VerifyingKey,
};
use longhaul::proto::longhaul::v1::webhooks_client::WebhooksClient;
use longhaul::store::faulty::Fault;
use pb::callback::Event;
use pb::webhook_delivery::State as DeliveryState;
use pb::webhook_endpoint::{Algorithm, State as EndpointState};
use tonic::Status;

use crate::exporting::{Place, exported};
use crate::support::rest::Line;
use crate::support::*;
use crate::{jobs, webhooks};

scenarios! {
    over every face;
    deliveries_are_listed_shown_and_replayed,
    a_delivery_that_is_not_there_or_not_over_is_refused,
    a_delivery_belongs_to_its_endpoint_or_operation_and_to_no_other,
    a_test_event_tells_how_the_receiver_answered_and_resumes_the_endpoint,
    a_receiver_that_is_never_called_is_refused_by_name_with_the_setting,
    the_public_key_of_an_endpoint_verifies_its_deliveries,
    runs_of_a_job_have_its_callbacks;
    over grpc;
    a_replay_of_unknown_outcome_is_made_once,
    a_copy_has_endpoints_and_deliveries_and_sends_what_waits,
}

/// Takes what it is told to take.
#[derive(Debug)]
pub(crate) struct Mailbox {
    status: AtomicU16,
    letters: Mutex<Vec<Letter>>,
}

impl Mailbox {
    pub(crate) fn answering(status: u16) -> Arc<Self> {
        Arc::new(Self { status: status.into(), letters: Mutex::default() })
    }

    pub(crate) fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// What arrived since the last call.
    pub(crate) fn take(&self) -> Vec<Letter> {
        std::mem::take(&mut *self.letters.lock().expect("letters"))
    }
}

#[async_trait]
impl Carrier for Mailbox {
    fn check(&self, url: &str) -> Result<(), Refused> {
        UrlGuard::default().url(url).map(drop)
    }

    async fn carry(&self, letter: &Letter) -> Receipt {
        self.letters.lock().expect("letters").push(letter.clone());
        let reply = match self.status.load(Ordering::Relaxed) {
            0 => Err(Unanswered::Broken("connection refused".to_owned())),
            status => Ok(ReceiverReply { status, retry_after: None, body: b"taken\xff".to_vec() }),
        };
        Receipt { latency: Duration::from_millis(7), reply }
    }

    async fn ask(&self, _: &str, _: &str) -> Result<(), Unanswered> {
        Ok(())
    }
}

fn client(fixture: &Fixture) -> WebhooksClient<Line> {
    WebhooksClient::new(fixture.line.clone())
}

/// Everything that the courier does without time passing.
pub(crate) async fn deliver(fixture: &Fixture) {
    let engine = fixture.server.engine();
    loop {
        let swept = Courier.run_once(engine).await.expect("a sweep");
        if Deliveries.run_once(engine).await.expect("attempts") == 0 && swept.due == 0 {
            return;
        }
    }
}

fn listing(parent: &str) -> pb::ListWebhookDeliveriesRequest {
    pb::ListWebhookDeliveriesRequest { parent: parent.to_owned(), ..Default::default() }
}

async fn page(
    fixture: &Fixture,
    request: pb::ListWebhookDeliveriesRequest,
) -> Result<pb::ListWebhookDeliveriesResponse, Status> {
    let page = within("a list", client(fixture).list_webhook_deliveries(request)).await;
    page.map(tonic::Response::into_inner)
}

pub(crate) async fn list(fixture: &Fixture, parent: &str) -> Vec<pb::WebhookDelivery> {
    page(fixture, listing(parent)).await.granted().webhook_deliveries
}

async fn get(fixture: &Fixture, name: &str) -> Result<pb::WebhookDelivery, Status> {
    let request = pb::GetWebhookDeliveryRequest { name: name.to_owned() };
    let got = within("a get", client(fixture).get_webhook_delivery(request)).await;
    got.map(tonic::Response::into_inner)
}

async fn replay(fixture: &Fixture, name: &str) -> Result<pb::WebhookDelivery, Status> {
    let request = pb::ReplayWebhookDeliveryRequest { name: name.to_owned() };
    let replayed = within("a replay", client(fixture).replay_webhook_delivery(request)).await;
    replayed.map(tonic::Response::into_inner)
}

async fn test(fixture: &Fixture, name: &str) -> Result<pb::TestWebhookEndpointResponse, Status> {
    let request = pb::TestWebhookEndpointRequest { name: name.to_owned() };
    let tested = within("a test", client(fixture).test_webhook_endpoint(request)).await;
    tested.map(tonic::Response::into_inner)
}

fn told(uri: &str) -> pb::StartOperationRequest {
    let callback = pb::Callback { uri: uri.to_owned(), ..Default::default() };
    let options = pb::OperationOptions { callbacks: vec![callback], ..Default::default() };
    pb::StartOperationRequest { parent: "projects/p".to_owned(), ..start_with("q", options) }
}

/// Runs an operation with a callback, and returns its name.
pub(crate) async fn run(fixture: &Fixture) -> String {
    let lease = fixture.running(told("https://callback.test/done")).await;
    fixture.complete(completion(&lease)).await.granted();
    lease.operation
}

/// An endpoint below that parent.
pub(crate) async fn endpoint(fixture: &Fixture, parent: &str, id: &str) -> String {
    webhooks::create(fixture, webhooks::request(parent, id)).await.granted().name
}

async fn deliveries_are_listed_shown_and_replayed(fixture: &Fixture) {
    let endpoint = endpoint(fixture, "projects/p", "e").await;
    let mailbox = Mailbox::answering(503);
    let fixture = &fixture.delivering(mailbox.clone()).await;
    let operation = run(fixture).await;
    deliver(fixture).await;
    let sent = mailbox.take();
    assert_eq!(sent.len(), 2);
    for owner in [&endpoint, &operation] {
        let [delivery] = &list(fixture, owner).await[..] else { panic!("one for {owner}") };
        let id = delivery.name.strip_prefix(&format!("{owner}/deliveries/")).expect("its name");
        assert!(sent.iter().any(|letter| letter.id == id), "{id} is the webhook-id");
        assert_eq!(get(fixture, &delivery.name).await.granted(), *delivery);
        assert_eq!((delivery.state(), delivery.event()), (DeliveryState::Failed, Event::Done));
        assert_eq!((&delivery.operation, delivery.sequence), (&operation, 2));
        assert!(delivery.create_time.is_some() && delivery.event_time.is_some());
        assert!(delivery.next_attempt_time.is_some() && delivery.end_time.is_none());
        let [attempt] = &delivery.attempts[..] else { panic!("one attempt: {delivery:?}") };
        assert_eq!((attempt.status_code, &*attempt.error), (503, ""));
        assert_eq!(attempt.latency, millis(7));
        let expected = if *owner == endpoint {
            ("", "taken\u{fffd}")
        } else {
            ("https://callback.test/done", "")
        };
        assert_eq!((&*delivery.uri, &*delivery.reply), expected, "of {owner}");
        let failed = pb::ListWebhookDeliveriesRequest {
            state: DeliveryState::Failed.into(),
            ..listing(&format!("{owner}/deliveries"))
        };
        let waiting = pb::ListWebhookDeliveriesRequest {
            state: DeliveryState::Waiting.into(),
            ..listing(owner)
        };
        assert_eq!(page(fixture, failed).await.granted().webhook_deliveries.len(), 1);
        assert!(page(fixture, waiting).await.granted().webhook_deliveries.is_empty());
    }
    mailbox.answer(200);
    fixture.let_pass(Duration::from_secs(7));
    deliver(fixture).await;
    for owner in [&endpoint, &operation] {
        let [delivery] = &list(fixture, owner).await[..] else { panic!("one for {owner}") };
        assert_eq!((delivery.state(), delivery.attempt_count), (DeliveryState::Delivered, 2));
        assert!(delivery.end_time.is_some() && delivery.next_attempt_time.is_none());
        mailbox.take();
        let replayed = replay(fixture, &delivery.name).await.granted();
        assert_eq!(replayed.state(), DeliveryState::Waiting);
        assert!(replayed.replay_time.is_some() && replayed.next_attempt_time.is_some());
        deliver(fixture).await;
        let [letter] = &mailbox.take()[..] else { panic!("sent once") };
        assert!(delivery.name.ends_with(&letter.id), "the same id");
        assert_eq!(get(fixture, &delivery.name).await.granted().attempt_count, 3);
    }
}

async fn a_delivery_that_is_not_there_or_not_over_is_refused(fixture: &Fixture) {
    let endpoint = endpoint(fixture, "projects/p", "e").await;
    let mailbox = Mailbox::answering(503);
    let fixture = &fixture.delivering(mailbox.clone()).await;
    assert!(list(fixture, &endpoint).await.is_empty(), "there may be some");
    let missing = format!("{endpoint}/deliveries/msg_{}", "0".repeat(32));
    for refused in [get(fixture, &missing).await, replay(fixture, &missing).await] {
        refused.refused(Code::NotFound, "WEBHOOK_DELIVERY_NOT_FOUND");
    }
    for name in [&*format!("{endpoint}/deliveries/x"), "projects/p/operations/o/deliveries/x"] {
        get(fixture, name).await.refused_field("INVALID_NAME", "name");
        replay(fixture, name).await.refused_field("INVALID_NAME", "name");
    }
    for (parent, reason) in [
        ("projects/p/webhookEndpoints/none", "WEBHOOK_ENDPOINT_NOT_FOUND"),
        ("projects/p/operations/none", "OPERATION_NOT_FOUND"),
    ] {
        page(fixture, listing(parent)).await.refused(Code::NotFound, reason);
    }
    page(fixture, listing("projects/p")).await.refused_field("INVALID_ARGUMENT", "parent");
    let stateless = pb::ListWebhookDeliveriesRequest { state: 99, ..listing(&endpoint) };
    page(fixture, stateless).await.refused_field("INVALID_ARGUMENT", "state");

    run(fixture).await;
    run(fixture).await;
    deliver(fixture).await;
    let first = pb::ListWebhookDeliveriesRequest { page_size: 1, ..listing(&endpoint) };
    let page_token = page(fixture, first).await.granted().next_page_token;
    let failed = DeliveryState::Failed.into();
    let other =
        pb::ListWebhookDeliveriesRequest { page_token, state: failed, ..listing(&endpoint) };
    page(fixture, other).await.refused_field("INVALID_PAGE_TOKEN", "page_token");
    let name = list(fixture, &endpoint).await.remove(0).name;
    let early = replay(fixture, &name).await;
    early.refused(Code::FailedPrecondition, "INVALID_STATE");
}

async fn a_delivery_belongs_to_its_endpoint_or_operation_and_to_no_other(fixture: &Fixture) {
    let root = endpoint(fixture, "", "root").await;
    let own = endpoint(fixture, "projects/p", "own").await;
    let other = endpoint(fixture, "projects/q", "other").await;
    let fixture = &fixture.delivering(Mailbox::answering(200)).await;
    let operation = run(fixture).await;
    deliver(fixture).await;
    assert!(list(fixture, &other).await.is_empty());
    let mut ids = Vec::new();
    for owner in [&root, &own, &operation] {
        let [delivery] = &list(fixture, owner).await[..] else { panic!("one for {owner}") };
        let (of, id) = delivery.name.split_once("/deliveries/").expect("a name");
        assert_eq!(of, owner);
        ids.push(id.to_owned());
    }
    // No other owner leads to it, whose callers may be others.
    for (place, owner) in [&root, &own, &operation].into_iter().enumerate() {
        for (of, id) in ids.iter().enumerate() {
            let found = get(fixture, &format!("{owner}/deliveries/{id}")).await;
            if of == place {
                found.granted();
            } else {
                found.refused(Code::NotFound, "WEBHOOK_DELIVERY_NOT_FOUND");
            }
        }
    }
    // The key of a record of another kind is none of a delivery.
    let key = fixture.server.engine().store().keyspace().key(&operation);
    let id = longhaul::webhook::name::DeliveryName::id_of(*key.as_bytes());
    let found = get(fixture, &format!("{operation}/deliveries/{id}")).await;
    found.refused(Code::NotFound, "WEBHOOK_DELIVERY_NOT_FOUND");
}

async fn a_test_event_tells_how_the_receiver_answered_and_resumes_the_endpoint(fixture: &Fixture) {
    let endpoint = endpoint(fixture, "projects/p", "e").await;
    let mailbox = Mailbox::answering(500);
    let fixture = &fixture.delivering(mailbox.clone()).await;
    for (status, error) in [(500, ""), (0, "connection refused"), (307, "")] {
        mailbox.answer(status);
        let tested = test(fixture, &endpoint).await.granted();
        let attempt = tested.attempt.expect("an attempt");
        assert!(!tested.delivered, "{status}");
        assert_eq!((attempt.status_code, &*attempt.error), (status.into(), error));
        assert_eq!(attempt.latency, millis(7));
        let endpoint = tested.webhook_endpoint.expect("the endpoint");
        assert!(endpoint.fail_time.is_none(), "only deliveries count: {endpoint:?}");
    }
    mailbox.take();
    mailbox.answer(200);
    let tested = test(fixture, &endpoint).await.granted();
    assert!(tested.delivered && tested.reply == "taken\u{fffd}", "{tested:?}");
    assert_eq!(tested.webhook_endpoint.expect("the endpoint").state(), EndpointState::Active);
    let [letter] = &mailbox.take()[..] else { panic!("sent once") };
    let body: serde_json::Value = serde_json::from_slice(&letter.body).expect("JSON");
    assert_eq!(
        (&body["type"], &body["data"]["name"]),
        (&"webhook.test".into(), &(*endpoint).into())
    );
    assert_eq!(letter.keys.len(), 1, "it is signed");
    assert_eq!(letter.headers["ce-type"], "dev.longhaul.webhook.test");
    assert!(list(fixture, &endpoint).await.is_empty(), "a test is no delivery");
    let missing = test(fixture, "webhookEndpoints/none").await;
    missing.refused(Code::NotFound, "WEBHOOK_ENDPOINT_NOT_FOUND");
}

async fn a_receiver_that_is_never_called_is_refused_by_name_with_the_setting(fixture: &Fixture) {
    let good = endpoint(fixture, "projects/p", "good").await;
    let fixture = &fixture.delivering(Mailbox::answering(200)).await;
    for (uri, setting) in [
        ("http://example.com/hook", "webhooks.allow_http"),
        ("https://127.0.0.1/hook", "webhooks.networks"),
        ("https://[::1]:8443/hook", "webhooks.networks"),
        ("https://10.1.2.3/hook", "webhooks.networks"),
        ("https://169.254.169.254/latest", "webhooks.networks"),
        ("https://2130706433/hook", "webhooks.networks"),
    ] {
        let mut request = webhooks::request("projects/p", "e");
        let endpoint = pb::WebhookEndpoint { uri: uri.to_owned(), ..Default::default() };
        request.webhook_endpoint = Some(endpoint);
        let refused = webhooks::create(fixture, request).await;
        let named = |status: &Status| status.message().contains(setting);
        assert!(refused.as_ref().is_err_and(named), "{uri}: {refused:?}");
        refused.refused_field("CALLBACK_URI_REJECTED", "webhook_endpoint.uri");
        let change =
            pb::WebhookEndpoint { name: good.clone(), uri: uri.to_owned(), ..Default::default() };
        let refused = webhooks::update(fixture, change, &["uri"]).await;
        refused.refused_field("CALLBACK_URI_REJECTED", "webhook_endpoint.uri");
        let refused = fixture.start(told(uri)).await;
        refused.refused_field("CALLBACK_URI_REJECTED", "options.callbacks[0].uri");
        let refused = jobs::create(fixture, job(uri)).await;
        let field = "job.template.options.callbacks[0].uri";
        refused.refused_field("CALLBACK_URI_REJECTED", field);
    }
    assert!(fixture.list("-", 10, "").await.granted().operations.is_empty());
    fixture.start(told("https://example.com:8443/hook")).await.granted();
}

async fn the_public_key_of_an_endpoint_verifies_its_deliveries(fixture: &Fixture) {
    let request = pb::CreateWebhookEndpointRequest {
        algorithm: Algorithm::Ed25519.into(),
        request_id: "request-1".to_owned(),
        ..webhooks::request("projects/p", "e")
    };
    let created = webhooks::create(fixture, request.clone()).await.granted();
    let [pair] = &created.secrets[..] else { panic!("one: {created:?}") };
    assert_eq!((pair.algorithm(), &*pair.secret), (Algorithm::Ed25519, ""));
    assert!(pair.public_key.starts_with("whpk_"), "{pair:?}");
    assert_eq!(webhooks::create(fixture, request.clone()).await.granted(), created, "a repeat");
    let other = pb::CreateWebhookEndpointRequest { algorithm: 0, ..request };
    let other = webhooks::create(fixture, other).await;
    other.refused_field("REQUEST_ID_REUSED", "request_id");
    assert_eq!(webhooks::get(fixture, &created.name).await.granted().secrets, created.secrets);
    let unknown =
        pb::CreateWebhookEndpointRequest { algorithm: 99, ..webhooks::request("projects/p", "e2") };
    webhooks::create(fixture, unknown).await.refused_field("INVALID_ARGUMENT", "algorithm");
    let rotation = pb::RotateWebhookEndpointRequest {
        algorithm: Algorithm::HmacSha256.into(),
        ..webhooks::rotation(&created.name, None)
    };
    let rotated = webhooks::rotate(fixture, rotation).await.granted();
    let [shared, former] = &rotated.secrets[..] else { panic!("two: {rotated:?}") };
    assert_eq!((shared.algorithm(), &*shared.public_key), (Algorithm::HmacSha256, ""));
    assert_eq!(former.public_key, pair.public_key);

    let mailbox = Mailbox::answering(200);
    let fixture = &fixture.delivering(mailbox.clone()).await;
    test(fixture, &created.name).await.granted();
    let [letter] = &mailbox.take()[..] else { panic!("sent once") };
    let signatures = longhaul::post::signatures(&letter.keys, &letter.id, 5, &letter.body);
    let head = SignedHead { id: letter.id.clone(), timestamp: 5, signatures };
    for key in [&shared.secret, &pair.public_key] {
        let parsed = VerifyingKey::parse(key).expect("a key");
        assert_eq!(head.check(&parsed, &letter.body), Ok(()), "{key}");
    }
}

fn job(uri: &str) -> pb::Job {
    let callback = pb::Callback { uri: uri.to_owned(), ..Default::default() };
    let options = pb::OperationOptions { callbacks: vec![callback], ..Default::default() };
    let template = jobs::job().template;
    let template = template.map(|it| pb::JobTemplate { options: Some(options), ..it });
    pb::Job { template, ..jobs::job() }
}

async fn runs_of_a_job_have_its_callbacks(fixture: &Fixture) {
    let mailbox = Mailbox::answering(200);
    let fixture = &fixture.delivering(mailbox.clone()).await;
    let uri = "https://example.com/{$request.path.parent}?of={$response.body#/name}";
    let created = jobs::create(fixture, job(uri)).await.granted();
    let callbacks = |job: &pb::Job| {
        let template = job.template.clone().expect("a template");
        template.options.expect("options").callbacks
    };
    let shown = "https://example.com/projects/p?of={$response.body#/name}";
    assert_eq!(callbacks(&created)[0].uri, shown);
    // What was read can be sent back.
    let update = pb::UpdateJobRequest { job: Some(created.clone()), ..Default::default() };
    let updated = fixture.jobs().update_job(update).await.granted().into_inner();
    assert_eq!(callbacks(&updated), callbacks(&created));
    for _ in 0..2 {
        let name = created.name.clone();
        let run = pb::RunJobRequest { name, ..Default::default() };
        let operation = fixture.jobs().run_job(run).await.granted().into_inner().name;
        let lease = fixture.lease("q").await;
        assert_eq!(lease.operation, operation);
        let response = Some(any("acme.Reported", b""));
        let done = pb::CompleteOperationRequest { response, ..completion(&lease) };
        fixture.complete(done).await.granted();
        deliver(fixture).await;
        let [letter] = &mailbox.take()[..] else { panic!("one letter") };
        assert_eq!(letter.url, format!("https://example.com/projects/p?of={operation}"));
        assert_eq!(list(fixture, &operation).await.len(), 1);
    }
    let headers = jobs::create(fixture, job("https://x/{$request.header.authorization}")).await;
    headers.refused_field("INVALID_ARGUMENT", "job.template.options.callbacks[0].uri");
}

async fn a_replay_of_unknown_outcome_is_made_once(fixture: &Fixture) {
    let mailbox = Mailbox::answering(200);
    let fixture = &fixture.delivering(mailbox.clone()).await;
    let operation = run(fixture).await;
    deliver(fixture).await;
    let name = list(fixture, &operation).await.remove(0).name;
    for fault in [Fault::AppliedUnknown, Fault::LostUnknown, Fault::Conflict] {
        mailbox.take();
        fixture.store.inject([fault]);
        let replayed = replay(fixture, &name).await.granted();
        assert_eq!(replayed.state(), DeliveryState::Waiting, "{fault:?}");
        deliver(fixture).await;
        assert_eq!(mailbox.take().len(), 1, "{fault:?}");
        // Another replay is told from this one by its time.
        fixture.let_pass(Duration::from_millis(1));
    }
}

async fn a_copy_has_endpoints_and_deliveries_and_sends_what_waits(fixture: &Fixture) {
    let endpoint = endpoint(fixture, "projects/p", "e").await;
    let mailbox = Mailbox::answering(200);
    let fixture = &fixture.delivering(mailbox.clone()).await;
    let told = run(fixture).await;
    deliver(fixture).await;
    mailbox.answer(503);
    let untold = run(fixture).await;
    deliver(fixture).await;
    let text = exported(fixture).await;
    let (mut before, mut waiting) = (Vec::new(), Vec::new());
    for owner in [&endpoint, &told, &untold] {
        before.push(list(fixture, owner).await);
    }
    assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
    for delivery in before.iter().flatten().filter(|it| it.end_time.is_none()) {
        waiting.push(delivery.name.rsplit('/').next().expect("an id").to_owned());
    }
    waiting.sort();
    let shown = webhooks::get(fixture, &endpoint).await.granted();
    mailbox.answer(200);
    for place in [Place::embedded(), Place::redis()] {
        let (_, copy) = place.copy(fixture, &text).await;
        let copied = Fixture::over(copy, fixture.clock.clone()).await;
        let receiver = Mailbox::answering(200);
        let sending = copied.delivering(receiver.clone()).await;
        assert_eq!(webhooks::get(&sending, &endpoint).await.granted(), shown);
        for (owner, before) in [&endpoint, &told, &untold].into_iter().zip(&before) {
            assert_eq!(list(&sending, owner).await, *before, "of {owner}");
        }
        fixture.let_pass(Duration::from_secs(7));
        deliver(&sending).await;
        let letters = receiver.take();
        let mut ids: Vec<String> = letters.iter().map(|letter| letter.id.clone()).collect();
        ids.sort();
        assert_eq!(ids, waiting, "with the same ids");
        assert!(letters.iter().all(|letter| letter.keys.len() == 1), "signed with its secret");
        sending.stop().await;
    }
}
