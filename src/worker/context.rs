//! What a handler knows of its operation, and how it speaks to those who wait for it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::job::{Cancelled, Job, Wishes};
use super::payload::{Pack, TypeMismatch, Unpack};
use super::session::Note;
use super::stop::Stop;
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc;
use crate::proto::longhaul::v1 as pb;

/// An operation in the hands of a handler. Clones are the same one; what they say after the handler has ended is dropped.
#[derive(Clone)]
pub struct Context {
    desk: Arc<Desk>,
    job: Arc<Job>,
}

/// Resolves once the server has handled what was said; what was said is sent whether or not anybody awaits this.
#[derive(Debug)]
pub struct Acknowledgement(oneshot::Receiver<Result<(), rpc::Status>>);

/// Why what a handler reported is not stored.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReportError {
    /// Somebody else has the operation, or it ended.
    #[error("the operation is no longer this worker's")]
    LeaseLost,
    /// The server refused it.
    #[error("the report was refused: {}", .0.message)]
    Refused(rpc::Status),
}

/// What the operation is.
impl Context {
    /// Full name of the operation.
    pub fn operation(&self) -> &str {
        &self.lease().operation
    }

    /// What to do.
    pub fn method(&self) -> &str {
        &self.lease().method
    }

    /// 1 for the first attempt.
    pub fn attempt(&self) -> u32 {
        self.lease().attempt.unsigned_abs()
    }

    /// Grows with every lease of this operation: a store that keeps it with what is written can refuse late writes of an
    /// older one.
    pub fn fencing_number(&self) -> i64 {
        self.lease().fencing_number
    }

    /// The producer's own marks.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.lease().labels
    }

    /// What the operation works on, as its producer said; may be empty.
    pub fn target(&self) -> &str {
        &self.lease().target
    }

    /// When the operation fails at the latest, by the store's clock.
    pub fn deadline(&self) -> Option<prost_types::Timestamp> {
        self.lease().deadline_time
    }

    /// W3C trace context of the call that started it; may be empty.
    pub fn trace_parent(&self) -> &str {
        &self.lease().trace_parent
    }

    /// Full name of the response's message type; empty where none was declared.
    pub fn response_type(&self) -> &str {
        &self.lease().response_type
    }

    /// Full name of the metadata's message type; empty where none was declared.
    pub fn metadata_type(&self) -> &str {
        &self.lease().metadata_type
    }

    /// What an earlier attempt left for this one.
    ///
    /// # Errors
    /// Where it is no `T`.
    pub fn checkpoint<T: Unpack>(&self) -> Result<Option<T>, TypeMismatch> {
        self.checkpoint_any().map(T::unpack).transpose()
    }

    /// The same as it is.
    pub fn checkpoint_any(&self) -> Option<&Any> {
        self.lease().checkpoint.as_ref()
    }

    /// What the operation was resumed with after it was suspended.
    ///
    /// # Errors
    /// Where it is no `T`.
    pub fn resume_input<T: Unpack>(&self) -> Result<Option<T>, TypeMismatch> {
        self.resume_input_any().map(T::unpack).transpose()
    }

    /// The same as it is.
    pub fn resume_input_any(&self) -> Option<&Any> {
        self.lease().resume_input.as_ref()
    }

    /// The metadata as last reported.
    ///
    /// # Errors
    /// Where it is no `T`.
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

/// What the handler says. Nothing here waits: what was said since the last message goes with the next, the newest of each.
impl Context {
    /// How far the work has come, such as `0.4` or `Progress::units(3, 10, "pages")`. Cheap: of many reports in a row the
    /// newest is sent.
    pub fn progress(&self, progress: impl Into<pb::Progress>) {
        self.note(Note::Progress(progress.into()));
    }

    /// What is being done, for people; at most 4 KiB.
    pub fn status_detail(&self, detail: impl Into<String>) {
        self.note(Note::Detail(detail.into()));
    }

    /// The operation's metadata, of the declared type; at most 64 KiB.
    pub fn metadata(&self, metadata: &impl Pack) {
        self.note(Note::Metadata(metadata.pack()));
    }

    /// An error that does not end the operation.
    pub fn partial_error(&self, error: rpc::Status) {
        self.note(Note::PartialError(error));
    }

    /// Something that came into being.
    pub fn related_resource(&self, resource: pb::RelatedResource) {
        self.note(Note::RelatedResource(resource));
    }

    /// Keeps what the next attempt needs to go on from here; at most 256 KiB. Await it to know that it is stored.
    pub fn save_checkpoint(&self, checkpoint: &impl Pack) -> Acknowledgement {
        self.save_checkpoint_any(checkpoint.pack())
    }

    /// The same with a message of any type.
    pub fn save_checkpoint_any(&self, checkpoint: Any) -> Acknowledgement {
        self.say(Note::Checkpoint(checkpoint))
    }

    /// Resolves once the server has handled all that was said so far.
    pub fn flush(&self) -> Acknowledgement {
        self.say(Note::Nothing)
    }

    fn note(&self, note: Note) {
        self.desk.with(|session, now| session.note(self.job.id, note, None, now));
    }

    fn say(&self, note: Note) -> Acknowledgement {
        let (receipt, told) = oneshot::channel();
        self.desk.with(|session, now| session.note(self.job.id, note, Some(receipt), now));
        Acknowledgement(told)
    }
}

impl Future for Acknowledgement {
    type Output = Result<(), ReportError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let told = ready!(Pin::new(&mut self.0).poll(context));
        // A session that drops it has lost the lease.
        Poll::Ready(
            told.map_or(Err(ReportError::LeaseLost), |told| told.map_err(ReportError::Refused)),
        )
    }
}

/// What is asked of the handler.
impl Context {
    /// Resolves once the handler is to stop, and says why.
    pub async fn cancelled(&self) -> Cancelled {
        self.job.stop.cancelled().await;
        self.job.why().unwrap_or(Cancelled::Requested)
    }

    /// Whether it is to stop, and why.
    pub fn is_cancelled(&self) -> Option<Cancelled> {
        self.job.why()
    }

    /// Ends a handler that is to stop: `context.check()?` between two steps.
    ///
    /// # Errors
    /// [`Stop::cancelled`] where it is.
    pub fn check(&self) -> Result<(), Stop> {
        self.is_cancelled().map_or(Ok(()), |_| Err(Stop::cancelled()))
    }

    /// The token that fires then, to be handed on to what the handler calls.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.job.stop
    }

    /// Resolves once somebody else has the operation or it ended, also after a request to cancel.
    pub async fn lease_lost(&self) {
        self.job.lost.cancelled().await;
    }

    /// Whether somebody wants the operation parked: suspend or release it when it suits. A completion is still welcome.
    pub fn is_pause_requested(&self) -> bool {
        self.job.wishes.borrow().pause
    }

    /// Resolves once that is so.
    pub async fn pause_requested(&self) {
        self.wished(|wishes| wishes.pause).await;
    }

    /// Whether this worker or its server is about to go: what can be kept in a checkpoint may be released now.
    pub fn is_draining(&self) -> bool {
        self.job.wishes.borrow().drain
    }

    /// Resolves once that is so.
    pub async fn draining(&self) {
        self.wished(|wishes| wishes.drain).await;
    }

    async fn wished(&self, wish: impl Fn(&Wishes) -> bool) {
        // The sender lives as long as the job.
        let _ = self.job.wishes.subscribe().wait_for(|wishes| wish(wishes)).await;
    }
}

impl Context {
    pub(super) const fn new(desk: Arc<Desk>, job: Arc<Job>) -> Self {
        Self { desk, job }
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
    /// So many of so many units, such as pages.
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

    /// The same, with what is being done; for people.
    #[must_use]
    pub fn saying(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }
}

/// Between 0 and 1.
impl From<f64> for pb::Progress {
    fn from(fraction: f64) -> Self {
        Self { fraction: Some(fraction), ..Self::default() }
    }
}
