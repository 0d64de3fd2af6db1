//! The verbs of workers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use crate::engine::access::Caller;
use crate::engine::commands::apply::{Commands, Done, KeyedCommand};
use crate::engine::commands::progress::HeldReports;
use crate::engine::context::Context;
use crate::engine::dispatch::batch::LeaseBatch;
use crate::engine::dispatch::dispatcher::Dispatch;
use crate::engine::dispatch::registration::Registration;
use crate::engine::error::{Error, Result};
use crate::engine::leases::grant::Grant;
use crate::engine::leases::leased::Leased;
use crate::engine::leases::waiter::Waiter;
use crate::engine::operations::starts::{Started, Starts};
use crate::engine::reading::view::View;
use crate::operation::Start;
use crate::operation::command::{Command, Renew};
use crate::operation::name::{Name, Queue};

/// A worker's request for work.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// From which queue.
    pub queue: Queue,
    /// The name that the worker gives itself.
    pub worker: String,
    /// How many at most.
    pub max: usize,
    /// The duration of each lease.
    pub duration: Duration,
    /// How long to wait for the first.
    pub wait: Duration,
}

/// The calls of workers without a stream.
pub(in crate::engine) struct Unary {
    context: Arc<Context>,
    dispatch: Arc<Dispatch>,
    commands: Arc<Commands>,
    reports: Arc<HeldReports>,
    starts: Arc<Starts>,
}

impl Unary {
    pub(in crate::engine) const fn new(
        context: Arc<Context>,
        dispatch: Arc<Dispatch>,
        commands: Arc<Commands>,
        reports: Arc<HeldReports>,
        starts: Arc<Starts>,
    ) -> Self {
        Self { context, dispatch, commands, reports, starts }
    }

    /// Leases operations from a queue. If there are none, it waits for some; if the wait ends first, the result is empty.
    pub(in crate::engine) async fn lease(&self, request: LeaseRequest) -> Result<LeaseBatch> {
        let wait = request.wait;
        let waiter = Waiter::once(request.worker, request.duration, request.max);
        let registration = Registration::enter(&self.dispatch, request.queue.as_str(), waiter);
        tokio::select! {
            biased;
            () = registration.waiter.answered() => {}
            () = self.context.sleep(wait) => {
                // A running poll is not cut short: a call with zero wait still receives operations that are ready.
                registration.leave();
                tokio::select! {
                    biased;
                    () = registration.waiter.answered() => {}
                    () = self.context.drained() => {}
                }
            }
            () = self.context.drained() => {}
        }
        registration.into_batch()
    }

    /// Starts an operation that the caller works on itself. A repeat gets the same lease while it lives, afterwards none.
    pub(in crate::engine) async fn start_leased(
        &self,
        caller: &Caller,
        wanted: Start,
        worker: String,
        duration: Duration,
    ) -> Result<(Started, Option<Leased>)> {
        let waiter = Waiter::once(worker, duration, 1);
        let begun = self.starts.start_for_caller(caller, wanted, &waiter).await?;
        let View { operation, published, .. } = Arc::unwrap_or_clone(begun.view);
        let started = Started { published, operation: None, replayed: begun.replayed };
        let own = self.starts.starters_token(operation.uid);
        let lives = operation.state.lease().is_some_and(|lease| lease.token == own);
        let key = self.context.key(&operation.name);
        if !lives {
            return Ok((started, None));
        }
        let grant = Grant { key, operation: Box::new(operation) };
        let leased = Leased::load(&*self.context.store, &grant).await?;
        Ok((started, leased))
    }

    /// Goes on holding leases; results in the order of the renewals.
    pub(in crate::engine) async fn renew_each(
        &self,
        renewals: Vec<Result<(Name, Renew)>>,
    ) -> Vec<Result<Done>> {
        let renew = |renewal: Result<(Name, Renew)>| async move {
            let (name, renew) = renewal?;
            self.renew(&name, renew).await
        };
        futures_util::stream::iter(renewals).map(renew).buffered(RENEWALS_AT_ONCE).collect().await
    }

    /// Goes on holding a lease.
    pub(in crate::engine) async fn renew(&self, name: &Name, renew: Renew) -> Result<Done> {
        self.work(name, Command::Renew(renew)).await
    }

    /// A call of the worker that holds the operation.
    pub(in crate::engine) async fn work(&self, name: &Name, command: Command) -> Result<Done> {
        let key = self.context.key(name);
        let command = match command {
            Command::Report(report) => {
                let renew = report.renew;
                match self.reports.hold_back_unary(key, report) {
                    Some(report) => Command::Report(report),
                    // The progress waits, but the reply already renews the lease and carries the requests to the worker.
                    None => return self.commands.apply(name, Command::Renew(renew)).await,
                }
            }
            other => other,
        };
        let outcome = self.commands.apply_all(vec![KeyedCommand { key, command }]).await.pop();
        outcome.unwrap_or(Ok(None))?.ok_or_else(|| Error::not_found(name))
    }
}

/// Renewals of one request that run at the same time.
const RENEWALS_AT_ONCE: usize = 32;
