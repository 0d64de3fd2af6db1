//! What handlers have to say, as calls of the protocol.

use prost::Message;
use tokio::sync::oneshot;
use tonic::Code;

use super::super::job::Job;
use super::super::stop;
use crate::limits::{MAX_PARTIAL_ERRORS, MAX_RELATED_RESOURCES, MAX_REPLY_BYTES};
use crate::proto::google::rpc;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::serve_queue_response::outcome::Call as Kind;

/// Told once what was said is handled; dropped where nobody will ever handle it.
pub(in super::super) type Receipt = oneshot::Sender<Result<(), rpc::Status>>;

/// How a handler ended.
pub(in super::super) enum End {
    Response(Option<crate::proto::google::protobuf::Any>),
    Stop(stop::Stop),
}

/// One thing that a handler reports.
pub(in super::super) enum Note {
    Progress(pb::Progress),
    Detail(String),
    Metadata(crate::proto::google::protobuf::Any),
    Checkpoint(crate::proto::google::protobuf::Any),
    PartialError(rpc::Status),
    RelatedResource(pb::RelatedResource),
    CancelAcknowledged,
    /// Says nothing, for a receipt alone.
    Nothing,
}

/// What was reported since the last report was made of it: the newest wins, and what is appended is kept.
#[derive(Default)]
pub(super) struct Pending {
    words: pb::ReportProgressRequest,
    receipts: Vec<Receipt>,
    /// Holds more than progress, so that it does not wait.
    urgent: bool,
}

/// A call that is to be said, or said and not acknowledged.
pub(super) struct Word {
    /// Of the job.
    pub(super) id: u64,
    pub(super) call: Call,
    pub(super) receipts: Vec<Receipt>,
    /// How often it took the place of one that was refused.
    pub(super) refusals: u8,
}

pub(super) enum Call {
    Report(pb::ReportProgressRequest),
    Complete(pb::CompleteOperationRequest),
    Fail(pb::FailOperationRequest),
    Release(pb::ReleaseLeaseRequest),
    Suspend(pb::SuspendOperationRequest),
}

/// Runs the expression on the request, whichever it is.
macro_rules! each {
    ($call:expr, $request:ident => $value:expr) => {
        match $call {
            Call::Report($request) => $value,
            Call::Complete($request) => $value,
            Call::Fail($request) => $value,
            Call::Release($request) => $value,
            Call::Suspend($request) => $value,
        }
    };
}

impl Pending {
    pub(super) fn take_in(&mut self, note: Note, receipt: Option<Receipt>) {
        self.urgent |= !matches!(note, Note::Progress(_) | Note::Detail(_)) || receipt.is_some();
        self.receipts.extend(receipt);
        let words = &mut self.words;
        match note {
            Note::Progress(progress) => words.progress = Some(progress),
            Note::Detail(detail) => words.status_detail = detail,
            Note::Metadata(metadata) => words.metadata = Some(metadata),
            Note::Checkpoint(checkpoint) => words.checkpoint = Some(checkpoint),
            Note::PartialError(error) => {
                append(&mut words.partial_errors, error, MAX_PARTIAL_ERRORS);
            }
            Note::RelatedResource(resource) => {
                append(&mut words.related_resources, resource, MAX_RELATED_RESOURCES);
            }
            Note::CancelAcknowledged => words.cancel_acknowledged = true,
            Note::Nothing => {}
        }
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.receipts.is_empty() && !self.says_something()
    }

    fn says_something(&self) -> bool {
        self.words != pb::ReportProgressRequest::default()
    }

    /// The report of all that.
    pub(super) fn into_word(self, job: &Job, number: i64) -> Word {
        let report = pb::ReportProgressRequest { report_number: number, ..self.words };
        Word::new(job, Call::Report(report), self.receipts)
    }
}

/// Appends to what the server keeps only so much of.
fn append<T>(list: &mut Vec<T>, item: T, most: usize) {
    if list.len() == most {
        list.remove(0);
    }
    list.push(item);
}

impl Word {
    fn new(job: &Job, mut call: Call, receipts: Vec<Receipt>) -> Self {
        each!(&mut call, request => {
            request.name.clone_from(&job.lease.operation);
            request.lease_token.clone_from(&job.lease.lease_token);
        });
        Self { id: job.id, call, receipts, refusals: 0 }
    }

    /// The last word of a job, with what it reported before where the call has room for it; else a report goes first, which
    /// has that number.
    pub(super) fn last(
        job: &Job,
        end: End,
        mut before: Pending,
        number: i64,
    ) -> (Option<Self>, Self) {
        let words = &mut before.words;
        // Whoever ended has seen whatever was asked.
        words.cancel_acknowledged = false;
        let call = match end {
            End::Response(response) => {
                words.checkpoint = None;
                words.status_detail.clear();
                Call::Complete(pb::CompleteOperationRequest {
                    response,
                    metadata: words.metadata.take(),
                    related_resources: std::mem::take(&mut words.related_resources),
                    progress: words.progress.take(),
                    ..Default::default()
                })
            }
            End::Stop(stop) => match *stop.call {
                stop::Call::Fail(mut fail) => {
                    fail.checkpoint = fail.checkpoint.or(words.checkpoint.take());
                    fail.metadata = fail.metadata.or(words.metadata.take());
                    Call::Fail(fail)
                }
                stop::Call::Release(mut release) => {
                    release.checkpoint = release.checkpoint.or(words.checkpoint.take());
                    Call::Release(release)
                }
                stop::Call::Suspend(mut suspend) => {
                    suspend.checkpoint = suspend.checkpoint.or(words.checkpoint.take());
                    suspend.metadata = suspend.metadata.or(words.metadata.take());
                    Call::Suspend(suspend)
                }
            },
        };
        if before.says_something() {
            return (Some(before.into_word(job, number)), Self::new(job, call, Vec::new()));
        }
        (None, Self::new(job, call, before.receipts))
    }

    /// A job that is given back before it began.
    pub(super) fn give_back(job: &Job) -> Self {
        Self::new(job, Call::Release(pb::ReleaseLeaseRequest::default()), Vec::new())
    }

    pub(super) fn is_last(&self) -> bool {
        !matches!(self.call, Call::Report(_))
    }

    pub(super) fn is(&self, kind: Kind, name: &str) -> bool {
        self.kind() == kind && each!(&self.call, request => request.name == name)
    }

    pub(super) fn kind(&self) -> Kind {
        match self.call {
            Call::Report(_) => Kind::Report,
            Call::Complete(_) => Kind::Completion,
            Call::Fail(_) => Kind::Failure,
            Call::Release(_) => Kind::Release,
            Call::Suspend(_) => Kind::Suspension,
        }
    }

    /// What takes the place of a last word that was refused: INTERNAL first, the operation back to the queue when even that
    /// is refused, then nothing.
    pub(super) fn instead(self, job: &Job, refusal: &rpc::Status) -> Option<Self> {
        let call = match self.refusals {
            0 => {
                let what = self.kind().as_str_name().to_lowercase();
                let message: String = refusal.message.chars().take(MAX_MESSAGE_CHARS).collect();
                let stop = stop::Stop::fail(
                    Code::Internal,
                    format!("the worker's {what} was refused: {message}"),
                );
                match *stop.call {
                    stop::Call::Fail(fail) => Call::Fail(fail),
                    _ => return None,
                }
            }
            1 => Call::Release(pb::ReleaseLeaseRequest {
                delay: Some(prost_types::Duration { seconds: REST_SECONDS, nanos: 0 }),
                ..Default::default()
            }),
            _ => return None,
        };
        Some(Self { refusals: self.refusals + 1, ..Self::new(job, call, self.receipts) })
    }

    /// Why no message can hold it, if that is so.
    pub(super) fn too_large(&self) -> Option<rpc::Status> {
        let bytes = self.bytes();
        (bytes > MAX_REQUEST_BYTES).then(|| rpc::Status {
            code: Code::InvalidArgument as i32,
            message: format!("{bytes} bytes are more than a message may have"),
            details: Vec::new(),
        })
    }

    /// Tells whoever waits.
    pub(super) fn settle(self, result: &Result<(), rpc::Status>) {
        for receipt in self.receipts {
            // Nobody has to wait for it.
            let _ = receipt.send(result.clone());
        }
    }

    fn bytes(&self) -> usize {
        each!(&self.call, request => request.encoded_len()) + OVERHEAD_BYTES
    }
}

/// A request that is being filled.
pub(super) struct Letter {
    pub(super) request: pb::ServeQueueRequest,
    bytes: usize,
}

impl Letter {
    pub(super) fn new(request: pb::ServeQueueRequest) -> Self {
        let bytes = request.encoded_len() + HEADER_BYTES;
        Self { request, bytes }
    }

    /// Takes the call in, if there is room.
    pub(super) fn add(&mut self, word: &Word) -> bool {
        let bytes = self.bytes + word.bytes();
        let request = &mut self.request;
        let calls = match word.call {
            Call::Report(_) => request.reports.len(),
            Call::Complete(_) => request.completions.len(),
            Call::Fail(_) => request.failures.len(),
            Call::Release(_) => request.releases.len(),
            Call::Suspend(_) => request.suspensions.len(),
        };
        let empty = self.request_is_empty();
        if calls == MAX_CALLS || (bytes > MAX_REQUEST_BYTES && !empty) {
            return false;
        }
        let request = &mut self.request;
        match &word.call {
            Call::Report(call) => request.reports.push(call.clone()),
            Call::Complete(call) => request.completions.push(call.clone()),
            Call::Fail(call) => request.failures.push(call.clone()),
            Call::Release(call) => request.releases.push(call.clone()),
            Call::Suspend(call) => request.suspensions.push(call.clone()),
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

/// A request has no more.
pub(super) const MAX_REQUEST_BYTES: usize = MAX_REPLY_BYTES;
/// Calls of each kind in one request.
const MAX_CALLS: usize = 100;
/// For tag and length of an item.
const OVERHEAD_BYTES: usize = 8;
/// For the fields that are filled in last.
const HEADER_BYTES: usize = 64;
/// Of a refusal that is passed on; an error has at most 16 KiB.
const MAX_MESSAGE_CHARS: usize = 2_000;
/// How long an operation rests whose worker cannot even say that it failed.
const REST_SECONDS: i64 = 30;
