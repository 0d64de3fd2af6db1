//! The verbs of workers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use crate::engine::access::{Caller, LeaseScope};
use crate::engine::commands::apply::{Commands, Done, KeyedCommand};
use crate::engine::commands::progress::HeldReports;
use crate::engine::context::Context;
use crate::engine::dispatch::batch::LeaseBatch;
use crate::engine::dispatch::dispatcher::Dispatch;
use crate::engine::dispatch::registration::Registration;
use crate::engine::error::{Error, Result};
use crate::engine::leases::grant::Grant;
use crate::engine::leases::leased::Leased;
use crate::engine::leases::waiter::{Presented, Waiter};
use crate::engine::operations::starts::{Started, Starts};
use crate::engine::reading::view::View;
use crate::engine::roster::registry::Roster;
use crate::operation::Start;
use crate::operation::command::{Command, Renew};
use crate::operation::name::{Name, Queue};
use crate::operation::worker::WorkerProcess;
use crate::record::server::PARTITION;
use crate::store::Key;

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
    /// The worker's process, as far as it says.
    pub process: WorkerProcess,
    /// From which parents.
    pub scope: LeaseScope,
}

/// The rooms that the calls of unary workers share with others.
pub(in crate::engine) struct UnaryRooms {
    pub(in crate::engine) context: Arc<Context>,
    pub(in crate::engine) dispatch: Arc<Dispatch>,
    pub(in crate::engine) roster: Arc<Roster>,
}

/// The calls of workers without a stream.
pub(in crate::engine) struct Unary {
    context: Arc<Context>,
    dispatch: Arc<Dispatch>,
    commands: Arc<Commands>,
    reports: Arc<HeldReports>,
    starts: Arc<Starts>,
    roster: Arc<Roster>,
}

impl Unary {
    pub(in crate::engine) fn new(
        shared: UnaryRooms,
        commands: Arc<Commands>,
        reports: Arc<HeldReports>,
        starts: Arc<Starts>,
    ) -> Self {
        let UnaryRooms { context, dispatch, roster } = shared;
        Self { context, dispatch, commands, reports, starts, roster }
    }

    /// Leases operations from a queue. If there are none, it waits for some; if the wait ends first, the result is empty.
    pub(in crate::engine) async fn lease(&self, request: LeaseRequest) -> Result<LeaseBatch> {
        let LeaseRequest { queue, worker, max, duration, wait, process, scope } = request;
        let _present = self.roster.unary_waits(queue.as_str(), &worker, &process);
        let activity = self.roster.activity(queue.as_str());
        activity.asked(self.context.store.now(PARTITION));
        let presented = Presented { worker, process, duration, scope, activity };
        let waiter = Waiter::once(presented, max);
        let registration = Registration::enter(&self.dispatch, queue.as_str(), waiter);
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
        let waiter = &registration.waiter;
        self.roster.set_unary_drained(queue.as_str(), &waiter.worker, waiter.is_drained());
        let batch = registration.into_batch()?;
        for grant in batch.grants() {
            self.roster.unary_worked(grant.key, &grant.operation);
        }
        Ok(batch)
    }

    /// Starts an operation that the caller works on itself. A repeat gets the same lease while it lives, afterwards none.
    pub(in crate::engine) async fn start_leased(
        &self,
        caller: &Caller,
        wanted: Start,
        worker: String,
        duration: Duration,
    ) -> Result<(Started, Option<Leased>)> {
        let activity = self.roster.activity(wanted.spec.queue.as_str());
        let (process, scope) = (WorkerProcess::default(), LeaseScope::default());
        let presented = Presented { worker, process, duration, scope, activity };
        let waiter = Waiter::once(presented, 1);
        let begun = self.starts.start_for_caller(caller, Box::new(wanted), &waiter).await?;
        let View { operation, published, .. } = Arc::unwrap_or_clone(begun.view);
        let started = Started { published, operation: None, replayed: begun.replayed };
        let own = self.starts.starters_token(operation.uid);
        let lives = operation.state.lease().is_some_and(|lease| lease.token == own);
        let key = self.context.key(&operation.name);
        if !lives {
            return Ok((started, None));
        }
        self.roster.unary_worked(key, &operation);
        if !started.replayed {
            self.roster.activity(operation.spec.queue.as_str()).leased(1);
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
                let Some(report) = self.reports.hold_back_unary(key, report) else {
                    // The progress waits, but the reply already renews the lease and carries the requests to the worker.
                    let done = self.commands.apply(name, Command::Renew(renew)).await?;
                    return Ok(self.noted(key, done));
                };
                Command::Report(report)
            }
            other => other,
        };
        let outcome = self.commands.apply_all(vec![KeyedCommand { key, command }]).await.pop();
        let done = outcome.unwrap_or(Ok(None))?.ok_or_else(|| Error::not_found(name))?;
        Ok(self.noted(key, done))
    }

    /// Notes what the worker holds after its call.
    fn noted(&self, key: Key, done: Done) -> Done {
        if let Some(operation) = done.operation() {
            self.roster.unary_worked(key, operation);
        }
        done
    }
}

/// Renewals of one request that run at the same time.
const RENEWALS_AT_ONCE: usize = 32;
