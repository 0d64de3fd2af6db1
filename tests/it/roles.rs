//! Which role may call which method, for its own tenant and for another, over both faces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::http::uri::PathAndQuery;
use longhaul::proto::DESCRIPTORS;
use longhaul::record::tokens::Role;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor};
use tonic::Status;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use crate::access::{ITEMS, OPEN};
use crate::support::identity::{by_tokens, grant, with};
use crate::support::rest::{Line, Rest};
use crate::support::*;

scenarios! {
    each_role_calls_the_methods_of_its_row_and_no_others,
}

/// Whose things are asked about.
#[derive(Clone, Copy)]
struct Tenant {
    parent: &'static str,
    queue: &'static str,
}

const OWN: Tenant = Tenant { parent: "projects/own", queue: "own" };
const OTHER: Tenant = Tenant { parent: "projects/other", queue: "other" };

/// An identity, what its rows call it, and whether it may act for each tenant.
struct Who {
    name: &'static str,
    token: String,
    everywhere: bool,
}

fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("definitions");
    pool.services()
        .filter(|service| !OPEN.contains(&service.full_name()))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect()
}

#[test]
fn each_method_has_a_row() {
    let served: BTreeSet<String> =
        methods().iter().map(|method| method.full_name().to_owned()).collect();
    let rows: BTreeSet<String> = ROWS.iter().map(|(method, ..)| (*method).to_owned()).collect();
    assert_eq!(
        served, rows,
        "say here which roles may call a new method, and see to it in engine/roles.rs"
    );
}

async fn each_role_calls_the_methods_of_its_row_and_no_others(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let identities = identities(fixture).await;
    let mut there = BTreeMap::new();
    for tenant in [OWN, OTHER] {
        let start = pb::StartOperationRequest {
            parent: tenant.parent.to_owned(),
            operation_id: "there".to_owned(),
            ..start("aside")
        };
        there.insert(tenant.parent, fixture.start(start).await.granted().name);
    }
    let http = Line::Http(Arc::new(Rest::new(guarded.address, guarded.channel.clone()).await));
    let rows: BTreeMap<&str, (&str, &str)> =
        ROWS.iter().map(|(method, template, roles)| (*method, (*template, *roles))).collect();
    for line in [guarded.line.clone(), http] {
        for method in methods() {
            let (template, roles) = rows[method.full_name()];
            for who in &identities {
                for tenant in [OWN, OTHER] {
                    let may = roles.split(' ').any(|role| role == who.name)
                        && (who.everywhere || tenant.parent == OWN.parent);
                    check(&line, &method, template, who, tenant, may).await;
                }
            }
        }
    }
    // What was denied has left no trace, and what was allowed was about something that is not there.
    for name in there.values() {
        assert_eq!(fixture.state(name).await, State::Pending);
    }
}

#[expect(clippy::too_many_arguments, reason = "a cell of the table")]
async fn check(
    line: &Line,
    method: &MethodDescriptor,
    template: &str,
    who: &Who,
    tenant: Tenant,
    may: bool,
) {
    let of = format!("{} by {} for {}", method.full_name(), who.name, tenant.parent);
    let mut said = BTreeSet::new();
    for id in ["missing", "there"] {
        if may && id == "there" {
            // What it would do there is for other scenarios.
            continue;
        }
        let name = template.replace("PARENT", tenant.parent).replace("ID", id);
        let name = name.replace("QUEUE", tenant.queue);
        let message = filled(&method.input(), &name, tenant);
        let answer = call(line, method, &who.token, message).await;
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        if may {
            let denied = [Code::PermissionDenied, Code::Unauthenticated].contains(&code);
            assert!(!denied, "{of}: {answer:?}");
            continue;
        }
        let expected = if ["nobody", "unknown"].contains(&who.name) {
            (Code::Unauthenticated, "UNAUTHENTICATED")
        } else {
            (Code::PermissionDenied, "PERMISSION_DENIED")
        };
        assert_eq!(code, expected.0, "{of}: {answer:?}");
        let status = answer.expect_err(&of);
        said.insert(status.message().replace(&name, "NAME"));
        Err::<(), _>(status).refused(expected.0, expected.1);
    }
    assert!(said.len() <= 1, "{of}: {said:?}");
}

/// One for each role of the own tenant, one for the whole server, and those without an identity.
async fn identities(fixture: &Fixture) -> Vec<Who> {
    let mut identities = Vec::new();
    for role in Role::ALL {
        let token = fixture.token(role.as_str(), vec![grant(role, OWN.parent, &[OWN.queue])]).await;
        identities.push(Who { name: role.as_str(), token, everywhere: false });
    }
    let root = fixture.token("root", vec![grant(Role::Admin, "", &[])]).await;
    identities.push(Who { name: "root", token: root, everywhere: true });
    identities.push(Who { name: "nobody", token: String::new(), everywhere: false });
    let unknown = format!("lht_viewer_{}", "A".repeat(43));
    identities.push(Who { name: "unknown", token: unknown, everywhere: false });
    identities
}

/// A message in which everything that names an operation, a parent or a queue is set.
fn filled(message: &MessageDescriptor, name: &str, tenant: Tenant) -> DynamicMessage {
    let mut filled = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let text = match field.name() {
            "name" => name,
            // The parent of executions is a job.
            "parent" if message.name() == "ListExecutionsRequest" => name,
            // And that of deliveries an endpoint or an operation.
            "parent" if message.name() == "ListWebhookDeliveriesRequest" => name,
            "parent" => tenant.parent,
            "queue" => tenant.queue,
            _ => "",
        };
        if !text.is_empty() && field.kind() == Kind::String {
            filled.set_field(&field, prost_reflect::Value::String(text.to_owned()));
        } else if let Kind::Message(inner) = field.kind()
            && (ITEMS.contains(&field.name()) || field.name() == "template")
        {
            let inner = prost_reflect::Value::Message(self::filled(&inner, name, tenant));
            let one = if field.is_list() { prost_reflect::Value::List(vec![inner]) } else { inner };
            filled.set_field(&field, one);
        }
    }
    filled
}

async fn call(
    line: &Line,
    method: &MethodDescriptor,
    token: &str,
    message: DynamicMessage,
) -> Result<(), Status> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let mut grpc = Grpc::new(line.clone());
    grpc.ready().await.expect("a connection");
    let codec = ProstCodec::<DynamicMessage, ()>::default();
    let path = PathAndQuery::try_from(path).expect("a path");
    let answer = grpc.server_streaming(with(token, message), path, codec);
    within(method.full_name(), answer).await?.into_inner().message().await.map(drop)
}

const READERS: &str = "viewer caller job-editor admin root";
const CALLER: &str = "caller admin root";
const WORKER: &str = "worker admin root";
const EDITOR: &str = "job-editor admin root";
const EVERYONE: &str = "viewer caller worker job-editor admin root";
const OPERATION: &str = "PARENT/operations/ID";
const JOB: &str = "PARENT/jobs/ID";
const EXECUTION: &str = "PARENT/jobs/ID/executions/00000000-0000-4000-8000-000000000000";
const ENDPOINT: &str = "PARENT/webhookEndpoints/ID";
const DELIVERY: &str = "PARENT/webhookEndpoints/ID/deliveries/msg_00000000000000000000000000000000";
const RESENDERS: &str = "caller job-editor admin root";

/// Each method, the name that its requests have, and the roles that may call it for their own tenant. `admin` is one of that
/// tenant, and `root` of the whole server.
const ROWS: &[(&str, &str, &str)] = &[
    ("google.longrunning.Operations.ListOperations", "PARENT/operations", READERS),
    ("google.longrunning.Operations.GetOperation", OPERATION, READERS),
    ("google.longrunning.Operations.DeleteOperation", OPERATION, CALLER),
    ("google.longrunning.Operations.CancelOperation", OPERATION, CALLER),
    ("google.longrunning.Operations.WaitOperation", OPERATION, READERS),
    ("longhaul.v1.Producers.StartOperation", "", CALLER),
    ("longhaul.v1.Producers.BatchStartOperations", "", CALLER),
    ("longhaul.v1.Callers.WatchOperation", OPERATION, READERS),
    ("longhaul.v1.Callers.WatchOperations", "", READERS),
    ("longhaul.v1.Callers.GetOperationRecord", OPERATION, READERS),
    ("longhaul.v1.Callers.ListOperationRecords", "", READERS),
    ("longhaul.v1.Callers.GetOperationStats", "", READERS),
    ("longhaul.v1.Callers.PauseOperation", OPERATION, CALLER),
    ("longhaul.v1.Callers.ResumeOperation", OPERATION, CALLER),
    ("longhaul.v1.Callers.CreateLink", OPERATION, "viewer caller admin root"),
    ("longhaul.v1.Callers.RerunOperation", OPERATION, CALLER),
    ("longhaul.v1.Callers.RerunOperations", "", CALLER),
    ("longhaul.v1.Jobs.CreateJob", "", EDITOR),
    ("longhaul.v1.Jobs.GetJob", JOB, READERS),
    ("longhaul.v1.Jobs.ListJobs", "", READERS),
    ("longhaul.v1.Jobs.UpdateJob", JOB, EDITOR),
    ("longhaul.v1.Jobs.DeleteJob", JOB, EDITOR),
    ("longhaul.v1.Jobs.RunJob", JOB, CALLER),
    ("longhaul.v1.Jobs.PauseJob", JOB, EDITOR),
    ("longhaul.v1.Jobs.ResumeJob", JOB, EDITOR),
    ("longhaul.v1.Jobs.BackfillJob", JOB, CALLER),
    ("longhaul.v1.Jobs.ListUpcomingRuns", JOB, READERS),
    ("longhaul.v1.Jobs.GetExecution", EXECUTION, READERS),
    ("longhaul.v1.Jobs.ListExecutions", JOB, READERS),
    ("longhaul.v1.Jobs.DeleteExecution", EXECUTION, EDITOR),
    ("longhaul.v1.Webhooks.CreateWebhookEndpoint", "", EDITOR),
    ("longhaul.v1.Webhooks.GetWebhookEndpoint", ENDPOINT, READERS),
    ("longhaul.v1.Webhooks.ListWebhookEndpoints", "", READERS),
    ("longhaul.v1.Webhooks.UpdateWebhookEndpoint", ENDPOINT, EDITOR),
    ("longhaul.v1.Webhooks.DeleteWebhookEndpoint", ENDPOINT, EDITOR),
    ("longhaul.v1.Webhooks.RotateWebhookEndpoint", ENDPOINT, EDITOR),
    ("longhaul.v1.Webhooks.ResumeWebhookEndpoint", ENDPOINT, EDITOR),
    ("longhaul.v1.Webhooks.TestWebhookEndpoint", ENDPOINT, EDITOR),
    ("longhaul.v1.Webhooks.GetWebhookDelivery", DELIVERY, READERS),
    ("longhaul.v1.Webhooks.ListWebhookDeliveries", ENDPOINT, READERS),
    ("longhaul.v1.Webhooks.ReplayWebhookDelivery", DELIVERY, RESENDERS),
    ("longhaul.v1.Admin.ExportRecords", "", "root"),
    ("longhaul.v1.Queues.GetQueue", "queues/QUEUE", EVERYONE),
    ("longhaul.v1.Queues.ListQueues", "", "root"),
    ("longhaul.v1.Queues.UpdateQueue", "queues/QUEUE", "admin root"),
    ("longhaul.v1.Queues.PauseQueue", "queues/QUEUE", "admin root"),
    ("longhaul.v1.Queues.ListWorkers", "", WORKER),
    ("longhaul.v1.Queues.DrainWorker", "", "admin root"),
    ("longhaul.v1.Queues.ResumeWorker", "", "admin root"),
    ("longhaul.v1.Queues.ResumeQueue", "queues/QUEUE", "admin root"),
    ("longhaul.v1.Workers.LeaseOperations", "", WORKER),
    ("longhaul.v1.Workers.StartLeasedOperation", "", "admin root"),
    ("longhaul.v1.Workers.RenewLeases", OPERATION, WORKER),
    ("longhaul.v1.Workers.ReportProgress", OPERATION, WORKER),
    ("longhaul.v1.Workers.CompleteOperation", OPERATION, WORKER),
    ("longhaul.v1.Workers.FailOperation", OPERATION, WORKER),
    ("longhaul.v1.Workers.ReleaseLease", OPERATION, WORKER),
    ("longhaul.v1.Workers.SuspendOperation", OPERATION, WORKER),
    ("longhaul.v1.Workers.ServeQueue", "", WORKER),
    ("longhaul.v1.Tokens.CreateToken", "", "root"),
    ("longhaul.v1.Tokens.GetToken", "tokens/ID", "root"),
    ("longhaul.v1.Tokens.ListTokens", "", "root"),
    ("longhaul.v1.Tokens.RotateToken", "tokens/ID", "root"),
    ("longhaul.v1.Tokens.DeleteToken", "tokens/ID", "root"),
    ("longhaul.v1.TypeSets.CreateTypeSet", "", EDITOR),
    ("longhaul.v1.TypeSets.GetTypeSet", "PARENT/typeSets/ID", EVERYONE),
    ("longhaul.v1.TypeSets.ListTypeSets", "", EVERYONE),
    ("longhaul.v1.TypeSets.DeleteTypeSet", "PARENT/typeSets/ID", EDITOR),
];
