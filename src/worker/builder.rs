//! A worker: what it is told before it runs.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::context::Context;
use super::handlers::{self, Handlers};
use super::payload::{Pack, Unpack};
use super::serve::{RunError, StreamRunner};
use super::session::{Session, Terms};
use super::shared::SharedSession;
use super::stop::Stop;
use crate::clock::{Clock, SystemClock};
use crate::limits::{DEFAULT_LEASE, MAX_LABEL_NAME_BYTES, MAX_LEASE, MIN_LEASE};
use crate::machine;
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1::WorkerProcess;

/// Runs handlers for the operations of one queue.
#[must_use]
pub struct Worker {
    connection: Connection,
    terms: Terms,
    handlers: Handlers,
    drain: Option<Duration>,
    clock: Arc<dyn Clock>,
}

impl Worker {
    /// A worker of queue `default` that runs one operation at a time, and finishes running handlers when it is stopped.
    pub fn builder(connection: impl Into<Connection>) -> Self {
        let terms = Terms {
            queue: "default".to_owned(),
            worker: cut(machine::process_name()),
            process: Some(this_process()),
            lease: DEFAULT_LEASE,
            grace: None,
            slots: 1,
        };
        Self {
            connection: connection.into(),
            terms,
            handlers: Handlers::default(),
            drain: None,
            clock: SystemClock::new(),
        }
    }

    /// The queue, as `q` or `queues/q`.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.terms.queue = queue.into();
        self
    }

    /// The worker's name, for people; at most 128 bytes. By default it is that of the host and of this process.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.terms.worker = name.into();
        self
    }

    /// How many operations run at the same time; coerced into 1 to 10,000.
    pub fn concurrency(mut self, operations: usize) -> Self {
        self.terms.slots = operations.clamp(1, MAX_SLOTS);
        self
    }

    /// How long a lease lasts from each message of this worker; coerced into 1 s to 24 h. After this long without a message
    /// from the server, the worker reconnects.
    pub fn lease_duration(mut self, lease: Duration) -> Self {
        self.terms.lease = lease.clamp(MIN_LEASE, MAX_LEASE);
        self
    }

    /// How long leases outlive a broken stream; 3 s unless set.
    pub fn reconnect_grace(mut self, grace: Duration) -> Self {
        self.terms.grace = Some(grace);
        self
    }

    /// How long handlers may run on after the worker was asked to stop. Handlers that have not ended by then are dropped at
    /// their next await, and their operations return to the queue.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain = Some(timeout);
        self
    }

    /// The clock; the system clock by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Runs the operations of this method. A request of another type fails the operation with INVALID_ARGUMENT; a missing
    /// request is read as an empty message. Types are prost messages that know their names (prost-build's
    /// `enable_type_names`), [`Json`](super::Json) of what serde reads, or `()`.
    pub fn handler<Q, P, F, R>(mut self, method: impl Into<String>, handler: F) -> Self
    where
        Q: Unpack + 'static,
        P: Pack,
        F: Fn(Context, Q) -> R + Send + Sync + 'static,
        R: Future<Output = Result<P, Stop>> + Send + 'static,
    {
        self.handlers.insert(method.into(), handlers::typed(handler));
        self
    }

    /// Runs the operations of this method, with requests and responses of any type. No response is `google.protobuf.Empty`.
    pub fn any_handler<F, R>(mut self, method: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Context, Option<Any>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Option<Any>, Stop>> + Send + 'static,
    {
        self.handlers.insert(method.into(), handlers::untyped(handler));
        self
    }

    /// Runs the operations of all methods that have no handler. Without a fallback they return to the queue with a delay and
    /// a warning.
    pub fn fallback<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Context, Option<Any>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Option<Any>, Stop>> + Send + 'static,
    {
        self.handlers.set_fallback(handlers::untyped(handler));
        self
    }

    /// Works without end.
    ///
    /// # Errors
    /// If the server refuses this worker.
    pub async fn run(self) -> Result<(), RunError> {
        self.run_until(std::future::pending()).await
    }

    /// Works until `stop` resolves; then leases no more, finishes running handlers, and waits until the server has
    /// acknowledged their results. Waits for an unreachable server until the leases are lost.
    ///
    /// # Errors
    /// If the server refuses this worker, or did not acknowledge everything.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let (queue, lease) = (self.terms.queue.clone(), self.terms.lease);
        let handlers = self.handlers;
        let begin = Box::new(move |shared: &_, start| handlers.begin(shared, start));
        let shared = SharedSession::new(Session::new(self.terms), begin, self.clock);
        let (connection, drain) = (self.connection, self.drain);
        StreamRunner { shared, connection, queue, lease, drain }.run(stop).await
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("terms", &self.terms).finish_non_exhaustive()
    }
}

/// This process, for operators.
fn this_process() -> WorkerProcess {
    WorkerProcess {
        host: cut(machine::host()),
        process_id: std::process::id().into(),
        start_time: Some(machine::started().into()),
        sdk_language: "rust".to_owned(),
        sdk_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The name of a host may be longer than that of a worker.
fn cut(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(MAX_LABEL_NAME_BYTES));
    name
}

/// Leases that a worker may hold at the same time.
const MAX_SLOTS: usize = 10_000;
