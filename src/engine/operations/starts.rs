//! Starting operations. A request that is sent again finds the operation that it started before.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::attempt::{Attempt, Begun, FirstLease, Prepared};
use super::eager::EagerLeases;
use super::gated::{GateTerms, Gated, GatedStarts};
use super::identity::{Identity, name_for};
use super::replays::Replays;
use crate::engine::access::Caller;
use crate::engine::context::Context;
use crate::engine::dispatch::dispatcher::Dispatch;
use crate::engine::dispatch::grants::Grants;
use crate::engine::error::{Error, Result};
use crate::engine::leases::waiter::Waiter;
use crate::engine::notify::notifier::OperationTransactor;
use crate::engine::reading::reader::Reader;
use crate::engine::reading::view::View;
use crate::engine::transact::Ended;
use crate::operation::command::Take;
use crate::operation::gate::Admittance;
use crate::operation::lease::Token;
use crate::operation::name::Id;
use crate::operation::{Birth, Operation, Record, Rejection, Start, start};
use crate::proto::google::longrunning::Operation as Published;

/// The answer to a start.
#[derive(Clone, Debug)]
pub struct Started {
    /// The published form.
    pub published: Published,
    /// The operation, unless the start was only checked.
    pub operation: Option<Operation>,
    /// Whether the same request had started it before.
    pub replayed: bool,
}

impl From<Begun> for Started {
    fn from(begun: Begun) -> Self {
        // There is no other reference to the view of a new operation.
        let view = Arc::unwrap_or_clone(begun.view);
        Self {
            published: view.published,
            operation: Some(view.operation),
            replayed: begun.replayed,
        }
    }
}

/// Starts operations.
pub(in crate::engine) struct Starts {
    context: Arc<Context>,
    transactor: Arc<OperationTransactor>,
    eager: EagerLeases,
    replays: Replays,
    gated: GatedStarts,
}

impl Starts {
    pub(in crate::engine) fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        transactor: Arc<OperationTransactor>,
        dispatch: Arc<Dispatch>,
        grants: Arc<Grants>,
    ) -> Self {
        let gated = GatedStarts::new(context.clone(), reader.clone(), grants.gates.clone());
        let eager = EagerLeases::new(context.clone(), dispatch, grants);
        let replays = Replays::new(context.clone(), reader);
        Self { context, transactor, eager, replays, gated }
    }

    /// Starts an operation, or finds the one that the same request started before. With `validate_only` it starts none.
    pub(in crate::engine) async fn start_operation(
        self: &Arc<Self>,
        caller: &Caller,
        wanted: Box<Start>,
    ) -> Result<Started> {
        if wanted.validate_only {
            return Box::pin(self.validate_start(caller, wanted)).await;
        }
        Ok(self.start_with(caller, wanted, FirstLease::Eager).await?.into())
    }

    /// Starts an operation that the caller works on itself.
    pub(in crate::engine) async fn start_for_caller(
        self: &Arc<Self>,
        caller: &Caller,
        mut wanted: Box<Start>,
        waiter: &Waiter,
    ) -> Result<Begun> {
        let take = self.eager.take_for(waiter);
        let Some(limit) = self.eager.max_running(&wanted.spec.queue) else {
            return self.start_with(caller, wanted, FirstLease::Starter(take)).await;
        };
        // The limit of the queue holds for this lease, too.
        let name = name_for(&self.context, caller, &wanted)?;
        wanted.id = Some(Id::parse(name.id())?);
        let mut gated = Gated::of_queue(&self.context, name, &wanted, limit);
        let Some(terms) = self.gated.ask(&mut gated, &wanted, true).await? else {
            return self.replay_or_refuse(caller, wanted, &gated).await;
        };
        let slot = terms.admission.and_then(Admittance::slot);
        let first = FirstLease::Starter(Take { slot, ..take });
        let begun = self.start_with(caller, wanted, first).await;
        if begun.as_ref().is_ok_and(|begun| begun.replayed) {
            self.gated.free(&gated);
        }
        begun
    }

    /// The operation that the same request started before; else the refusal of a gate.
    async fn replay_or_refuse(
        &self,
        caller: &Caller,
        wanted: Box<Start>,
        gated: &Gated,
    ) -> Result<Begun> {
        let attempt = self.prepare(caller, *wanted, FirstLease::None, GateTerms::default())?;
        let (key, identity) = attempt.identity();
        self.replays.find(key, identity).await?.ok_or_else(|| GatedStarts::refuse(gated))
    }

    /// Starts many, each on its own; results in their order.
    pub(in crate::engine) async fn start_batch(
        self: &Arc<Self>,
        caller: &Caller,
        wanted: Vec<Result<Start>>,
    ) -> Vec<Result<Started>> {
        let count = wanted.len();
        let is_gated = |wanted: &Result<Start>| {
            wanted.as_ref().is_ok_and(|wanted| wanted.spec.options.concurrency.is_some())
        };
        let numbered = wanted.into_iter().enumerate();
        let (gated, plain): (Vec<_>, Vec<_>) = numbered.partition(|(_, wanted)| is_gated(wanted));
        let (numbers, attempts): (Vec<usize>, Vec<Result<Prepared>>) = plain
            .into_iter()
            .map(|(number, wanted)| {
                let prepare =
                    |wanted| self.prepare(caller, wanted, FirstLease::Eager, GateTerms::default());
                (number, wanted.and_then(prepare))
            })
            .unzip();
        let (starts, caller) = (Arc::clone(self), caller.clone());
        let starting = async move {
            let start = |(number, wanted): (usize, Result<Start>)| {
                let (starts, caller) = (&starts, &caller);
                async move {
                    let begun = match wanted {
                        Ok(wanted) => {
                            starts.start_gated(caller, Box::new(wanted), FirstLease::Eager).await
                        }
                        Err(error) => Err(error),
                    };
                    (number, begun)
                }
            };
            let gated = join_all(gated.into_iter().map(start)).await;
            numbers.into_iter().zip(starts.commit_starts(attempts).await).chain(gated).collect()
        };
        let mut begun: Vec<(usize, Result<Begun>)> =
            self.see_through(starting).await.unwrap_or_default();
        begun.sort_by_key(|(number, _)| *number);
        let gone = (begun.len()..count).map(|_| Err(Error::draining()));
        begun.into_iter().map(|(_, begun)| begun.map(Into::into)).chain(gone).collect()
    }

    /// Writes starts in one call of the store.
    async fn commit_starts(&self, attempts: Vec<Result<Prepared>>) -> Vec<Result<Begun>> {
        let (mut ready, mut others) = (Vec::new(), Vec::with_capacity(attempts.len()));
        for attempt in attempts {
            match attempt {
                Ok(Prepared::Ready(attempt)) => {
                    ready.push(*attempt);
                    others.push(None);
                }
                Ok(Prepared::Late(key, identity, why)) => {
                    others.push(Some(Box::pin(self.replays.in_time(key, &identity, why)).await));
                }
                Err(error) => others.push(Some(Err(error))),
            }
        }
        let ends = self.transactor.transact(&mut ready).await;
        let mut ended = ready.into_iter().zip(ends);
        let mut started = Vec::with_capacity(others.len());
        for other in others {
            started.push(match other {
                Some(result) => result,
                None => match ended.next() {
                    Some((attempt, ended)) => self.finish_start(attempt, ended).await,
                    None => Err(Error::draining()),
                },
            });
        }
        started
    }

    /// Checks a start without doing it: done, with an empty response (AIP-151).
    async fn validate_start(&self, caller: &Caller, wanted: Box<Start>) -> Result<Started> {
        let mut published = wanted.spec.validated();
        let attempt = self.prepare(caller, *wanted, FirstLease::None, GateTerms::default())?;
        let (key, identity, late) = match attempt {
            Prepared::Ready(attempt) => (attempt.key, attempt.identity, None),
            Prepared::Late(key, identity, why) => (key, *identity, Some(why)),
        };
        let name = match (self.replays.find(key, &identity).await?, late) {
            (Some(found), _) => found.view.operation.name.clone(),
            (None, Some(why)) => return Err(why.into()),
            (None, None) => identity.name,
        };
        name.as_str().clone_into(&mut published.name);
        Ok(Started { published, operation: None, replayed: false })
    }

    async fn start_with(
        self: &Arc<Self>,
        caller: &Caller,
        wanted: Box<Start>,
        first: FirstLease,
    ) -> Result<Begun> {
        if wanted.spec.options.concurrency.is_some() {
            return Box::pin(self.start_gated(caller, wanted, first)).await;
        }
        let prepared = self.prepare(caller, *wanted, first, GateTerms::default())?;
        self.begin(prepared).await
    }

    /// Starts an operation with a concurrency key.
    async fn start_gated(
        self: &Arc<Self>,
        caller: &Caller,
        mut wanted: Box<Start>,
        first: FirstLease,
    ) -> Result<Begun> {
        if self.context.is_draining() {
            return Err(Error::draining());
        }
        let name = name_for(&self.context, caller, &wanted)?;
        wanted.id = Some(Id::parse(name.id())?);
        let Some(mut gated) = Gated::of(&self.context, name, &wanted) else {
            let prepared = self.prepare(caller, *wanted, first, GateTerms::default())?;
            return self.begin(prepared).await;
        };
        let must_run = matches!(first, FirstLease::Starter(_));
        let Some(standing) = self.gated.ask(&mut gated, &wanted, must_run).await? else {
            return self.replay_or_refuse(caller, wanted, &gated).await;
        };
        let waits = standing.admission == Some(Admittance::Waiting);
        let first = if waits { FirstLease::None } else { first };
        let begun = match self.prepare(caller, *wanted, first, standing) {
            Ok(prepared) => self.begin(prepared).await,
            Err(error) => Err(error),
        };
        if begun.as_ref().map_or(true, |begun| begun.replayed) {
            self.gated.settle(gated).await;
        }
        begun
    }

    /// Starts what is prepared. Futures of what is rare are in boxes, since this one is moved several times per start.
    async fn begin(self: &Arc<Self>, prepared: Prepared) -> Result<Begun> {
        let attempt = match prepared {
            Prepared::Ready(attempt) => attempt,
            Prepared::Late(key, identity, why) => {
                return Box::pin(self.replays.in_time(key, &identity, why)).await;
            }
        };
        if attempt.offer.is_none() {
            return self.commit_start(*attempt).await;
        }
        let starts = Arc::clone(self);
        let starting = async move { starts.commit_start(*attempt).await };
        self.see_through(starting).await.unwrap_or_else(|| Err(Error::draining()))
    }

    async fn commit_start(&self, mut attempt: Attempt) -> Result<Begun> {
        let ended = self.transactor.transact_one(&mut attempt).await;
        self.finish_start(attempt, ended).await
    }

    /// Runs `starting` to its end even if the caller disconnects: a worker may already hold the new operation.
    async fn see_through<T: Send + 'static>(
        &self,
        starting: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.context.tasks.finish("start", async move {
            // Fails if the caller has disconnected.
            let _ = sender.send(starting.await);
        });
        receiver.await.ok()
    }

    fn prepare(
        &self,
        caller: &Caller,
        mut wanted: Start,
        first: FirstLease,
        standing: GateTerms,
    ) -> Result<Prepared> {
        if self.context.is_draining() {
            return Err(Error::draining());
        }
        let name = name_for(&self.context, caller, &wanted)?;
        let key = self.context.key(&name);
        let partition = self.context.partition(key);
        let uid = Uuid::new_v4();
        wanted.spec.aging_interval = self.eager.aging_interval(&wanted.spec.queue);
        let offer = match first {
            FirstLease::Eager => self.eager.reserve(key, name.parent(), &wanted.spec),
            FirstLease::Starter(_) | FirstLease::None => None,
        };
        let lease = match first {
            FirstLease::Starter(take) => Some(Take { token: self.starters_token(uid), ..take }),
            FirstLease::Eager | FirstLease::None => {
                offer.as_ref().map(|offer| self.eager.take_for(&offer.waiter))
            }
        };
        let identity = Identity {
            name: name.clone(),
            uid,
            request_id: wanted.spec.request_id.clone(),
            fingerprint: wanted.spec.fingerprint,
            caller: caller.id().to_owned(),
        };
        if !identity.request_id.is_empty() {
            wanted.spec.caller.clone_from(&identity.caller);
        }
        let GateTerms { admission, not_after } = standing;
        let birth = Birth { name, uid, lease, admission, not_after };
        let change = match start(wanted, birth, self.context.store.now(partition)) {
            Ok(change) => Some(Box::new(change.into())),
            Err(why) => {
                self.eager.forget(key, offer.as_ref());
                return match why {
                    Rejection::DeadlinePassed { .. } => {
                        Ok(Prepared::Late(key, Box::new(identity), why))
                    }
                    why => Err(why.into()),
                };
            }
        };
        Ok(Prepared::Ready(Box::new(Attempt { key, identity, change, offer, late: None })))
    }

    /// The token of the lease that an operation was started with. It tells a replay of the start whether the lease is its own.
    pub(in crate::engine) fn starters_token(&self, uid: Uuid) -> Token {
        Token(self.context.store.keyspace().hash("starter's lease", uid.as_bytes()))
    }

    async fn finish_start(&self, mut attempt: Attempt, ended: Ended<Record>) -> Result<Begun> {
        match ended {
            Ended::Written { record, .. } => self.new_operation(attempt, record),
            // Usually because the name is taken.
            Ended::Kept { before: Some(before), .. } => {
                self.eager.settle(&mut attempt, &before.record);
                let found = before.record;
                Box::pin(self.replays.recognise(attempt.key, &attempt.identity, found)).await
            }
            failed => {
                self.eager.give_up(&mut attempt);
                if let Some(late) = attempt.late {
                    return Err(late.into());
                }
                failed.into_result()?;
                Err(Error::busy(&attempt.identity.name))
            }
        }
    }

    fn new_operation(&self, attempt: Attempt, record: Option<Record>) -> Result<Begun> {
        let Attempt { key, offer, .. } = attempt;
        match (offer, &record) {
            (Some(mut offer), Some(record)) => {
                self.eager.hand_over(key, &mut offer, record.clone());
            }
            (None, Some(record)) if is_leased(record) => self.context.metrics.given.to_starter(),
            _ => {}
        }
        let view = match record {
            Some(Record::Operation(operation)) => View::inline(*operation),
            _ => None,
        };
        let view = view.ok_or_else(|| Error::internal(&"a new operation without its payloads"))?;
        Ok(Begun { view, replayed: false })
    }
}

fn is_leased(record: &Record) -> bool {
    record.operation().is_some_and(|operation| operation.state.lease().is_some())
}
