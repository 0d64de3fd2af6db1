//! Who may do what: each method asks its question before anything else, and what is denied is denied alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use ::http::uri::PathAndQuery;
use longhaul::engine::{Caller, Resource, Rules, Verb};
use longhaul::proto::DESCRIPTORS;
use longhaul::proto::grpc::health::v1::HealthCheckRequest;
use longhaul::proto::grpc::health::v1::health_client::HealthClient;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor};
use tonic::client::Grpc;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::support::http::ask_with;
use crate::support::stream::{self, Hello, Request as StreamRequest, held};
use crate::support::*;

scenarios! {
    each_method_asks_the_question_of_its_line,
    what_is_denied_is_denied_alike_and_leaves_no_trace,
    what_is_denied_over_http_is_denied_alike_and_leaves_no_trace,
    a_wait_that_is_denied_after_a_start_is_left_out,
    a_batch_with_an_item_that_is_denied_is_denied_whole,
    a_list_with_a_wildcard_asks_about_all_that_it_may_match,
    a_call_on_a_stream_is_denied_by_itself_and_a_queue_ends_the_stream,
}

/// Denies everything, or nothing, and keeps what it was asked.
#[derive(Debug)]
struct Recording {
    allow: bool,
    asked: Mutex<Vec<String>>,
}

impl Recording {
    fn new(allow: bool) -> Arc<Self> {
        Arc::new(Self { allow, asked: Mutex::default() })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("questions"))
    }
}

impl Rules for Recording {
    fn allow(&self, _caller: &Caller, verb: Verb, on: Resource<'_>) -> bool {
        self.asked.lock().expect("questions").push(format!("{} {on}", verb.as_str()));
        self.allow
    }
}

/// Allows what lies below a parent, and one queue.
#[derive(Debug)]
struct Below(&'static str);

impl Rules for Below {
    fn allow(&self, _caller: &Caller, _verb: Verb, on: Resource<'_>) -> bool {
        match on {
            Resource::Queue(queue) => queue == "q",
            Resource::Queues | Resource::Store | Resource::Tokens | Resource::Token(_) => false,
            Resource::Parent(_)
            | Resource::Operation(_)
            | Resource::TypeSets(_)
            | Resource::TypeSet(_)
            | Resource::WebhookEndpoints(_)
            | Resource::WebhookEndpoint(_)
            | Resource::WebhookDeliveries(_)
            | Resource::WebhookDelivery(_)
            | Resource::Jobs(_)
            | Resource::Job(_)
            | Resource::Execution(_) => on.parent() == Some(self.0),
        }
    }
}

fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("definitions");
    let guarded = |service: &prost_reflect::ServiceDescriptor| !OPEN.contains(&service.full_name());
    pool.services()
        .filter(guarded)
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect()
}

#[test]
fn each_method_of_each_service_has_its_line() {
    let served: BTreeSet<String> =
        methods().iter().map(|method| method.full_name().to_owned()).collect();
    let lines: BTreeSet<String> =
        QUESTIONS.iter().map(|(method, _)| (*method).to_owned()).collect();
    assert_eq!(served, lines, "a new method asks the policy; say here what");
}

/// A message in which everything that names an operation, a parent or a queue is set.
fn filled(message: &MessageDescriptor, name: &str) -> DynamicMessage {
    let mut filled = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let text = match field.name() {
            "name" => name,
            "parent" => PARENT,
            "queue" => "q",
            _ => "",
        };
        if !text.is_empty() && field.kind() == Kind::String {
            filled.set_field(&field, prost_reflect::Value::String(text.to_owned()));
        } else if let Kind::Message(inner) = field.kind()
            && ITEMS.contains(&field.name())
        {
            let inner = prost_reflect::Value::Message(self::filled(&inner, name));
            let one = if field.is_list() { prost_reflect::Value::List(vec![inner]) } else { inner };
            filled.set_field(&field, one);
        }
    }
    filled
}

async fn call(
    fixture: &Fixture,
    method: &MethodDescriptor,
    message: DynamicMessage,
) -> Result<(), Status> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let mut grpc = Grpc::new(fixture.channel.clone());
    grpc.ready().await.expect("a connection");
    let codec = ProstCodec::<DynamicMessage, ()>::default();
    let path = PathAndQuery::try_from(path).expect("a path");
    let answer = grpc.server_streaming(Request::new(message), path, codec);
    within(method.full_name(), answer).await?.into_inner().message().await.map(drop)
}

async fn each_method_asks_the_question_of_its_line(fixture: &Fixture) {
    let rules = Recording::new(true);
    let guarded = fixture.guarded_by(rules.clone()).await;
    let name = format!("{PARENT}/operations/none");
    let lines: BTreeMap<&str, &[&str]> = QUESTIONS.iter().copied().collect();
    for method in methods() {
        let mut message = filled(&method.input(), &name);
        if method.name() == "ListOperations" {
            message = filled(&method.input(), &format!("{PARENT}/operations"));
        }
        // Whether it is granted then, and with what, is not the matter here.
        drop(call(&guarded, &method, message).await);
        assert_eq!(rules.take(), lines[method.full_name()], "{}", method.full_name());
    }
}

async fn what_is_denied_is_denied_alike_and_leaves_no_trace(fixture: &Fixture) {
    let mut lease = fixture.running(start_below(PARENT)).await;
    let there = std::mem::take(&mut lease.operation);
    let missing = format!("{PARENT}/operations/none");
    let before = (fixture.record(&there).await, fixture.list("-", 10, "").await.granted());
    let rules = Recording::new(false);
    let guarded = fixture.guarded_by(rules.clone()).await;
    for method in methods() {
        let of = method.full_name();
        let mut said = BTreeSet::new();
        for name in [there.as_str(), missing.as_str(), "///", "projects/-/operations/o"] {
            let message = filled(&method.input(), name);
            let denied = call(&guarded, &method, message).await.expect_err(of);
            let words = denied.message().replace(name, "NAME");
            assert!(words.contains("or it might not exist"), "{of}: {words}");
            let metadata =
                Err::<(), _>(denied).refused(Code::PermissionDenied, "PERMISSION_DENIED");
            assert!(metadata.contains_key("verb") && metadata.contains_key("resource"), "{of}");
            said.insert(words);
            assert_eq!(rules.take().len(), 1, "{of}: asked once, and nothing after that");
        }
        assert_eq!(said.len(), 1, "{of}: {said:?}");
        // A batch of nothing does nothing.
        if method.name() != "RenewLeases" {
            let empty = DynamicMessage::new(method.input());
            let denied = call(&guarded, &method, empty).await;
            denied.refused(Code::PermissionDenied, "PERMISSION_DENIED");
            rules.take();
        }
    }
    let after = (fixture.record(&there).await, fixture.list("-", 10, "").await.granted());
    assert_eq!(before, after);
    // Health is for whoever reaches the server.
    let health =
        HealthClient::new(guarded.channel.clone()).check(HealthCheckRequest::default()).await;
    assert_ne!(health.map_or_else(|status| status.code(), |_| Code::Ok), Code::PermissionDenied);
}

type Headers = &'static [(&'static str, &'static str)];

/// The routes that call the engine themselves, with headers: each asks before it looks at the name.
const ROUTES: &[(&str, &str, Headers)] = &[
    ("GET", "", &[]),
    ("GET", "", &[("prefer", "wait=1")]),
    ("GET", "", &[("if-none-match", "\"any\"")]),
    ("GET", "/result", &[]),
    ("GET", "/monitor", &[]),
    ("GET", "/monitor", &[("prefer", "wait=1")]),
    ("POST", ":cancel", &[]),
    ("POST", ":cancel", &[("prefer", "wait=1")]),
    ("POST", ":cancel", &[("if-match", "\"any\"")]),
    ("DELETE", "", &[]),
    ("DELETE", "", &[("if-match", "\"any\"")]),
    ("GET", ":watch", &[]),
];

async fn what_is_denied_over_http_is_denied_alike_and_leaves_no_trace(fixture: &Fixture) {
    let mut lease = fixture.running(start_below(PARENT)).await;
    let there = std::mem::take(&mut lease.operation);
    let missing = format!("{PARENT}/operations/none");
    let before = (fixture.record(&there).await, fixture.list("-", 10, "").await.granted());
    let rules = Recording::new(false);
    let guarded = fixture.guarded_by(rules.clone()).await;
    for (method, suffix, headers) in ROUTES {
        let mut said = BTreeSet::new();
        for name in [&there, &missing] {
            let path = format!("/v1/{name}{suffix}");
            let denied = ask_with(guarded.address, method, &path, headers, "").await;
            let error = denied.refused(403, "PERMISSION_DENIED").to_string();
            said.insert(error.replace(name.as_str(), "NAME"));
            assert_eq!(rules.take().len(), 1, "{method} {path}: asked once");
        }
        assert_eq!(said.len(), 1, "{method} {suffix}: {said:?}");
    }
    let mut said = BTreeSet::new();
    for name in [&there, &missing] {
        let id = name.rsplit('/').next().expect("an id");
        let body = format!(r#"{{"operationId": "{id}", "queue": "q"}}"#);
        let path = format!("/v1/{PARENT}/operations:start");
        let headers = [("content-type", "application/json")];
        let denied = ask_with(guarded.address, "POST", &path, &headers, &body).await;
        said.insert(denied.refused(403, "PERMISSION_DENIED").to_string());
        assert_eq!(rules.take(), [format!("start parent {PARENT:?}")]);
    }
    assert_eq!(said.len(), 1, "{said:?}");
    let after = (fixture.record(&there).await, fixture.list("-", 10, "").await.granted());
    assert_eq!(before, after);
}

/// Allows starts alone.
#[derive(Debug)]
struct Starts;

impl Rules for Starts {
    fn allow(&self, _caller: &Caller, verb: Verb, _on: Resource<'_>) -> bool {
        verb == Verb::Start
    }
}

async fn a_wait_that_is_denied_after_a_start_is_left_out(fixture: &Fixture) {
    let guarded = fixture.guarded_by(Arc::new(Starts)).await;
    let headers = [("content-type", "application/json"), ("prefer", "wait=60")];
    let path = format!("/v1/{PARENT}/operations:start");
    let body = r#"{"operationId": "o", "queue": "q"}"#;
    let started = ask_with(guarded.address, "POST", &path, &headers, body).await;
    assert_eq!(started.status, 202, "{started:?}");
    let name = format!("{PARENT}/operations/o");
    let polled = ask_with(guarded.address, "GET", &format!("/v1/{name}"), &[], "").await;
    polled.refused(403, "PERMISSION_DENIED");
    assert_eq!(fixture.state(&name).await, State::Pending);
}

fn start_below(parent: &str) -> pb::StartOperationRequest {
    pb::StartOperationRequest { parent: parent.to_owned(), ..start("q") }
}

async fn a_batch_with_an_item_that_is_denied_is_denied_whole(fixture: &Fixture) {
    let guarded = fixture.guarded_by(Arc::new(Below(PARENT))).await;
    let batch = async |parent: &str, requests: Vec<pb::StartOperationRequest>| {
        let batch = pb::BatchStartOperationsRequest { parent: parent.to_owned(), requests };
        guarded.producers().batch_start_operations(batch).await.map(drop)
    };
    let mixed = batch("", vec![start_below(PARENT), start_below("projects/other")]).await;
    let metadata = mixed.refused(Code::PermissionDenied, "PERMISSION_DENIED");
    assert!(metadata["resource"].contains("projects/other"), "{metadata:?}");
    assert!(fixture.list("-", 10, "").await.granted().operations.is_empty());
    let elsewhere = pb::StartOperationRequest { queue: "other".to_owned(), ..start_below(PARENT) };
    batch("", vec![elsewhere]).await.refused(Code::PermissionDenied, "PERMISSION_DENIED");
    batch(PARENT, vec![start("q")]).await.granted();

    let own = fixture.lease("q").await;
    let foreign = fixture.running(start_below("projects/other")).await;
    let mixed = guarded.renew(vec![renewal(&own), renewal(&foreign)]).await;
    mixed.refused(Code::PermissionDenied, "PERMISSION_DENIED");
    assert!(guarded.renew(vec![renewal(&own)]).await.granted()[0].error.is_none());
}

async fn a_list_with_a_wildcard_asks_about_all_that_it_may_match(fixture: &Fixture) {
    let guarded = fixture.guarded_by(Arc::new(Below(PARENT))).await;
    fixture.start(start_below(PARENT)).await.granted();
    fixture.start(start_below("projects/other")).await.granted();
    for parent in ["-", "projects/-", "projects/other", "", "operations"] {
        let list = guarded.list(parent, 10, "").await;
        list.refused(Code::PermissionDenied, "PERMISSION_DENIED");
    }
    for parent in [PARENT, "projects/p/operations"] {
        assert_eq!(guarded.list(parent, 10, "").await.granted().operations.len(), 1);
    }
}

async fn a_call_on_a_stream_is_denied_by_itself_and_a_queue_ends_the_stream(fixture: &Fixture) {
    let own = fixture.running(start_below(PARENT)).await;
    let foreign = fixture.running(start_below("projects/other")).await;
    let guarded = fixture.guarded_by(Arc::new(Below(PARENT))).await;

    let mut stream = WorkerStream::open(&guarded).await;
    let hello = Hello { held: vec![held(&own), held(&foreign)], ..stream::hello("q") };
    let welcome = stream.greet(hello, 0).await;
    assert_eq!(welcome.lost, [foreign.operation.as_str()]);
    let completions = vec![completion(&foreign), completion(&own)];
    stream.say(StreamRequest { completions, ..Default::default() }).await;
    let outcomes = stream.hear().await.outcomes;
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    assert_eq!(outcomes[0].name, foreign.operation);
    let info = error_info(outcomes[0].error.as_ref().expect("an error"));
    assert_eq!((&*info.reason, &*info.metadata["verb"]), ("PERMISSION_DENIED", "complete"));
    assert_eq!(fixture.state(&own.operation).await, State::Succeeded);
    assert_eq!(fixture.state(&foreign.operation).await, State::Running);

    // Also where there is no Hello, without which no stream begins.
    let elsewhere = StreamRequest { hello: Some(stream::hello("other")), ..Default::default() };
    for first in [elsewhere, StreamRequest::default()] {
        let mut stream = WorkerStream::open(&guarded).await;
        stream.say(first).await;
        let end = stream.message().await;
        end.refused(Code::PermissionDenied, "PERMISSION_DENIED");
    }
}

/// Services that whoever reaches the server may use.
pub(crate) const OPEN: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

const PARENT: &str = "projects/p";

/// Fields with messages of which each is asked about.
pub(crate) const ITEMS: [&str; 7] =
    ["start", "requests", "renewals", "hello", "job", "queue", "webhook_endpoint"];

/// What each method asks, of a request in which each name is `projects/p/operations/none`.
const QUESTIONS: &[(&str, &[&str])] = &[
    ("google.longrunning.Operations.ListOperations", &[r#"list parent "projects/p""#]),
    (
        "google.longrunning.Operations.GetOperation",
        &[r#"get operation "projects/p/operations/none""#],
    ),
    (
        "google.longrunning.Operations.DeleteOperation",
        &[r#"delete operation "projects/p/operations/none""#],
    ),
    (
        "google.longrunning.Operations.CancelOperation",
        &[r#"cancel operation "projects/p/operations/none""#],
    ),
    (
        "google.longrunning.Operations.WaitOperation",
        &[r#"wait operation "projects/p/operations/none""#],
    ),
    (
        "longhaul.v1.Producers.StartOperation",
        &[r#"start parent "projects/p""#, r#"start queue "q""#],
    ),
    (
        "longhaul.v1.Producers.BatchStartOperations",
        &[r#"start parent "projects/p""#, r#"start queue "q""#],
    ),
    ("longhaul.v1.Callers.WatchOperation", &[r#"watch operation "projects/p/operations/none""#]),
    ("longhaul.v1.Callers.WatchOperations", &[r#"watch parent "projects/p""#]),
    ("longhaul.v1.Callers.GetOperationRecord", &[r#"get operation "projects/p/operations/none""#]),
    ("longhaul.v1.Callers.ListOperationRecords", &[r#"list parent "projects/p""#]),
    ("longhaul.v1.Callers.GetOperationStats", &[r#"list parent "projects/p""#]),
    ("longhaul.v1.Callers.PauseOperation", &[r#"pause operation "projects/p/operations/none""#]),
    ("longhaul.v1.Callers.ResumeOperation", &[r#"resume operation "projects/p/operations/none""#]),
    (
        "longhaul.v1.Callers.CreateLink",
        &[
            r#"share operation "projects/p/operations/none""#,
            r#"get operation "projects/p/operations/none""#,
            r#"watch operation "projects/p/operations/none""#,
        ],
    ),
    ("longhaul.v1.Callers.RerunOperation", &[r#"rerun operation "projects/p/operations/none""#]),
    ("longhaul.v1.Callers.RerunOperations", &[r#"rerun parent "projects/p""#]),
    ("longhaul.v1.Jobs.CreateJob", &[r#"create jobs of parent "projects/p""#, r#"start queue """#]),
    ("longhaul.v1.Jobs.GetJob", &[r#"get job "projects/p/operations/none""#]),
    ("longhaul.v1.Jobs.ListJobs", &[r#"list jobs of parent "projects/p""#]),
    ("longhaul.v1.Jobs.UpdateJob", &[r#"update job "projects/p/operations/none""#]),
    ("longhaul.v1.Jobs.DeleteJob", &[r#"delete job "projects/p/operations/none""#]),
    ("longhaul.v1.Jobs.RunJob", &[r#"run job "projects/p/operations/none""#]),
    ("longhaul.v1.Jobs.PauseJob", &[r#"pause job "projects/p/operations/none""#]),
    ("longhaul.v1.Jobs.ResumeJob", &[r#"resume job "projects/p/operations/none""#]),
    ("longhaul.v1.Jobs.BackfillJob", &[r#"backfill job "projects/p/operations/none""#]),
    ("longhaul.v1.Jobs.ListUpcomingRuns", &[r#"get job "projects/p/operations/none""#]),
    ("longhaul.v1.Jobs.GetExecution", &[r#"get execution "projects/p/operations/none""#]),
    ("longhaul.v1.Jobs.ListExecutions", &[r#"list job "projects/p""#]),
    ("longhaul.v1.Jobs.DeleteExecution", &[r#"delete execution "projects/p/operations/none""#]),
    ("longhaul.v1.Admin.ExportRecords", &["export the store"]),
    ("longhaul.v1.Queues.GetQueue", &[r#"get queue "projects/p/operations/none""#]),
    ("longhaul.v1.Queues.ListQueues", &["list all queues"]),
    ("longhaul.v1.Queues.UpdateQueue", &[r#"update queue "projects/p/operations/none""#]),
    ("longhaul.v1.Queues.PauseQueue", &[r#"pause queue "projects/p/operations/none""#]),
    ("longhaul.v1.Queues.ResumeQueue", &[r#"resume queue "projects/p/operations/none""#]),
    ("longhaul.v1.Queues.ListWorkers", &[r#"list queue "q""#]),
    ("longhaul.v1.Queues.DrainWorker", &[r#"drain queue "q""#]),
    ("longhaul.v1.Queues.ResumeWorker", &[r#"resume queue "q""#]),
    ("longhaul.v1.Workers.LeaseOperations", &[r#"lease queue "q""#]),
    (
        "longhaul.v1.Workers.StartLeasedOperation",
        &[
            r#"start parent "projects/p""#,
            r#"start queue "q""#,
            r#"lease parent "projects/p""#,
            r#"lease queue "q""#,
        ],
    ),
    ("longhaul.v1.Workers.RenewLeases", &[r#"renew operation "projects/p/operations/none""#]),
    ("longhaul.v1.Workers.ReportProgress", &[r#"report operation "projects/p/operations/none""#]),
    (
        "longhaul.v1.Workers.CompleteOperation",
        &[r#"complete operation "projects/p/operations/none""#],
    ),
    ("longhaul.v1.Workers.FailOperation", &[r#"fail operation "projects/p/operations/none""#]),
    ("longhaul.v1.Workers.ReleaseLease", &[r#"release operation "projects/p/operations/none""#]),
    (
        "longhaul.v1.Workers.SuspendOperation",
        &[r#"suspend operation "projects/p/operations/none""#],
    ),
    ("longhaul.v1.Workers.ServeQueue", &[r#"lease queue "q""#]),
    ("longhaul.v1.Tokens.CreateToken", &["create tokens"]),
    ("longhaul.v1.Tokens.GetToken", &[r#"get token "projects/p/operations/none""#]),
    ("longhaul.v1.Tokens.ListTokens", &["list tokens"]),
    ("longhaul.v1.Tokens.RotateToken", &[r#"rotate token "projects/p/operations/none""#]),
    ("longhaul.v1.Tokens.DeleteToken", &[r#"delete token "projects/p/operations/none""#]),
    ("longhaul.v1.TypeSets.CreateTypeSet", &[r#"create type sets of parent "projects/p""#]),
    ("longhaul.v1.TypeSets.GetTypeSet", &[r#"get type set "projects/p/operations/none""#]),
    ("longhaul.v1.TypeSets.ListTypeSets", &[r#"list type sets of parent "projects/p""#]),
    ("longhaul.v1.TypeSets.DeleteTypeSet", &[r#"delete type set "projects/p/operations/none""#]),
    (
        "longhaul.v1.Webhooks.CreateWebhookEndpoint",
        &[r#"create webhook endpoints of parent "projects/p""#],
    ),
    (
        "longhaul.v1.Webhooks.GetWebhookEndpoint",
        &[r#"get webhook endpoint "projects/p/operations/none""#],
    ),
    (
        "longhaul.v1.Webhooks.ListWebhookEndpoints",
        &[r#"list webhook endpoints of parent "projects/p""#],
    ),
    (
        "longhaul.v1.Webhooks.UpdateWebhookEndpoint",
        &[r#"update webhook endpoint "projects/p/operations/none""#],
    ),
    (
        "longhaul.v1.Webhooks.DeleteWebhookEndpoint",
        &[r#"delete webhook endpoint "projects/p/operations/none""#],
    ),
    (
        "longhaul.v1.Webhooks.RotateWebhookEndpoint",
        &[r#"rotate webhook endpoint "projects/p/operations/none""#],
    ),
    (
        "longhaul.v1.Webhooks.ResumeWebhookEndpoint",
        &[r#"resume webhook endpoint "projects/p/operations/none""#],
    ),
    (
        "longhaul.v1.Webhooks.TestWebhookEndpoint",
        &[r#"test webhook endpoint "projects/p/operations/none""#],
    ),
    (
        "longhaul.v1.Webhooks.GetWebhookDelivery",
        &[r#"get webhook delivery "projects/p/operations/none""#],
    ),
    ("longhaul.v1.Webhooks.ListWebhookDeliveries", &[r#"list webhook deliveries of "projects/p""#]),
    (
        "longhaul.v1.Webhooks.ReplayWebhookDelivery",
        &[r#"replay webhook delivery "projects/p/operations/none""#],
    ),
];
