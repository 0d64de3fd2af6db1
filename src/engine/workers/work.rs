//! The verbs of workers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use crate::engine::caller::{Caller, Permission};
use crate::engine::dispatch::batch::{LeaseBatch, Leased};
use crate::engine::dispatch::seat::Seat;
use crate::engine::error::{Error, Result};
use crate::engine::operations::commands::Job;
use crate::engine::operations::starts::Started;
use crate::engine::operations::view::View;
use crate::engine::{Done, Engine};
use crate::operation::Start;
use crate::operation::command::{Command, Renew};
use crate::operation::name::{Name, Queue};

/// A worker's wish for work.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// From which queue.
    pub queue: Queue,
    /// What the worker calls itself.
    pub worker: String,
    /// How many at most.
    pub max: usize,
    /// How long each lease shall last.
    pub duration: Duration,
    /// How long to wait for the first.
    pub wait: Duration,
}

impl Engine {
    /// Leases operations from a queue, and waits for some where there are none; then, at the end, there are none.
    pub async fn lease(&self, caller: &Caller, request: LeaseRequest) -> Result<LeaseBatch> {
        self.inner.policy.authorise(caller, Permission::Work, request.queue.as_str())?;
        let wait = request.wait;
        let seat = Seat::once(request.worker, request.duration, request.max);
        let place = self.queue_up(request.queue.as_str(), seat);
        tokio::select! {
            biased;
            () = place.seat.answered() => {}
            () = self.idle_for(wait) => {
                // A look at the queue that is under way is not cut short: a wait of nothing still takes what is there.
                place.leave();
                tokio::select! {
                    biased;
                    () = place.seat.answered() => {}
                    () = self.drained() => {}
                }
            }
            () = self.drained() => {}
        }
        Ok(LeaseBatch::new(self.clone(), place.close()?))
    }

    /// Starts an operation that the caller works on itself. A repeat gets the same lease while it lives, afterwards none.
    pub async fn start_leased(
        &self,
        caller: &Caller,
        wanted: Start,
        worker: String,
        duration: Duration,
    ) -> Result<(Started, Option<Leased>)> {
        self.inner.policy.authorise(caller, Permission::Work, wanted.spec.queue.as_str())?;
        let take = self.take_for(&Seat::once(worker, duration, 1));
        let begun = self.start_for_caller(caller, wanted, take).await?;
        let View { operation, published, .. } = Arc::unwrap_or_clone(begun.view);
        let started = Started { published, operation: None, replayed: begun.replayed };
        let own = self.starters_token(operation.uid);
        let lives = operation.state.lease().is_some_and(|lease| lease.token == own);
        let key = self.key(&operation.name);
        let leased = if lives { self.load_leased(key, operation).await? } else { None };
        Ok((started, leased))
    }

    /// Goes on holding leases; results in the order of the renewals.
    pub async fn renew_each(
        &self,
        caller: &Caller,
        renewals: Vec<Result<(Name, Renew)>>,
    ) -> Vec<Result<Done>> {
        let renew = |renewal: Result<(Name, Renew)>| async move {
            let (name, renew) = renewal?;
            self.renew(caller, &name, renew).await
        };
        futures_util::stream::iter(renewals).map(renew).buffered(RENEWALS_AT_ONCE).collect().await
    }

    /// Goes on holding a lease.
    pub async fn renew(&self, caller: &Caller, name: &Name, renew: Renew) -> Result<Done> {
        self.work(caller, name, Command::Renew(renew)).await
    }

    /// A call of the worker that holds the operation.
    pub async fn work(&self, caller: &Caller, name: &Name, command: Command) -> Result<Done> {
        self.inner.policy.authorise(caller, Permission::Work, name.parent())?;
        let key = self.key(name);
        let command = match command {
            Command::Report(report) => {
                let renew = report.renew;
                // Another server may hear of the end before this one has written what it holds back.
                let held = if self.is_alone() { self.hold_back(key, report) } else { Some(report) };
                match held {
                    Some(report) => Command::Report(report),
                    // The progress waits; that the lease lives, and what is asked of its worker, is said now.
                    None => return self.apply(name, Command::Renew(renew)).await,
                }
            }
            other => other,
        };
        let outcome = self.apply_jobs(vec![Job { key, command }]).await.pop();
        outcome.unwrap_or(Ok(None))?.ok_or_else(|| Error::not_found(name))
    }
}

/// Renewals of one request that run at the same time.
const RENEWALS_AT_ONCE: usize = 32;
