//! One leased operation: its lease, and what the server asks of its handler.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::proto::longhaul::v1 as pb;

/// Shared by the handler's context and the session.
pub(super) struct Job {
    /// Unique in this process, also among leases of the same operation.
    pub(super) id: u64,
    /// Without its request, which the handler takes.
    pub(super) lease: pb::Lease,
    /// Cancelled for either reason.
    pub(super) stop: CancellationToken,
    /// Cancelled when the lease is lost, which may follow a request to cancel.
    pub(super) lost: CancellationToken,
    pub(super) directives: watch::Sender<Directives>,
}

/// Why a handler must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// A caller cancelled the operation: stop, and end with [`Stop::cancelled`](super::Stop::cancelled).
    Requested,
    /// Another worker has the operation, or it ended: the handler's result will be discarded.
    LeaseLost,
}

/// Further requests to a handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    /// Suspend or release the operation when possible.
    pub(super) pause: bool,
    /// End soon: this worker or its server is shutting down.
    pub(super) drain: bool,
}

/// A job whose handler can start, with its request.
pub(super) struct NewJob {
    pub(super) job: Arc<Job>,
    pub(super) request: Option<crate::proto::google::protobuf::Any>,
}

impl NewJob {
    pub(super) fn new(id: u64, mut lease: pb::Lease) -> Self {
        let request = lease.request.take();
        let job = Arc::new(Job {
            id,
            lease,
            stop: CancellationToken::new(),
            lost: CancellationToken::new(),
            directives: watch::Sender::default(),
        });
        Self { job, request }
    }
}

impl Job {
    /// Tells the handler to stop. A lost lease overrides a request to cancel.
    pub(super) fn cancel(&self, why: Cancelled) {
        if why == Cancelled::LeaseLost {
            self.lost.cancel();
        }
        self.stop.cancel();
    }

    pub(super) fn why(&self) -> Option<Cancelled> {
        if self.lost.is_cancelled() {
            return Some(Cancelled::LeaseLost);
        }
        self.stop.is_cancelled().then_some(Cancelled::Requested)
    }

    pub(super) fn direct(&self, change: impl FnOnce(&mut Directives)) {
        self.directives.send_if_modified(|directives| {
            let before = *directives;
            change(directives);
            *directives != before
        });
    }
}
