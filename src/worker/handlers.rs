//! Handlers by method, and the task that runs one.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tonic::Code;

use super::context::Context;
use super::job::NewJob;
use super::payload::{Pack, Unpack};
use super::session::End;
use super::shared::SharedSession;
use super::stop::Stop;

use crate::proto::google::protobuf::Any;

/// A handler of messages of any type.
pub(super) type Handler = Arc<
    dyn Fn(Context, Option<Any>) -> BoxFuture<'static, Result<Option<Any>, Stop>> + Send + Sync,
>;

#[derive(Clone, Default)]
pub(super) struct Handlers {
    by_method: HashMap<String, Handler>,
    fallback: Option<Handler>,
}

impl Handlers {
    pub(super) fn insert(&mut self, method: String, handler: Handler) {
        self.by_method.insert(method, handler);
    }

    pub(super) fn set_fallback(&mut self, handler: Handler) {
        self.fallback = Some(handler);
    }

    /// Begins the work on a job.
    pub(super) fn begin(&self, shared: &Arc<SharedSession>, start: NewJob) {
        let handler = self.of(&start.job.lease.method);
        shared.spawn(work_on(shared.clone(), handler, start));
    }

    /// The handler of a method.
    fn of(&self, method: &str) -> Option<Handler> {
        self.by_method.get(method).or(self.fallback.as_ref()).cloned()
    }
}

/// A handler of undecoded messages.
pub(super) fn untyped<F, R>(handler: F) -> Handler
where
    F: Fn(Context, Option<Any>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Option<Any>, Stop>> + Send + 'static,
{
    Arc::new(move |context, request| handler(context, request).boxed())
}

/// A handler whose messages are decoded and encoded.
pub(super) fn typed<Q, P, F, R>(handler: F) -> Handler
where
    Q: Unpack + 'static,
    P: Pack,
    F: Fn(Context, Q) -> R + Send + Sync + 'static,
    R: Future<Output = Result<P, Stop>> + Send + 'static,
{
    Arc::new(move |context, request| match read::<Q>(request.as_ref()) {
        Ok(request) => handler(context, request).map(|end| write(&end?).map(Some)).boxed(),
        Err(stop) => std::future::ready(Err(stop)).boxed(),
    })
}

fn read<Q: Unpack>(request: Option<&Any>) -> Result<Q, Stop> {
    request.map_or_else(Q::absent, Q::unpack).map_err(|error| {
        let message = format!("the request cannot be read: {error}");
        Stop::fail(Code::InvalidArgument, message).do_not_retry()
    })
}

fn write(response: &impl Pack) -> Result<Any, Stop> {
    response.try_pack().map_err(|refused| {
        let message = format!("the response cannot be sent: {refused}");
        Stop::fail(Code::Internal, message).do_not_retry()
    })
}

/// Runs a handler to its end and reports the result. A panic fails the operation, not the worker.
async fn work_on(shared: Arc<SharedSession>, handler: Option<Handler>, start: NewJob) {
    let job = start.job;
    let end = match handler {
        None => {
            tracing::warn!(
                operation = job.lease.operation,
                method = job.lease.method,
                "this worker has no handler for the method; another one may"
            );
            Err(Stop::release(UNKNOWN_METHOD_DELAY))
        }
        Some(handler) => {
            let context = Context::new(shared.clone(), job.clone());
            let run = AssertUnwindSafe(async move { handler(context, start.request).await });
            match shared.abort.run_until_cancelled(run.catch_unwind()).await {
                None => Err(Stop::release(Duration::ZERO)),
                Some(Ok(end)) => end,
                Some(Err(panic)) => {
                    let said = panic_message(&*panic);
                    tracing::error!(operation = job.lease.operation, said, "the handler panicked");
                    Err(Stop::fail(
                        Code::Internal,
                        format!("the worker's handler panicked: {said}"),
                    ))
                }
            }
        }
    };
    let end = end.map_or_else(End::Stop, End::Response);
    shared.with(|session, _| session.finish(job.id, end));
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given")
}

/// Delay before an operation whose method has no handler here can be leased again.
const UNKNOWN_METHOD_DELAY: Duration = Duration::from_secs(5);
