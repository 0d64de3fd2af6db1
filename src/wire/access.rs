//! What the policy is asked for each request: a verb and a resource.
//!
//! A face asks it before it reads anything else of the request. Names are passed on as they were sent: a denied caller gets
//! the same error for a name that exists, one that does not, and an invalid one.

use prost::{Message, Name};

use super::operations::parent;
use super::queues;
use super::stream;
use super::tokens::link_verbs;
use crate::engine::workers::stream::{CallKind, StreamRequest};
use crate::engine::{Caller, Engine, Error, Guard, LeaseRequest, Resource, Result, Verb};
use crate::operation::name::{EndpointName, TypeSetName};
use crate::proto::google::longrunning as lro;
use crate::proto::longhaul::v1 as pb;

/// A request that asks for permission.
pub trait Guarded {
    /// Asks.
    ///
    /// # Errors
    /// PERMISSION_DENIED.
    fn ask(&self, guard: &Guard<'_>) -> Result<()>;
}

/// The table: request, its verb and its resource. A request without its line cannot be served.
macro_rules! table {
    ($($message:ty: |$request:ident| $verb:ident $kind:ident $text:expr;)+) => {
        $(impl Guarded for $message {
            fn ask(&self, guard: &Guard<'_>) -> Result<()> {
                let $request = self;
                guard.ask(Verb::$verb, Resource::$kind($text))
            }
        })+

        /// Asks about an encoded message of the table; `None` if its type is not there.
        fn ask_by_table(name: &str, bytes: &[u8], guard: &Guard<'_>) -> Option<Result<()>> {
            $(if is_named::<$message>(name) {
                return Some(ask_decoded::<$message>(bytes, guard));
            })+
            None
        }
    };
}

/// The requests that are not in the table.
macro_rules! others {
    ($($message:ty),+ $(,)?) => {
        fn ask_others(name: &str, bytes: &[u8], guard: &Guard<'_>) -> Option<Result<()>> {
            $(if is_named::<$message>(name) {
                return Some(ask_decoded::<$message>(bytes, guard));
            })+
            None
        }
    };
}

others! {
    pb::BatchStartOperationsRequest,
    pb::CreateJobRequest,
    pb::CreateLinkRequest,
    pb::CreateTokenRequest,
    pb::ExportRecordsRequest,
    pb::ListQueuesRequest,
    pb::ListTokensRequest,
    pb::ListWorkersRequest,
    pb::RenewLeasesRequest,
    pb::StartLeasedOperationRequest,
    pb::StartOperationRequest,
    pb::UpdateJobRequest,
    pb::UpdateQueueRequest,
}

/// Asks about an encoded request, by the full name of its type.
///
/// # Errors
/// PERMISSION_DENIED.
pub fn ask_by_type(name: &str, bytes: &[u8], guard: &Guard<'_>) -> Result<()> {
    if guard.allows_all() {
        return Ok(());
    }
    let asked = ask_by_table(name, bytes, guard).or_else(|| ask_others(name, bytes, guard));
    asked.unwrap_or_else(|| Err(Error::internal(&format!("nothing is asked about {name}"))))
}

fn is_named<M: Name>(name: &str) -> bool {
    name.strip_prefix(M::PACKAGE).and_then(|rest| rest.strip_prefix('.')) == Some(M::NAME)
}

fn ask_decoded<M: Guarded + Message + Default>(bytes: &[u8], guard: &Guard<'_>) -> Result<()> {
    M::decode(bytes).unwrap_or_default().ask(guard)
}

table! {
    lro::GetOperationRequest: |request| Get Operation &request.name;
    lro::ListOperationsRequest: |request| List Parent parent(&request.name);
    lro::WaitOperationRequest: |request| Wait Operation &request.name;
    lro::CancelOperationRequest: |request| Cancel Operation &request.name;
    lro::DeleteOperationRequest: |request| Delete Operation &request.name;
    pb::GetOperationRecordRequest: |request| Get Operation &request.name;
    pb::ListOperationRecordsRequest: |request| List Parent parent(&request.parent);
    pb::GetOperationStatsRequest: |request| List Parent parent(&request.parent);
    pb::WatchOperationRequest: |request| Watch Operation &request.name;
    pb::WatchOperationsRequest: |request| Watch Parent parent(&request.parent);
    pb::PauseOperationRequest: |request| Pause Operation &request.name;
    pb::ResumeOperationRequest: |request| Resume Operation &request.name;
    pb::RerunOperationsRequest: |request| Rerun Parent parent(&request.parent);
    pb::RerunOperationRequest: |request| Rerun Operation &request.name;
    pb::GetJobRequest: |request| Get Job &request.name;
    pb::ListJobsRequest: |request| List Jobs &request.parent;
    pb::DeleteJobRequest: |request| Delete Job &request.name;
    pb::RunJobRequest: |request| Run Job &request.name;
    pb::PauseJobRequest: |request| Pause Job &request.name;
    pb::ResumeJobRequest: |request| Resume Job &request.name;
    pb::BackfillJobRequest: |request| Backfill Job &request.name;
    pb::ListUpcomingRunsRequest: |request| Get Job &request.name;
    pb::GetExecutionRequest: |request| Get Execution &request.name;
    pb::ListExecutionsRequest: |request| List Job &request.parent;
    pb::DeleteExecutionRequest: |request| Delete Execution &request.name;
    pb::CreateTypeSetRequest: |request| Create TypeSets TypeSetName::parent_of_list(&request.parent);
    pb::GetTypeSetRequest: |request| Get TypeSet &request.name;
    pb::ListTypeSetsRequest: |request| List TypeSets TypeSetName::parent_of_list(&request.parent);
    pb::DeleteTypeSetRequest: |request| Delete TypeSet &request.name;
    pb::CreateWebhookEndpointRequest: |request| Create WebhookEndpoints EndpointName::parent_of_list(&request.parent);
    pb::GetWebhookEndpointRequest: |request| Get WebhookEndpoint &request.name;
    pb::ListWebhookEndpointsRequest: |request| List WebhookEndpoints EndpointName::parent_of_list(&request.parent);
    pb::UpdateWebhookEndpointRequest: |request| Update WebhookEndpoint request.webhook_endpoint.as_ref().map_or("", |endpoint| endpoint.name.as_str());
    pb::DeleteWebhookEndpointRequest: |request| Delete WebhookEndpoint &request.name;
    pb::RotateWebhookEndpointRequest: |request| Rotate WebhookEndpoint &request.name;
    pb::ResumeWebhookEndpointRequest: |request| Resume WebhookEndpoint &request.name;
    pb::TestWebhookEndpointRequest: |request| Test WebhookEndpoint &request.name;
    pb::GetWebhookDeliveryRequest: |request| Get WebhookDelivery &request.name;
    pb::ListWebhookDeliveriesRequest: |request| List WebhookDeliveries &request.parent;
    pb::ReplayWebhookDeliveryRequest: |request| Replay WebhookDelivery &request.name;
    pb::GetQueueRequest: |request| Get Queue &request.name;
    pb::PauseQueueRequest: |request| Pause Queue &request.name;
    pb::ResumeQueueRequest: |request| Resume Queue &request.name;
    pb::DrainWorkerRequest: |request| Drain Queue &request.queue;
    pb::ResumeWorkerRequest: |request| Resume Queue &request.queue;
    pb::GetTokenRequest: |request| Get Token &request.name;
    pb::RotateTokenRequest: |request| Rotate Token &request.name;
    pb::DeleteTokenRequest: |request| Delete Token &request.name;
    pb::LeaseOperationsRequest: |request| Lease Queue &request.queue;
    pb::renew_leases_request::Renewal: |request| Renew Operation &request.name;
    pb::ReportProgressRequest: |request| Report Operation &request.name;
    pb::CompleteOperationRequest: |request| Complete Operation &request.name;
    pb::FailOperationRequest: |request| Fail Operation &request.name;
    pb::ReleaseLeaseRequest: |request| Release Operation &request.name;
    pb::SuspendOperationRequest: |request| Suspend Operation &request.name;
}

impl Guarded for pb::ListQueuesRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        guard.ask(Verb::List, Resource::Queues)
    }
}

impl Guarded for pb::ListWorkersRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        let all = queues::names_all(&self.queue);
        let of = if all { Resource::Queues } else { Resource::Queue(&self.queue) };
        guard.ask(Verb::List, of)
    }
}

impl Guarded for pb::UpdateQueueRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        let name = self.queue.as_ref().map_or("", |queue| &queue.name);
        guard.ask(Verb::Update, Resource::Queue(name))
    }
}

/// No part of the store can be exported alone.
impl Guarded for pb::ExportRecordsRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        guard.ask(Verb::Export, Resource::Store)
    }
}

/// A start needs both: to start below that parent, and to start in that queue.
impl Guarded for pb::StartOperationRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        may_start(guard, &self.parent, &self.queue)
    }
}

/// Whoever configures a job decides what its runs start, so it needs permission to start in that queue, too.
impl Guarded for pb::CreateJobRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        guard.ask(Verb::Create, Resource::Jobs(&self.parent))?;
        guard.ask(Verb::Start, Resource::Queue(queue_of(self.job.as_ref())))
    }
}

/// With `allow_missing` it may create, too.
impl Guarded for pb::UpdateJobRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        let job = Resource::Job(self.job.as_ref().map_or("", |job| &job.name));
        guard.ask(Verb::Update, job)?;
        if self.allow_missing {
            guard.ask(Verb::Create, Resource::Jobs(job.parent().unwrap_or_default()))?;
        }
        if sets_queue(self) {
            guard.ask(Verb::Start, Resource::Queue(queue_of(self.job.as_ref())))?;
        }
        Ok(())
    }
}

/// Whether an update decides in which queue runs start.
fn sets_queue(update: &pb::UpdateJobRequest) -> bool {
    let paths = update.update_mask.as_ref().map_or(&[][..], |mask| &mask.paths[..]);
    let has_template = update.job.as_ref().is_some_and(|job| job.template.is_some());
    let named = |path: &String| ["*", "template", "template.queue"].contains(&path.as_str());
    (paths.is_empty() && has_template) || paths.iter().any(named)
}

fn queue_of(job: Option<&pb::Job>) -> &str {
    job.and_then(|job| job.template.as_ref()).map_or("", |template| &template.queue)
}

/// One item that is denied denies the whole batch.
impl Guarded for pb::BatchStartOperationsRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        if self.requests.is_empty() {
            return guard.ask(Verb::Start, Resource::Parent(&self.parent));
        }
        self.requests.iter().try_for_each(|start| {
            let parent = if start.parent.is_empty() { &self.parent } else { &start.parent };
            may_start(guard, parent, &start.queue)
        })
    }
}

/// The starter takes the lease too.
impl Guarded for pb::StartLeasedOperationRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        let (parent, queue) =
            self.start.as_ref().map_or(("", ""), |start| (&*start.parent, &*start.queue));
        may_start(guard, parent, queue)?;
        guard.ask(Verb::Lease, Resource::Parent(parent))?;
        guard.ask(Verb::Lease, Resource::Queue(queue))
    }
}

/// The same request for the operations of those parents whose operations the caller may lease.
pub fn in_scope(guard: &Guard<'_>, request: LeaseRequest) -> LeaseRequest {
    LeaseRequest { scope: guard.lease_scope(request.queue.as_str()), ..request }
}

/// One item that is denied denies the whole batch; a batch without items asks nothing and does nothing.
impl Guarded for pb::RenewLeasesRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        self.renewals.iter().try_for_each(|renewal| renewal.ask(guard))
    }
}

/// A link permits what its maker is permitted.
impl Guarded for pb::CreateLinkRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        let on = Resource::Operation(&self.name);
        guard.ask(Verb::Share, on)?;
        let verbs = link_verbs(&self.verbs).unwrap_or_default();
        verbs.into_iter().try_for_each(|verb| guard.ask(verb, on))
    }
}

impl Guarded for pb::CreateTokenRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        guard.ask(Verb::Create, Resource::Tokens)
    }
}

impl Guarded for pb::ListTokensRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        guard.ask(Verb::List, Resource::Tokens)
    }
}

/// Reads the messages of one stream of a worker. The first, and each with a Hello, asks to lease from the queue, and denial ends
/// the stream. A call that is denied is refused by itself, and a lease that may not be renewed counts as lost.
pub fn stream_reader(
    engine: Engine,
    caller: Caller,
) -> impl FnMut(pb::ServeQueueRequest) -> Result<StreamRequest> {
    let mut is_first = true;
    move |message| {
        let guard = engine.guard(&caller);
        stream_request(&guard, std::mem::take(&mut is_first), message)
    }
}

fn stream_request(
    guard: &Guard<'_>,
    is_first: bool,
    message: pb::ServeQueueRequest,
) -> Result<StreamRequest> {
    if guard.allows_all() {
        return stream::request(message);
    }
    let queue = message.hello.as_ref().map(|hello| hello.queue.as_str());
    if is_first || queue.is_some() {
        guard.ask(Verb::Lease, Resource::Queue(queue.unwrap_or_default()))?;
    }
    let mut request = stream::request(message)?;
    for call in &mut request.calls {
        if let Err(denied) = guard.ask(verb(call.kind), Resource::Operation(&call.name)) {
            call.command = Err(denied);
        }
    }
    if let Some(hello) = &mut request.hello {
        hello.scope = guard.lease_scope(hello.queue.as_str());
    }
    for (name, held) in request.hello.iter_mut().flat_map(|hello| &mut hello.held) {
        if let Err(denied) = guard.ask(Verb::Renew, Resource::Operation(name)) {
            *held = Err(denied);
        }
    }
    Ok(request)
}

fn may_start(guard: &Guard<'_>, parent: &str, queue: &str) -> Result<()> {
    guard.ask(Verb::Start, Resource::Parent(parent))?;
    guard.ask(Verb::Start, Resource::Queue(queue))
}

const fn verb(kind: CallKind) -> Verb {
    match kind {
        CallKind::Report => Verb::Report,
        CallKind::Completion => Verb::Complete,
        CallKind::Failure => Verb::Fail,
        CallKind::Release => Verb::Release,
        CallKind::Suspension => Verb::Suspend,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::engine::{Policy, Rules, Settings};
    use crate::proto::DESCRIPTORS;
    use crate::store::Keyspace;
    use crate::store::memory::MemoryStore;

    #[derive(Debug)]
    struct Nothing;

    impl Rules for Nothing {
        fn allow(&self, _: &Caller, _: Verb, _: Resource<'_>) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn every_request_of_our_services_is_asked_about_by_its_type() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let settings = Settings { policy: Policy::Rules(Arc::new(Nothing)), ..Settings::default() };
        let store = MemoryStore::new(Keyspace::generate(1), clock.clone());
        let engine = Engine::with(store, clock, settings);
        let caller = Caller::default();
        let guard = engine.guard(&caller);
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("definitions");
        let ours = ["longhaul.v1", "google.longrunning"];
        for service in pool.services().filter(|it| ours.contains(&it.package_name())) {
            for method in service.methods().filter(|method| !method.is_client_streaming()) {
                let name = method.input().full_name().to_owned();
                let asked = ask_by_type(&name, &[], &guard);
                // A batch without items asks nothing and does nothing.
                let is_denied = asked
                    .is_err_and(|error| error.reason == crate::engine::Reason::PermissionDenied);
                assert!(is_denied || name.ends_with("RenewLeasesRequest"), "{name}");
            }
        }
    }
}
