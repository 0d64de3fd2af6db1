//! The session, shared by the handlers and by the reader and the writer of the stream, under a short lock.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use futures_util::Stream;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::job::NewJob;
use super::session::{Next, Session};
use crate::clock::Clock;
use crate::proto::longhaul::v1 as pb;

/// Begins the work on a job.
pub(super) type Begin = Box<dyn Fn(&Arc<SharedSession>, NewJob) + Send + Sync>;

/// A session and the wakers of its tasks.
pub(super) struct SharedSession {
    inner: Mutex<Inner>,
    pub(super) clock: Arc<dyn Clock>,
    begin: Begin,
    tasks: TaskTracker,
    /// The runtime of the worker; the connection may run on another one.
    runtime: Handle,
    /// Aborts the handlers.
    pub(super) abort: CancellationToken,
    /// Cancelled when the worker closes its side of the stream, or is about to.
    pub(super) closing: CancellationToken,
    /// Notified when a timer must fire earlier than the reader expects.
    pub(super) rearm: Notify,
    /// Whether no lease is held and everything is acknowledged.
    idle: watch::Sender<bool>,
}

struct Inner {
    session: Session,
    writer: Option<Waker>,
    /// Number of the current stream; writers of earlier ones stay silent.
    stream: u64,
}

impl SharedSession {
    pub(super) fn new(session: Session, begin: Begin, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner { session, writer: None, stream: 0 }),
            clock,
            begin,
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            abort: CancellationToken::new(),
            closing: CancellationToken::new(),
            rearm: Notify::new(),
            idle: watch::Sender::new(true),
        })
    }

    /// Runs `action` under the lock, then wakes the reader or the writer.
    pub(super) fn with<T>(&self, action: impl FnOnce(&mut Session, Duration) -> T) -> T {
        let now = self.clock.elapsed();
        let mut inner = self.lock();
        let due = inner.session.due();
        let output = action(&mut inner.session, now);
        let writer = if inner.session.has_next() { inner.writer.take() } else { None };
        let (sooner, idle) = (inner.session.due() < due, inner.session.is_idle());
        // Under the lock, so that the last value sent is the newest.
        self.idle.send_if_modified(|before| std::mem::replace(before, idle) != idle);
        drop(inner);
        if sooner {
            self.rearm.notify_one();
        }
        if let Some(writer) = writer {
            writer.wake();
        }
        output
    }

    /// Resolves once nothing is held and nothing unacknowledged.
    pub(super) async fn idle(&self) {
        // The sender lives as long as this.
        let _ = self.idle.subscribe().wait_for(|idle| *idle).await;
    }

    /// The worker's side of a new stream; older ones fall silent.
    pub(super) fn open(self: &Arc<Self>) -> Outgoing {
        let now = self.clock.elapsed();
        let mut inner = self.lock();
        inner.session.open(now);
        inner.stream += 1;
        inner.writer = None;
        Outgoing { shared: self.clone(), stream: inner.stream, waited: false }
    }

    /// Aborts all handlers, and waits until they have ended.
    pub(super) async fn end_handlers(&self) {
        self.abort.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs a handler in a task of the worker's runtime.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(work, &self.runtime);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's messages; each is built when the connection has room for it. Ends only when the worker closes its side of
/// the stream, since an end releases all leases.
pub(super) struct Outgoing {
    shared: Arc<SharedSession>,
    stream: u64,
    /// Whether other tasks have run since there was something to send.
    waited: bool,
}

impl Stream for Outgoing {
    type Item = pb::ServeQueueRequest;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Self::Item>> {
        let now = self.shared.clock.elapsed();
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        if inner.stream != self.stream {
            return Poll::Pending;
        }
        if inner.session.has_next() && !self.waited {
            // Let handlers that are ready run first, so that one message carries all their calls.
            self.waited = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        match inner.session.next(now) {
            Next::Send(request, starts) => {
                drop(inner);
                for start in starts {
                    (shared.begin)(&shared, start);
                }
                Poll::Ready(Some(*request))
            }
            Next::Close => Poll::Ready(None),
            Next::Nothing => {
                inner.writer = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
