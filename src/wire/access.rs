//! What the policy is asked for each request: a verb and a resource.
//!
//! A face asks it before it reads anything else of the request. Names are passed on as they were sent: a denied caller gets
//! the same error for a name that exists, one that does not, and an invalid one.

use super::operations::parent;
use super::queues;
use super::stream;
use crate::engine::workers::stream::{CallKind, StreamRequest};
use crate::engine::{Caller, Engine, Guard, Resource, Result, Verb};
use crate::operation::name::TypeSetName;
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
    };
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
    pb::GetQueueRequest: |request| Get Queue &request.name;
    pb::PauseQueueRequest: |request| Pause Queue &request.name;
    pb::ResumeQueueRequest: |request| Resume Queue &request.name;
    pb::DrainWorkerRequest: |request| Drain Queue &request.queue;
    pb::ResumeWorkerRequest: |request| Resume Queue &request.queue;
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
        guard.ask(Verb::Lease, Resource::Queue(queue))
    }
}

/// One item that is denied denies the whole batch; a batch without items asks nothing and does nothing.
impl Guarded for pb::RenewLeasesRequest {
    fn ask(&self, guard: &Guard<'_>) -> Result<()> {
        self.renewals.iter().try_for_each(|renewal| renewal.ask(guard))
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
