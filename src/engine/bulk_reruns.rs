//! Starting all finished operations that match a filter again.
//!
//! Such a bulk rerun is an operation itself, in a queue that no request can name: the servers work on it. So callers watch,
//! pause and cancel it as any other, and another server goes on with it after a crash. The id of each new operation follows from
//! the bulk rerun and from the operation that is started again, so work that is done twice starts nothing twice.
//!
//! Each new operation counts for its tenant. At a limit of it the bulk rerun is released for a while, so that others get their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use prost::Message;
use tokio::sync::Notify;
use uuid::Uuid;

use super::access::{Caller, LeaseScope};
use super::context::Context;
use super::error::{Error, Reason, Result};
use super::leases::leased::Leased;
use super::operations::pages::{ListPage, Lists};
use super::operations::query::{ListQuery, Listed};
use super::operations::reruns::{Rerun, Reruns};
use super::operations::starts::{Started, Starts};
use super::parent_types::ParentTypes;
use super::reading::view::View;
use super::tenants::Tenants;
use super::workers::unary::{LeaseRequest, Unary};
use crate::code::Code;
use crate::filter::{Filter, Order};
use crate::limits::{DEFAULT_LEASE, MAX_ATTEMPTS, MAX_BULK_RERUNS};
use crate::operation::command::{Command, Complete, Fail, Proof, Release, Renew, Report, Suspend};
use crate::operation::lease::{Fingerprint, Token};
use crate::operation::name::{Id, Name, Parent, ParentPattern, Queue, ancestry};
use crate::operation::options::{Options, RetryPolicy};
use crate::operation::payload::{Payload, type_url};
use crate::operation::worker::WorkerProcess;
use crate::operation::{Operation, Spec, Start, State};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;

/// A checked request to start many operations again.
#[derive(Clone, Debug)]
pub struct BulkRerun {
    /// The request.
    pub request: pb::RerunOperationsRequest,
    /// Hash of everything that a replay must repeat.
    pub fingerprint: Fingerprint,
}

/// Starts bulk reruns, and works on them.
pub(super) struct BulkReruns {
    pub(super) context: Arc<Context>,
    pub(super) types: Arc<ParentTypes>,
    pub(super) lists: Arc<Lists>,
    pub(super) starts: Arc<Starts>,
    pub(super) reruns: Arc<Reruns>,
    pub(super) unary: Arc<Unary>,
    /// Wakes this server's worker.
    pub(super) started: Notify,
    pub(super) tenants: Arc<Tenants>,
    /// A bulk rerun was released until its tenant has room again.
    pub(super) slowed: AtomicBool,
}

/// A bulk rerun while this server works on it.
struct Working {
    operation: Box<Operation>,
    token: Token,
    report_number: i64,
    request: pb::RerunOperationsRequest,
    list: ListQuery,
    counts: pb::RerunOperationsMetadata,
}

/// A page of which a tenant may not start all again now.
struct LimitedPage {
    /// How many come before the first that must wait.
    admitted: usize,
    /// For how long.
    pause: Duration,
}

impl BulkReruns {
    /// Starts a bulk rerun.
    pub(super) async fn start(&self, caller: &Caller, wanted: BulkRerun) -> Result<Started> {
        let BulkRerun { mut request, fingerprint } = wanted;
        let request_id = std::mem::take(&mut request.request_id);
        let validate_only = std::mem::take(&mut request.validate_only);
        let place = ancestry(&request.parent).first().copied().unwrap_or_default();
        let parent = Parent::parse(place)?;
        let retry_policy = RetryPolicy { max_attempts: Some(MAX_ATTEMPTS), ..Default::default() };
        let spec = Spec {
            queue: Queue::of_servers(),
            method: METHOD.to_owned(),
            request: Some(Payload::Inline(packed("RerunOperationsRequest", &request))),
            metadata_type: "longhaul.v1.RerunOperationsMetadata".to_owned(),
            response_type: "longhaul.v1.RerunOperationsResponse".to_owned(),
            options: Options { retry_policy: Some(retry_policy), ..Options::default() },
            request_id,
            fingerprint,
            ..Spec::default()
        };
        let start = Start { parent, spec, validate_only, ..Start::default() };
        let started = self.starts.start_operation(caller, Box::new(start)).await?;
        self.started.notify_one();
        Ok(started)
    }

    /// Works on bulk reruns, one after the other, until the engine is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let mut pause = INTERVAL;
        loop {
            match self.run_once().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => self.context.log_failure("could not look for bulk reruns", &error),
            }
            let slowed = self.slowed.swap(false, Ordering::Relaxed);
            pause = if slowed { PAUSE } else { INTERVAL.min(pause * 2) };
            tokio::select! {
                () = self.context.sleep(pause) => {}
                () = self.started.notified() => {}
            }
        }
    }

    /// Works on a bulk rerun that waits; `false` if there is none.
    pub(super) async fn run_once(&self) -> Result<bool> {
        let request = LeaseRequest {
            queue: Queue::of_servers(),
            worker: "longhaul".to_owned(),
            max: 1,
            duration: DEFAULT_LEASE,
            wait: Duration::ZERO,
            process: WorkerProcess::default(),
            scope: LeaseScope::default(),
        };
        let mut batch = self.unary.lease(request).await?;
        let leased = batch.load(usize::MAX).await?.pop();
        batch.told();
        let Some(leased) = leased else { return Ok(false) };
        let Some(token) = leased.lease().map(|lease| lease.token) else { return Ok(true) };
        let name = leased.operation.name.clone();
        let ending = match self.work_on(leased, token).await {
            Ok(ending) => ending,
            Err(error) => self.give_up(token, &error),
        };
        self.unary.work(&name, ending).await?;
        Ok(true)
    }

    async fn work_on(&self, leased: Leased, token: Token) -> Result<Command> {
        let request = decoded::<pb::RerunOperationsRequest>(leased.request.as_ref());
        let counts = decoded::<pb::RerunOperationsMetadata>(leased.metadata.as_ref());
        let position = decoded::<String>(leased.checkpoint.as_ref());
        let types = self.types.at(&request.parent).await?;
        let filter = Filter::parse(&request.filter, &types).map_err(|error| {
            Error::new(Reason::InvalidFilter, format!("filter is wrong {error}"))
        })?;
        let list = ListQuery {
            parent: ParentPattern::parse(&request.parent)?,
            filter,
            order: Order::NewestFirst,
            page_size: AT_ONCE,
            page_token: if position.is_empty() { request.page_token.clone() } else { position },
            partial: false,
            listed: Listed::Operations,
        };
        let operation = leased.operation;
        let mut working = Working { operation, token, report_number: 0, request, list, counts };
        self.work(&mut working).await
    }

    /// Works until there is a reason to end the lease; the command that ends it.
    async fn work(&self, it: &mut Working) -> Result<Command> {
        let most = match it.request.max_count {
            0 => MAX_BULK_RERUNS,
            most => i64::from(most),
        };
        loop {
            let left = most - it.counts.rerun_count;
            it.list.page_size = usize::try_from(left).unwrap_or_default().min(AT_ONCE);
            let mut page = self.page(it).await?;
            if let Some(limited) = self.admit(it, &page) {
                if limited.admitted == 0 {
                    self.slowed.store(true, Ordering::Relaxed);
                    return Ok(it.release(limited.pause.max(PAUSE)));
                }
                // The next page begins with the first one that was not admitted.
                it.list.page_size = limited.admitted;
                page = self.page(it).await?;
            }
            self.rerun_all(it, &page).await?;
            it.list.page_token = page.next_page_token;
            if it.list.page_token.is_empty() || it.counts.rerun_count >= most {
                return Ok(it.complete());
            }
            let report = it.report();
            let done = self.unary.work(&it.operation.name, report).await?;
            let now = done.operation();
            if now.is_some_and(|operation| matches!(operation.state, State::Cancelling(..))) {
                return Ok(it.fail(Code::Cancelled, "cancelled by a caller; see the metadata"));
            }
            if now.is_some_and(|operation| operation.pause_requested) {
                return Ok(it.suspend());
            }
            if self.context.is_draining() {
                return Ok(it.release(Duration::ZERO));
            }
        }
    }

    /// The next page, listed for no caller in particular, so that another server can go on. The place in the list is forgotten after some days: then the list begins anew.
    async fn page(&self, it: &mut Working) -> Result<ListPage> {
        match self.lists.list(&Caller::default(), it.list.clone()).await {
            Err(error)
                if error.reason == Reason::PageTokenExpired
                    && it.list.page_token != it.request.page_token =>
            {
                it.list.page_token.clone_from(&it.request.page_token);
                it.counts = pb::RerunOperationsMetadata::default();
                self.lists.list(&Caller::default(), it.list.clone()).await
            }
            page => page,
        }
    }

    /// Counts the operations of a page for their tenants, up to the first that is beyond a limit.
    fn admit(&self, it: &Working, page: &ListPage) -> Option<LimitedPage> {
        for (admitted, view) in page.views.iter().enumerate().filter(|(_, view)| it.concerns(view))
        {
            let operation = &view.operation;
            if let Err(pause) = self.tenants.rerun(operation.name.parent(), &operation.spec) {
                return Some(LimitedPage { admitted, pause });
            }
        }
        None
    }

    /// Starts the operations of a page again, and counts them.
    async fn rerun_all(&self, it: &mut Working, page: &ListPage) -> Result<()> {
        let uid = it.operation.uid;
        let rerun = |view: &Arc<View>| {
            let name = view.operation.name.clone();
            async move { (name.clone(), self.rerun(uid, name).await) }
        };
        let candidates: Vec<_> =
            page.views.iter().filter(|view| it.concerns(view)).map(rerun).collect();
        let mut outcomes = futures_util::stream::iter(candidates).buffered(RERUNS_AT_ONCE);
        while let Some((name, outcome)) = outcomes.next().await {
            it.count(&name, outcome)?;
        }
        Ok(())
    }

    async fn rerun(&self, uid: Uuid, name: Name) -> Result<Started> {
        let keyspace = self.context.store.keyspace();
        let seed = [uid.as_bytes(), name.as_str().as_bytes()].concat();
        let id = uuid::Builder::from_custom_bytes(keyspace.hash("bulk rerun", &seed)).into_uuid();
        let wanted = Rerun {
            id: Some(Id::from_uuid(id)),
            name,
            request: None,
            request_id: uid.to_string(),
            fingerprint: *id.as_bytes(),
        };
        let start = self.reruns.prepare(wanted).await?;
        self.reruns.start(&Caller::default(), start).await
    }

    /// The end of a lease after an error: for good where trying again cannot help.
    fn give_up(&self, token: Token, error: &Error) -> Command {
        let is_final = [Code::InvalidArgument, Code::NotFound].contains(&error.reason.code());
        if is_final {
            let error = Status {
                code: error.reason.code() as i32,
                message: error.message.clone(),
                details: Vec::new(),
            };
            return Command::Fail(Box::new(Fail {
                proof: proof(token),
                error,
                retry: Some(false),
                retry_delay: None,
                metadata: None,
                checkpoint: None,
            }));
        }
        self.context.log_failure("a bulk rerun was interrupted; trying again", error);
        release(token, None, PAUSE)
    }
}

impl Working {
    /// Only what was finished, and was there before: not what this or another bulk rerun has just started, nor bulk reruns.
    fn concerns(&self, view: &View) -> bool {
        let operation = &view.operation;
        operation.state.is_done()
            && operation.create_time < self.operation.create_time
            && operation.spec.queue != Queue::of_servers()
    }

    fn count(&mut self, name: &Name, outcome: Result<Started>) -> Result<()> {
        let counts = &mut self.counts;
        let started = match outcome {
            Ok(started) => Some(started.published.name),
            Err(error) => match error.reason {
                // Started before, and gone by now.
                Reason::NameDeleted | Reason::NameExpired => None,
                // Gone since the page was read.
                Reason::OperationNotFound
                | Reason::OperationExpired
                | Reason::OperationDeleted
                | Reason::InvalidState => return Ok(()),
                reason if reason.code() == Code::Unavailable => return Err(error),
                reason => {
                    counts.failed_count += 1;
                    if counts.failures.len() < SAMPLES {
                        let (code, message) = (reason.code() as i32, error.message.clone());
                        let error = Some(Status { code, message, details: Vec::new() });
                        let operation = name.to_string();
                        let failure = pb::rerun_operations_metadata::Failure { operation, error };
                        counts.failures.push(failure);
                    }
                    return Ok(());
                }
            },
        };
        counts.rerun_count += 1;
        if counts.sample.len() < SAMPLES {
            counts.sample.extend(started);
        }
        Ok(())
    }

    fn report(&mut self) -> Command {
        self.report_number += 1;
        let renew = Renew { token: self.token, duration: None, cancel_acknowledged: false };
        Command::Report(Box::new(Report {
            renew,
            number: self.report_number,
            progress: None,
            metadata: Some(self.metadata()),
            checkpoint: Some(self.checkpoint()),
            partial_errors: Vec::new(),
            related_resources: Vec::new(),
            status_detail: String::new(),
        }))
    }

    fn complete(&self) -> Command {
        let response = pb::RerunOperationsResponse {
            rerun_count: self.counts.rerun_count,
            failed_count: self.counts.failed_count,
            next_page_token: self.list.page_token.clone(),
        };
        Command::Complete(Box::new(Complete {
            proof: proof(self.token),
            response: Some(packed("RerunOperationsResponse", &response)),
            metadata: Some(self.metadata()),
            related_resources: Vec::new(),
            progress: None,
        }))
    }

    fn fail(&self, code: Code, message: &str) -> Command {
        let error = Status { code: code as i32, message: message.to_owned(), details: Vec::new() };
        Command::Fail(Box::new(Fail {
            proof: proof(self.token),
            error,
            retry: Some(false),
            retry_delay: None,
            metadata: Some(self.metadata()),
            checkpoint: None,
        }))
    }

    fn suspend(&self) -> Command {
        Command::Suspend(Box::new(Suspend {
            proof: proof(self.token),
            reason: String::new(),
            metadata: Some(self.metadata()),
            checkpoint: Some(self.checkpoint()),
            resume_time: None,
        }))
    }

    fn release(&self, delay: Duration) -> Command {
        release(self.token, Some(self.checkpoint()), delay)
    }

    fn metadata(&self) -> Any {
        packed("RerunOperationsMetadata", &self.counts)
    }

    /// The place in the list, as google.protobuf.StringValue.
    fn checkpoint(&self) -> Any {
        let value = self.list.page_token.encode_to_vec().into();
        Any { type_url: type_url("google.protobuf.StringValue"), value }
    }
}

fn release(token: Token, checkpoint: Option<Any>, delay: Duration) -> Command {
    let proof = proof(token);
    Command::Release(Box::new(Release { proof, checkpoint, delay, seen: true, holder: None }))
}

/// Calls that end a lease are not repeated here: their fingerprints need not tell them apart.
const fn proof(token: Token) -> Proof {
    Proof { token, fingerprint: [1; 16] }
}

fn packed(name: &str, message: &impl Message) -> Any {
    let value = message.encode_to_vec().into();
    Any { type_url: type_url(&format!("longhaul.v1.{name}")), value }
}

fn decoded<M: Message + Default>(any: Option<&Any>) -> M {
    any.and_then(|any| M::decode(&any.value[..]).ok()).unwrap_or_default()
}

const METHOD: &str = "longhaul.v1.Callers.RerunOperations";
/// Operations between two reports.
const AT_ONCE: usize = 100;
/// Of them, how many are started at the same time.
const RERUNS_AT_ONCE: usize = 16;
/// How many new operations and failures the metadata names.
const SAMPLES: usize = 20;
/// How often a server looks for bulk reruns that another one has left.
const INTERVAL: Duration = Duration::from_secs(10);
/// The pause after an interruption, and the shortest at a limit.
const PAUSE: Duration = Duration::from_secs(1);
