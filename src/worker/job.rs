//! One operation in the hands of this worker: its lease, and what the server asks of it.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::proto::longhaul::v1 as pb;

/// Shared by the handler's context and the session.
pub(super) struct Job {
    /// Tells this lease from others of the same operation; of this process only.
    pub(super) id: u64,
    /// Without its request, which is the handler's.
    pub(super) lease: pb::Lease,
    /// Fires for either reason.
    pub(super) stop: CancellationToken,
    /// Fires for a lost lease, which may follow a request to cancel.
    pub(super) lost: CancellationToken,
    pub(super) wishes: watch::Sender<Wishes>,
}

/// Why a handler is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// Somebody asked for it: stop, and end with [`Stop::cancelled`](super::Stop::cancelled).
    Requested,
    /// Somebody else has the operation, or it ended: whatever the handler does from now on is for nothing.
    LeaseLost,
}

/// What else is asked of a handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// To suspend or release when it suits.
    pub(super) pause: bool,
    /// To come to an end: this worker goes away, or its server.
    pub(super) drain: bool,
}

/// A lease whose handler may begin, with its request.
pub(super) struct Start {
    pub(super) job: Arc<Job>,
    pub(super) request: Option<crate::proto::google::protobuf::Any>,
}

impl Start {
    pub(super) fn new(id: u64, mut lease: pb::Lease) -> Self {
        let request = lease.request.take();
        let job = Arc::new(Job {
            id,
            lease,
            stop: CancellationToken::new(),
            lost: CancellationToken::new(),
            wishes: watch::Sender::default(),
        });
        Self { job, request }
    }
}

impl Job {
    /// Tells the handler to stop. A lost lease is the last word.
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

    pub(super) fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        self.wishes.send_if_modified(|wishes| {
            let before = *wishes;
            change(wishes);
            *wishes != before
        });
    }
}
