//! Reports and results of handlers as calls of the protocol.

use prost::Message;
use tokio::sync::oneshot;
use tonic::Code;

use super::super::job::Job;
use super::super::stop;
use crate::limits::{MAX_PARTIAL_ERRORS, MAX_RELATED_RESOURCES, MAX_REPLY_BYTES};
use crate::proto::google::rpc;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::serve_queue_response::outcome::Call as Kind;

/// Resolved once the server has handled a call; dropped if it never will.
pub(in super::super) type Receipt = oneshot::Sender<Result<(), rpc::Status>>;

/// How a handler ended.
pub(in super::super) enum End {
    Response(Option<crate::proto::google::protobuf::Any>),
    Stop(stop::Stop),
}

/// One thing that a handler reports.
pub(in super::super) enum Update {
    Progress(pb::Progress),
    Detail(String),
    Metadata(crate::proto::google::protobuf::Any),
    Checkpoint(crate::proto::google::protobuf::Any),
    PartialError(rpc::Status),
    RelatedResource(pb::RelatedResource),
    CancelAcknowledged,
    /// No content, only a receipt.
    Nothing,
}

/// Reports that were not sent yet, merged: the newest value wins, lists are appended.
#[derive(Default)]
pub(super) struct UnsentReport {
    report: pb::ReportProgressRequest,
    receipts: Vec<Receipt>,
    /// Holds more than progress, so that it is sent at once.
    urgent: bool,
}

/// A call that waits to be sent or acknowledged.
pub(super) struct PendingCall {
    /// Id of the job.
    pub(super) id: u64,
    pub(super) request: Request,
    pub(super) receipts: Vec<Receipt>,
    /// How many refused calls it replaces.
    pub(super) refusals: u8,
}

pub(super) enum Request {
    Report(pb::ReportProgressRequest),
    Complete(pb::CompleteOperationRequest),
    Fail(pb::FailOperationRequest),
    Release(pb::ReleaseLeaseRequest),
    Suspend(pb::SuspendOperationRequest),
}

/// Evaluates the expression with the request of any variant.
macro_rules! each {
    ($call:expr, $request:ident => $value:expr) => {
        match $call {
            Request::Report($request) => $value,
            Request::Complete($request) => $value,
            Request::Fail($request) => $value,
            Request::Release($request) => $value,
            Request::Suspend($request) => $value,
        }
    };
}

impl UnsentReport {
    pub(super) fn take_in(&mut self, update: Update, receipt: Option<Receipt>) {
        self.urgent |=
            !matches!(update, Update::Progress(_) | Update::Detail(_)) || receipt.is_some();
        self.receipts.extend(receipt);
        let report = &mut self.report;
        match update {
            Update::Progress(progress) => report.progress = Some(progress),
            Update::Detail(detail) => report.status_detail = detail,
            Update::Metadata(metadata) => report.metadata = Some(metadata),
            Update::Checkpoint(checkpoint) => report.checkpoint = Some(checkpoint),
            Update::PartialError(error) => {
                append(&mut report.partial_errors, error, MAX_PARTIAL_ERRORS);
            }
            Update::RelatedResource(resource) => {
                append(&mut report.related_resources, resource, MAX_RELATED_RESOURCES);
            }
            Update::CancelAcknowledged => report.cancel_acknowledged = true,
            Update::Nothing => {}
        }
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.receipts.is_empty() && !self.has_content()
    }

    fn has_content(&self) -> bool {
        self.report != pb::ReportProgressRequest::default()
    }

    /// The report as a call.
    pub(super) fn into_call(self, job: &Job, number: i64) -> PendingCall {
        let report = pb::ReportProgressRequest { report_number: number, ..self.report };
        PendingCall::new(job, Request::Report(report), self.receipts)
    }
}

/// Appends, and drops the oldest item beyond `most`.
fn append<T>(list: &mut Vec<T>, item: T, most: usize) {
    if list.len() == most {
        list.remove(0);
    }
    list.push(item);
}

impl PendingCall {
    fn new(job: &Job, mut call: Request, receipts: Vec<Receipt>) -> Self {
        each!(&mut call, request => {
            request.name.clone_from(&job.lease.operation);
            request.lease_token.clone_from(&job.lease.lease_token);
        });
        Self { id: job.id, request: call, receipts, refusals: 0 }
    }

    /// The call that ends a job, with its unsent report. If the call has no fields for all of it, a report with this number
    /// goes first.
    pub(super) fn last_of(
        job: &Job,
        end: End,
        mut before: UnsentReport,
        number: i64,
    ) -> (Option<Self>, Self) {
        let report = &mut before.report;
        // The end acknowledges a request to cancel.
        report.cancel_acknowledged = false;
        let call = match end {
            End::Response(response) => {
                report.checkpoint = None;
                report.status_detail.clear();
                Request::Complete(pb::CompleteOperationRequest {
                    response,
                    metadata: report.metadata.take(),
                    related_resources: std::mem::take(&mut report.related_resources),
                    progress: report.progress.take(),
                    ..Default::default()
                })
            }
            End::Stop(stop) => match *stop.request {
                stop::StopRequest::Fail(mut fail) => {
                    fail.checkpoint = fail.checkpoint.or(report.checkpoint.take());
                    fail.metadata = fail.metadata.or(report.metadata.take());
                    Request::Fail(fail)
                }
                stop::StopRequest::Release(mut release) => {
                    release.checkpoint = release.checkpoint.or(report.checkpoint.take());
                    Request::Release(release)
                }
                stop::StopRequest::Suspend(mut suspend) => {
                    suspend.checkpoint = suspend.checkpoint.or(report.checkpoint.take());
                    suspend.metadata = suspend.metadata.or(report.metadata.take());
                    Request::Suspend(suspend)
                }
            },
        };
        if before.has_content() {
            return (Some(before.into_call(job, number)), Self::new(job, call, Vec::new()));
        }
        (None, Self::new(job, call, before.receipts))
    }

    /// Releases a job that was not started.
    pub(super) fn release(job: &Job) -> Self {
        Self::new(job, Request::Release(pb::ReleaseLeaseRequest::default()), Vec::new())
    }

    pub(super) fn is_final(&self) -> bool {
        !matches!(self.request, Request::Report(_))
    }

    pub(super) fn is(&self, kind: Kind, name: &str) -> bool {
        self.kind() == kind && each!(&self.request, request => request.name == name)
    }

    pub(super) fn kind(&self) -> Kind {
        match self.request {
            Request::Report(_) => Kind::Report,
            Request::Complete(_) => Kind::Completion,
            Request::Fail(_) => Kind::Failure,
            Request::Release(_) => Kind::Release,
            Request::Suspend(_) => Kind::Suspension,
        }
    }

    /// The replacement of a refused call that ends the lease: first a failure with INTERNAL, then a release, then none.
    pub(super) fn replacement(self, job: &Job, refusal: &rpc::Status) -> Option<Self> {
        let call = match self.refusals {
            0 => {
                let what = self.kind().as_str_name().to_lowercase();
                let message: String = refusal.message.chars().take(MAX_MESSAGE_CHARS).collect();
                let stop = stop::Stop::fail(
                    Code::Internal,
                    format!("the worker's {what} was refused: {message}"),
                );
                match *stop.request {
                    stop::StopRequest::Fail(fail) => Request::Fail(fail),
                    _ => return None,
                }
            }
            1 => Request::Release(pb::ReleaseLeaseRequest {
                delay: Some(prost_types::Duration { seconds: RELEASE_DELAY_SECONDS, nanos: 0 }),
                ..Default::default()
            }),
            _ => return None,
        };
        Some(Self { refusals: self.refusals + 1, ..Self::new(job, call, self.receipts) })
    }

    /// The error if the call is too large for a message.
    pub(super) fn too_large(&self) -> Option<rpc::Status> {
        let bytes = self.bytes();
        (bytes > MAX_REQUEST_BYTES).then(|| rpc::Status {
            code: Code::InvalidArgument as i32,
            message: format!(
                "the call has {bytes} bytes, and a message may have at most {MAX_REQUEST_BYTES}"
            ),
            details: Vec::new(),
        })
    }

    /// Resolves the receipts.
    pub(super) fn resolve(self, result: &Result<(), rpc::Status>) {
        for receipt in self.receipts {
            // The receiver may be gone.
            let _ = receipt.send(result.clone());
        }
    }

    fn bytes(&self) -> usize {
        each!(&self.request, request => request.encoded_len()) + OVERHEAD_BYTES
    }
}

/// Fills a request within its bounds.
pub(super) struct RequestBuilder {
    pub(super) request: pb::ServeQueueRequest,
    bytes: usize,
}

impl RequestBuilder {
    pub(super) fn new(request: pb::ServeQueueRequest) -> Self {
        let bytes = request.encoded_len() + HEADER_BYTES;
        Self { request, bytes }
    }

    /// Adds a call if there is room.
    pub(super) fn add(&mut self, call: &PendingCall) -> bool {
        let bytes = self.bytes + call.bytes();
        let request = &mut self.request;
        let calls = match call.request {
            Request::Report(_) => request.reports.len(),
            Request::Complete(_) => request.completions.len(),
            Request::Fail(_) => request.failures.len(),
            Request::Release(_) => request.releases.len(),
            Request::Suspend(_) => request.suspensions.len(),
        };
        let empty = self.request_is_empty();
        if calls == MAX_CALLS || (bytes > MAX_REQUEST_BYTES && !empty) {
            return false;
        }
        let request = &mut self.request;
        match &call.request {
            Request::Report(call) => request.reports.push(call.clone()),
            Request::Complete(call) => request.completions.push(call.clone()),
            Request::Fail(call) => request.failures.push(call.clone()),
            Request::Release(call) => request.releases.push(call.clone()),
            Request::Suspend(call) => request.suspensions.push(call.clone()),
        }
        self.bytes = bytes;
        true
    }

    fn request_is_empty(&self) -> bool {
        let request = &self.request;
        request.hello.is_none()
            && request.reports.is_empty()
            && request.completions.is_empty()
            && request.failures.is_empty()
            && request.releases.is_empty()
            && request.suspensions.is_empty()
    }
}

/// The server refuses larger requests.
pub(super) const MAX_REQUEST_BYTES: usize = MAX_REPLY_BYTES;
/// Calls of each kind in one request.
const MAX_CALLS: usize = 100;
/// For the tag and length of an item.
const OVERHEAD_BYTES: usize = 8;
/// For the fields that are set last.
const HEADER_BYTES: usize = 64;
/// Characters of a refusal's message that are passed on; an error has at most 16 KiB.
const MAX_MESSAGE_CHARS: usize = 2_000;
/// Delay before an operation whose failure was refused can be leased again.
const RELEASE_DELAY_SECONDS: i64 = 30;
