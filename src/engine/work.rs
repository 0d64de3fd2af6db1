//! The verbs of workers.

use std::time::Duration;

use super::batch::{LeaseBatch, Leased};
use super::caller::{Caller, Permission};
use super::error::Result;
use super::starts::{StartRequest, Started};
use super::{Done, Engine, random};
use crate::operation::command::{Command, Renew, Take};
use crate::operation::lease::Token;
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
        let mut place = self.queue_up(request);
        let answer = tokio::select! {
            biased;
            answer = &mut place.reply => answer.ok(),
            () = self.idle_for(wait) => {
                // A look at the queue that is under way is not cut short: a wait of nothing still takes what is there.
                place.leave();
                tokio::select! {
                    biased;
                    answer = &mut place.reply => answer.ok(),
                    () = self.drained() => place.close(),
                }
            }
            () = self.drained() => place.close(),
        };
        let grants = answer.transpose()?.unwrap_or_default();
        Ok(LeaseBatch::new(self.clone(), grants))
    }

    /// Starts an operation that the caller works on itself. A repeat gets the same lease while it lives, afterwards none.
    pub async fn start_leased(
        &self,
        caller: &Caller,
        request: StartRequest,
        worker: String,
        duration: Duration,
    ) -> Result<(Started, Option<Leased>)> {
        self.inner.policy.authorise(caller, Permission::Work, request.queue.as_str())?;
        let take = Take {
            token: Token(random()),
            worker,
            duration,
            holder: None,
            stall_timeout: Duration::ZERO,
        };
        let started = self.start_with(caller, request, Some(take)).await?;
        let operation = started.view.operation.clone();
        let own = self.starters_token(operation.uid);
        let lives = operation.state.lease().is_some_and(|lease| lease.token == own);
        let key = self.key(&operation.name);
        let leased = if lives { self.load_leased(key, operation).await? } else { None };
        Ok((started, leased))
    }

    /// Goes on holding a lease.
    pub async fn renew(&self, caller: &Caller, name: &Name, renew: Renew) -> Result<Done> {
        self.work(caller, name, Command::Renew(renew)).await
    }

    /// A call of the worker that holds the operation.
    pub async fn work(&self, caller: &Caller, name: &Name, command: Command) -> Result<Done> {
        self.inner.policy.authorise(caller, Permission::Work, name.parent())?;
        self.apply(name, &command).await
    }
}
