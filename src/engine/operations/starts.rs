//! Starting operations. A request that is sent again finds the operation that it started before.

use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::attempt::{Attempt, FirstLease, Prepared};
use super::identity::Identity;
use crate::engine::access::Caller;
use crate::engine::context::Context;
use crate::engine::dispatch::dispatcher::Dispatch;
use crate::engine::dispatch::grants::Grants;
use crate::engine::error::{Error, Result};
use crate::engine::leases::grant::Grant;
use crate::engine::leases::waiter::{Offer, Waiter};
use crate::engine::notify::notifier::OperationTransactor;
use crate::engine::reading::reader::Reader;
use crate::engine::reading::view::View;
use crate::engine::transact::Ended;
use crate::operation::command::Take;
use crate::operation::lease::Token;
use crate::operation::name::{Id, Name};
use crate::operation::{Birth, Operation, Record, Rejection, Spec, Start, start};
use crate::proto::google::longrunning::Operation as Published;
use crate::store::Key;

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

/// The operation of a start.
pub(in crate::engine) struct Begun {
    pub(in crate::engine) view: Arc<View>,
    /// Whether the same request had started it before.
    pub(in crate::engine) replayed: bool,
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
    reader: Arc<Reader>,
    transactor: Arc<OperationTransactor>,
    dispatch: Arc<Dispatch>,
    grants: Arc<Grants>,
}

impl Starts {
    pub(in crate::engine) const fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        transactor: Arc<OperationTransactor>,
        dispatch: Arc<Dispatch>,
        grants: Arc<Grants>,
    ) -> Self {
        Self { context, reader, transactor, dispatch, grants }
    }

    /// Starts an operation, or finds the one that the same request started before. With `validate_only` it starts none.
    pub(in crate::engine) async fn start_operation(
        self: &Arc<Self>,
        caller: &Caller,
        wanted: Start,
    ) -> Result<Started> {
        if wanted.validate_only {
            return self.validate_start(caller, wanted).await;
        }
        Ok(self.start_with(caller, wanted, FirstLease::Eager).await?.into())
    }

    /// Starts an operation that the caller works on itself.
    pub(in crate::engine) async fn start_for_caller(
        self: &Arc<Self>,
        caller: &Caller,
        wanted: Start,
        waiter: &Waiter,
    ) -> Result<Begun> {
        let take = self.grants.take_for(waiter);
        self.start_with(caller, wanted, FirstLease::Starter(take)).await
    }

    /// Starts many, each on its own; results in their order.
    pub(in crate::engine) async fn start_batch(
        self: &Arc<Self>,
        caller: &Caller,
        wanted: Vec<Result<Start>>,
    ) -> Vec<Result<Started>> {
        let attempts: Vec<Result<Prepared>> = wanted
            .into_iter()
            .map(|wanted| self.prepare(caller, wanted?, FirstLease::Eager))
            .collect();
        let count = attempts.len();
        let starts = Arc::clone(self);
        let starting = async move { starts.commit_starts(attempts).await };
        let gone = || (0..count).map(|_| Err(Error::draining())).collect();
        let begun = self.see_through(starting).await.unwrap_or_else(gone);
        begun.into_iter().map(|begun| begun.map(Into::into)).collect()
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
                    others.push(Some(self.started_in_time(key, &identity, why).await));
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
    async fn validate_start(&self, caller: &Caller, wanted: Start) -> Result<Started> {
        let mut published = wanted.spec.validated();
        let (key, identity, late) = match self.prepare(caller, wanted, FirstLease::None)? {
            Prepared::Ready(attempt) => (attempt.key, attempt.identity, None),
            Prepared::Late(key, identity, why) => (key, *identity, Some(why)),
        };
        let name = match (self.reader.read::<Record>(key).await?, late) {
            (Some(before), _) => {
                let found = self.recognise(key, &identity, before.record).await?;
                found.view.operation.name.clone()
            }
            (None, Some(why)) => return Err(why.into()),
            (None, None) => identity.name,
        };
        name.as_str().clone_into(&mut published.name);
        Ok(Started { published, operation: None, replayed: false })
    }

    async fn start_with(
        self: &Arc<Self>,
        caller: &Caller,
        wanted: Start,
        first: FirstLease,
    ) -> Result<Begun> {
        let attempt = match self.prepare(caller, wanted, first)? {
            Prepared::Ready(attempt) => attempt,
            Prepared::Late(key, identity, why) => {
                return self.started_in_time(key, &identity, why).await;
            }
        };
        if attempt.offer.is_none() {
            return self.commit_start(*attempt).await;
        }
        let starts = Arc::clone(self);
        let starting = async move { starts.commit_start(*attempt).await };
        self.see_through(starting).await.unwrap_or_else(|| Err(Error::draining()))
    }

    /// The operation that the same request started before its deadline passed; else `why`.
    async fn started_in_time(
        &self,
        key: Key,
        identity: &Identity,
        why: Rejection,
    ) -> Result<Begun> {
        match self.reader.read::<Record>(key).await? {
            Some(before) => self.recognise(key, identity, before.record).await,
            None => Err(why.into()),
        }
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

    /// Reserves a worker that waits on this server, if nothing else is ready in the queue. The start then commits with that
    /// worker's lease.
    fn eager(&self, key: Key, spec: &Spec) -> Option<Offer> {
        if spec.options.schedule_time.is_some() {
            return None;
        }
        // A worker holds the operation already, so this start is a replay.
        if self.grants.is_held(key) {
            return None;
        }
        let offer = self.dispatch.eager(spec.queue.as_str(), 1).pop()?;
        self.grants.expect(key, &offer.waiter);
        Some(offer)
    }

    fn prepare(&self, caller: &Caller, wanted: Start, first: FirstLease) -> Result<Prepared> {
        if self.context.is_draining() {
            return Err(Error::draining());
        }
        let name = self.name_for(caller, &wanted)?;
        let key = self.context.key(&name);
        let partition = self.context.partition(key);
        let uid = Uuid::new_v4();
        let offer = match first {
            FirstLease::Eager => self.eager(key, &wanted.spec),
            FirstLease::Starter(_) | FirstLease::None => None,
        };
        let lease = match first {
            FirstLease::Starter(take) => Some(Take { token: self.starters_token(uid), ..take }),
            FirstLease::Eager | FirstLease::None => {
                offer.as_ref().map(|offer| self.grants.take_for(&offer.waiter))
            }
        };
        let identity = Identity {
            name: name.clone(),
            uid,
            request_id: wanted.spec.request_id.clone(),
            fingerprint: wanted.spec.fingerprint,
        };
        let birth = Birth { name, uid, lease };
        let change = match start(wanted, birth, self.context.store.now(partition)) {
            Ok(change) => Some(Box::new(change.into())),
            Err(why) => {
                self.forget_offer(key, offer.as_ref());
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

    /// Releases the reserved worker.
    fn forget_offer(&self, key: Key, offer: Option<&Offer>) {
        if let Some(offer) = offer {
            self.grants.forget(key, &offer.waiter);
        }
    }

    /// The token of the lease that an operation was started with. It tells a replay of the start whether the lease is its own.
    pub(in crate::engine) fn starters_token(&self, uid: Uuid) -> Token {
        Token(self.context.store.keyspace().hash("starter's lease", uid.as_bytes()))
    }

    /// The name with the given id, with an id derived from the request id, or with a new id that sorts by time.
    fn name_for(&self, caller: &Caller, wanted: &Start) -> Result<Name> {
        let keyspace = self.context.store.keyspace();
        let request_id = wanted.spec.request_id.as_str();
        let id = match &wanted.id {
            Some(id) => id.clone(),
            None if request_id.is_empty() => {
                let micros = self.context.clock.now().as_micros();
                let time = uuid::Timestamp::from_unix(
                    uuid::NoContext,
                    micros / 1_000_000,
                    (micros % 1_000_000 * 1_000) as u32,
                );
                Id::from_uuid(Uuid::new_v7(time))
            }
            None => {
                let seed = [&caller.id, wanted.parent.as_str(), request_id].join("\0");
                Id::from_uuid(
                    uuid::Builder::from_custom_bytes(keyspace.hash("request id", seed.as_bytes()))
                        .into_uuid(),
                )
            }
        };
        Ok(Name::new(&wanted.parent, &id)?)
    }

    async fn finish_start(&self, mut attempt: Attempt, ended: Ended<Record>) -> Result<Begun> {
        match ended {
            Ended::Written { record, .. } => self.new_operation(attempt, record),
            // Usually because the name is taken.
            Ended::Kept { before: Some(before), .. } => {
                self.settle_offer(&mut attempt, &before.record);
                self.recognise(attempt.key, &attempt.identity, before.record).await
            }
            failed => {
                self.give_up(&mut attempt);
                if let Some(late) = attempt.late {
                    return Err(late.into());
                }
                failed.into_result()?;
                Err(Error::busy(&attempt.identity.name))
            }
        }
    }

    /// Gives back the lease of a start that may have been written, so that it need not expire first.
    fn give_up(&self, attempt: &mut Attempt) {
        let Some(offer) = attempt.offer.take() else { return };
        let record = attempt.change.take().and_then(|change| change.main);
        let lost = record.and_then(|record| Grant::new(attempt.key, record));
        self.grants.take_back(&offer.waiter, lost.into_iter().collect());
    }

    /// Hands the stored operation to the reserved worker if this start wrote it.
    fn settle_offer(&self, attempt: &mut Attempt, found: &Record) {
        let Some(mut offer) = attempt.offer.take() else { return };
        let token = |record: &Record| record.operation()?.state.lease().map(|lease| lease.token);
        let change = attempt.change.as_ref();
        let ours = change.and_then(|change| change.main.as_ref()).and_then(token);
        if ours.is_some() && ours == token(found) {
            self.hand_over(attempt.key, &mut offer, found.clone());
        } else {
            self.forget_offer(attempt.key, Some(&offer));
        }
    }

    fn hand_over(&self, key: Key, offer: &mut Offer, record: Record) {
        let grant = Grant::new(key, record).and_then(|grant| self.grants.in_time(grant));
        match &grant {
            Some(_) => self.context.metrics.given.with_start(),
            None => self.forget_offer(key, Some(offer)),
        }
        let unheard = offer.fill(grant.into_iter().collect());
        self.grants.take_back(&offer.waiter, unheard);
    }

    fn new_operation(&self, attempt: Attempt, record: Option<Record>) -> Result<Begun> {
        let Attempt { key, offer, .. } = attempt;
        match (offer, &record) {
            (Some(mut offer), Some(record)) => self.hand_over(key, &mut offer, record.clone()),
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

    /// The operation that has the name already, if this start or an earlier one of the same request made it.
    async fn recognise(&self, key: Key, wanted: &Identity, record: Record) -> Result<Begun> {
        let gone = record.gone(self.context.store.now(self.context.partition(key)));
        let operation = wanted.recognise(record, gone)?;
        let ours = operation.uid == wanted.uid;
        if ours {
            self.context.metrics.started();
        }
        let name = operation.name.clone();
        let view = View::load(&*self.context.store, key, *operation).await?;
        let view = match view {
            Some(view) => view,
            None => self.reader.view(&name).await?,
        };
        Ok(Begun { view, replayed: !ours })
    }
}

fn is_leased(record: &Record) -> bool {
    record.operation().is_some_and(|operation| operation.state.lease().is_some())
}
