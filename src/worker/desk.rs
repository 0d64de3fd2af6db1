//! Where handlers, the reader and the writer of the stream meet: the session under a short lock, and who is to be woken.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use futures_util::Stream;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handlers::{Handlers, work_on};
use super::job::Start;
use super::session::{Next, Session};
use crate::clock::Clock;
use crate::proto::longhaul::v1 as pb;

pub(super) struct Desk {
    state: Mutex<State>,
    pub(super) clock: Arc<dyn Clock>,
    handlers: Handlers,
    tasks: TaskTracker,
    /// Where the worker runs; its connection may live elsewhere.
    runtime: Handle,
    /// Cuts the handlers.
    pub(super) abort: CancellationToken,
    /// The worker closes its side, or is about to.
    pub(super) closing: CancellationToken,
    /// Something comes due earlier than the reader thinks.
    pub(super) rearm: Notify,
    /// Whether nothing is held and nothing unacknowledged.
    idle: watch::Sender<bool>,
}

struct State {
    session: Session,
    writer: Option<Waker>,
    /// Which stream may write.
    stream: u64,
}

impl Desk {
    pub(super) fn new(session: Session, handlers: Handlers, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { session, writer: None, stream: 0 }),
            clock,
            handlers,
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            abort: CancellationToken::new(),
            closing: CancellationToken::new(),
            rearm: Notify::new(),
            idle: watch::Sender::new(true),
        })
    }

    /// Does something with the session, and wakes whoever has to do with it now.
    pub(super) fn with<T>(&self, action: impl FnOnce(&mut Session, Duration) -> T) -> T {
        let now = self.clock.elapsed();
        let mut state = self.lock();
        let due = state.session.due();
        let output = action(&mut state.session, now);
        let writer = if state.session.has_next() { state.writer.take() } else { None };
        let (sooner, idle) = (state.session.due() < due, state.session.is_idle());
        // Under the lock, so that the last to say so is right.
        self.idle.send_if_modified(|before| std::mem::replace(before, idle) != idle);
        drop(state);
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
        let mut state = self.lock();
        state.session.open(now);
        state.stream += 1;
        state.writer = None;
        Outgoing { desk: self.clone(), stream: state.stream, waited: false }
    }

    /// Cuts all handlers, and waits until they are gone.
    pub(super) async fn end_handlers(&self) {
        self.abort.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn begin(self: &Arc<Self>, start: Start) {
        let work = work_on(self.clone(), self.handlers.of(&start.job.lease.method), start);
        self.tasks.spawn_on(work, &self.runtime);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the worker says, made when the connection has room for it. It never ends unless the worker closes its side: an end
/// gives everything back.
pub(super) struct Outgoing {
    desk: Arc<Desk>,
    stream: u64,
    /// Others had their turn since there was something to say.
    waited: bool,
}

impl Stream for Outgoing {
    type Item = pb::ServeQueueRequest;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Self::Item>> {
        let now = self.desk.clock.elapsed();
        let desk = self.desk.clone();
        let mut state = desk.lock();
        if state.stream != self.stream {
            return Poll::Pending;
        }
        if state.session.has_next() && !self.waited {
            // Who is about to say something says it now, so that one message has it all.
            self.waited = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        match state.session.next(now) {
            Next::Say(request, starts) => {
                drop(state);
                for start in starts {
                    desk.begin(start);
                }
                Poll::Ready(Some(*request))
            }
            Next::Close => Poll::Ready(None),
            Next::Nothing => {
                state.writer = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
