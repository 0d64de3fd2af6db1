//! A handler's view of its operation: the lease, reports, and requests to stop.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::job::{Cancelled, Directives, Job};
use super::payload::{Pack, TypeMismatch, Unpack};
use super::session::Update;
use super::shared::SharedSession;
use super::stop::Stop;
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc;
use crate::proto::longhaul::v1 as pb;

/// The operation of a handler. Clones share it. Reports after the handler has ended are dropped.
#[derive(Clone)]
pub struct Context {
    shared: Arc<SharedSession>,
    job: Arc<Job>,
}

/// Resolves once the server has handled a report. The report is sent whether or not this is awaited.
#[derive(Debug)]
pub struct Acknowledgement(oneshot::Receiver<Result<(), rpc::Status>>);

/// Why a report is not stored.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReportError {
    /// Another worker has the operation, or it ended.
    #[error("the operation is no longer this worker's")]
    LeaseLost,
    /// The server refused it.
    #[error("the report was refused: {}", .0.message)]
    Refused(rpc::Status),
}

/// The lease.
impl Context {
    /// Full name of the operation.
    pub fn operation(&self) -> &str {
        &self.lease().operation
    }

    /// The method to run.
    pub fn method(&self) -> &str {
        &self.lease().method
    }

    /// 1 for the first attempt.
    pub fn attempt(&self) -> u32 {
        self.lease().attempt.unsigned_abs()
    }

    /// Higher for each later lease of this operation. A database that stores it with each write can refuse late writes of
    /// an earlier lease.
    pub fn fencing_number(&self) -> i64 {
        self.lease().fencing_number
    }

    /// The producer's labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.lease().labels
    }

    /// The target that the producer gave; may be empty.
    pub fn target(&self) -> &str {
        &self.lease().target
    }

    /// When the operation fails unless it has ended, by the store's clock.
    pub fn deadline(&self) -> Option<prost_types::Timestamp> {
        self.lease().deadline_time
    }

    /// W3C trace context of the call that started it; may be empty.
    pub fn trace_parent(&self) -> &str {
        &self.lease().trace_parent
    }

    /// Full name of the response's message type; empty if none was declared.
    pub fn response_type(&self) -> &str {
        &self.lease().response_type
    }

    /// Full name of the metadata's message type; empty if none was declared.
    pub fn metadata_type(&self) -> &str {
        &self.lease().metadata_type
    }

    /// The checkpoint that an earlier attempt stored.
    ///
    /// # Errors
    /// If it is not a `T`.
    pub fn checkpoint<T: Unpack>(&self) -> Result<Option<T>, TypeMismatch> {
        self.checkpoint_any().map(T::unpack).transpose()
    }

    /// The same, undecoded.
    pub fn checkpoint_any(&self) -> Option<&Any> {
        self.lease().checkpoint.as_ref()
    }

    /// The input of the resume that followed a suspension.
    ///
    /// # Errors
    /// If it is not a `T`.
    pub fn resume_input<T: Unpack>(&self) -> Result<Option<T>, TypeMismatch> {
        self.resume_input_any().map(T::unpack).transpose()
    }

    /// The same, undecoded.
    pub fn resume_input_any(&self) -> Option<&Any> {
        self.lease().resume_input.as_ref()
    }

    /// The metadata as last reported.
    ///
    /// # Errors
    /// If it is not a `T`.
    pub fn last_metadata<T: Unpack>(&self) -> Result<Option<T>, TypeMismatch> {
        self.lease().metadata.as_ref().map(T::unpack).transpose()
    }

    /// Why the last attempt failed.
    pub fn last_error(&self) -> Option<&rpc::Status> {
        self.lease().last_error.as_ref()
    }

    fn lease(&self) -> &pb::Lease {
        &self.job.lease
    }
}

/// Reports. None of these methods waits: the next message carries the newest value of each.
impl Context {
    /// Reports progress, such as `0.4` or `Progress::units(3, 10, "pages")`. Cheap: of many reports in a row only the newest
    /// is sent.
    pub fn progress(&self, progress: impl Into<pb::Progress>) {
        self.update(Update::Progress(progress.into()));
    }

    /// Reports what is being done, for people; at most 4 KiB.
    pub fn status_detail(&self, detail: impl Into<String>) {
        self.update(Update::Detail(detail.into()));
    }

    /// Sets the operation's metadata, of the declared type; at most 64 KiB.
    pub fn metadata(&self, metadata: &impl Pack) {
        self.update(Update::Metadata(metadata.pack()));
    }

    /// Reports an error that does not end the operation.
    pub fn partial_error(&self, error: rpc::Status) {
        self.update(Update::PartialError(error));
    }

    /// Reports a resource that the work created.
    pub fn related_resource(&self, resource: pb::RelatedResource) {
        self.update(Update::RelatedResource(resource));
    }

    /// Stores a checkpoint from which the next attempt continues; at most 256 KiB. Await the result to know that it is
    /// stored.
    pub fn save_checkpoint(&self, checkpoint: &impl Pack) -> Acknowledgement {
        self.save_checkpoint_any(checkpoint.pack())
    }

    /// The same with a message of any type.
    pub fn save_checkpoint_any(&self, checkpoint: Any) -> Acknowledgement {
        self.say(Update::Checkpoint(checkpoint))
    }

    /// Resolves once the server has handled all reports so far.
    pub fn flush(&self) -> Acknowledgement {
        self.say(Update::Nothing)
    }

    fn update(&self, update: Update) {
        self.shared.with(|session, now| session.update(self.job.id, update, None, now));
    }

    fn say(&self, update: Update) -> Acknowledgement {
        let (receipt, told) = oneshot::channel();
        self.shared.with(|session, now| session.update(self.job.id, update, Some(receipt), now));
        Acknowledgement(told)
    }
}

impl Future for Acknowledgement {
    type Output = Result<(), ReportError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let told = ready!(Pin::new(&mut self.0).poll(context));
        // The session drops the sender when the lease is lost.
        Poll::Ready(
            told.map_or(Err(ReportError::LeaseLost), |told| told.map_err(ReportError::Refused)),
        )
    }
}

/// Requests to stop, pause or drain.
impl Context {
    /// Resolves with the reason once the handler must stop.
    pub async fn cancelled(&self) -> Cancelled {
        self.job.stop.cancelled().await;
        self.job.why().unwrap_or(Cancelled::Requested)
    }

    /// The reason to stop, if the handler must.
    pub fn is_cancelled(&self) -> Option<Cancelled> {
        self.job.why()
    }

    /// Ends a handler that must stop: `context.check()?` between two steps.
    ///
    /// # Errors
    /// [`Stop::cancelled`] if the handler must stop.
    pub fn check(&self) -> Result<(), Stop> {
        self.is_cancelled().map_or(Ok(()), |_| Err(Stop::cancelled()))
    }

    /// A token that is cancelled when the handler must stop, to pass to the functions that it calls.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.job.stop
    }

    /// Resolves once another worker has the operation or it ended, also after a request to cancel.
    pub async fn lease_lost(&self) {
        self.job.lost.cancelled().await;
    }

    /// Whether a caller asked to pause the operation: suspend or release it when possible. A completion still counts.
    pub fn is_pause_requested(&self) -> bool {
        self.job.directives.borrow().pause
    }

    /// Resolves once it is.
    pub async fn pause_requested(&self) {
        self.directed(|directives| directives.pause).await;
    }

    /// Whether this worker or its server is shutting down: store a checkpoint and release the operation if possible.
    pub fn is_draining(&self) -> bool {
        self.job.directives.borrow().drain
    }

    /// Resolves once it is.
    pub async fn draining(&self) {
        self.directed(|directives| directives.drain).await;
    }

    async fn directed(&self, wanted: impl Fn(&Directives) -> bool) {
        // The sender lives as long as the job.
        let _ = self.job.directives.subscribe().wait_for(|directives| wanted(directives)).await;
    }
}

impl Context {
    pub(super) const fn new(shared: Arc<SharedSession>, job: Arc<Job>) -> Self {
        Self { shared, job }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither token nor payloads.
        formatter
            .debug_struct("Context")
            .field("operation", &self.operation())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

impl pb::Progress {
    /// `completed` of `total` units, such as pages.
    pub fn units(completed: i64, total: i64, unit: impl Into<String>) -> Self {
        let fraction = (total > 0).then(|| (completed as f64 / total as f64).clamp(0.0, 1.0));
        Self {
            fraction,
            completed_units: completed,
            total_units: total,
            unit: unit.into(),
            ..Self::default()
        }
    }

    /// Adds what is being done, for people.
    #[must_use]
    pub fn saying(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }
}

/// A fraction from 0 to 1.
impl From<f64> for pb::Progress {
    fn from(fraction: f64) -> Self {
        Self { fraction: Some(fraction), ..Self::default() }
    }
}
