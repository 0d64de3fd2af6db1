//! The verbs of callers: get, wait, cancel, delete, pause, resume, and the whole record.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::caller::{Caller, Permission};
use crate::engine::error::{Error, Result};
use crate::engine::operations::view::{View, payload};
use crate::engine::{Done, Engine, Reason, random};
use crate::limits::MAX_WAIT;
use crate::operation::command::{Cancel, Command, Delete, Pause, Resume};
use crate::operation::lease::Answer;
use crate::operation::name::Name;
use crate::operation::{Operation, Record, Rejection, State};
use crate::proto::google::longrunning::Operation as Published;
use crate::proto::google::protobuf::Any;
use crate::record::operation::{Slot, glance};
use crate::store::StoreError;

impl Engine {
    /// The operation now.
    pub async fn get(&self, caller: &Caller, name: &Name) -> Result<Arc<View>> {
        self.inner.policy.authorise(caller, Permission::Read, name.parent())?;
        self.view(name).await
    }

    /// What callers poll for: the message alone, which in most records needs no more than a glance.
    pub async fn poll(&self, caller: &Caller, name: &Name) -> Result<Published> {
        self.inner.policy.authorise(caller, Permission::Read, name.parent())?;
        let found = match self.inner.store.get(&[self.key(name)]).await {
            // The longer way notes what is wrong with it.
            Err(StoreError::Damaged(_)) => None,
            found => found?.pop().flatten(),
        };
        match found.as_ref().and_then(glance).filter(|published| published.name == name.as_str()) {
            Some(published) => Ok(published),
            None => Ok(self.view(name).await?.published.clone()),
        }
    }

    /// The operation now and, if wanted, the request that it was started with.
    pub async fn get_record(
        &self,
        caller: &Caller,
        name: &Name,
        with_request: bool,
    ) -> Result<(Arc<View>, Option<Any>)> {
        let key = self.key(name);
        for _ in 0..READS {
            let view = self.get(caller, name).await?;
            if !with_request {
                return Ok((view, None));
            }
            let request = view.operation.spec.request.as_ref();
            if let Some(request) = payload(&*self.inner.store, key, Slot::Request, request).await? {
                return Ok((view, request));
            }
        }
        Err(Error::internal(&format!("the request of {name} is missing")))
    }

    /// The operation now, without its large payloads.
    pub async fn head(&self, caller: &Caller, name: &Name) -> Result<Box<Operation>> {
        self.inner.policy.authorise(caller, Permission::Read, name.parent())?;
        Ok(self.read_head(name).await?.0)
    }

    /// What callers see of an operation that [`Self::head`] has just read; its large payloads are read now.
    pub async fn show(&self, operation: Operation) -> Result<Arc<View>> {
        let name = operation.name.clone();
        match View::inline(operation) {
            Some(view) => Ok(view),
            None => self.view(&name).await,
        }
    }

    /// The operation once it is done, or as it is when the time is up: `timeout`, five minutes, or the server's end.
    pub async fn wait(&self, caller: &Caller, name: &Name, timeout: Duration) -> Result<Arc<View>> {
        self.wait_until(caller, name, timeout, |view| view.published.done).await
    }

    /// The same, once `is_there` holds.
    pub async fn wait_until(
        &self,
        caller: &Caller,
        name: &Name,
        timeout: Duration,
        is_there: impl Fn(&View) -> bool + Send + Sync,
    ) -> Result<Arc<View>> {
        self.inner.policy.authorise(caller, Permission::Read, name.parent())?;
        let mut interest = self.follow(self.key(name)).await?;
        let done = async {
            let known = interest.newest.wait_for(|known| {
                known
                    .as_ref()
                    .is_some_and(|known| known.state.as_ref().map_or(true, |view| is_there(view)))
            });
            known.await.ok().and_then(|known| known.clone())
        };
        let ended = tokio::select! {
            biased;
            ended = done => ended,
            () = self.idle_for(timeout.min(MAX_WAIT)) => None,
            () = self.drained() => None,
            error = self.store_lost(self.partition(self.key(name))) => return Err(error),
        };
        let newest = ended.or_else(|| interest.newest.borrow().clone());
        match newest {
            Some(sighting) => sighting.state.map_err(|error| named(name, error)),
            None => self.view(name).await,
        }
    }

    /// Asks for it to stop; that it does shows later.
    pub async fn cancel(&self, caller: &Caller, name: &Name) -> Result<Done> {
        self.cancel_if(caller, name, String::new()).await
    }

    /// The same, only if that is its etag; empty is any.
    pub async fn cancel_if(&self, caller: &Caller, name: &Name, etag: String) -> Result<Done> {
        self.inner.policy.authorise(caller, Permission::Write, name.parent())?;
        self.apply(name, Command::Cancel(Cancel { etag })).await
    }

    /// Is no longer interested in it.
    pub async fn delete(&self, caller: &Caller, name: &Name) -> Result<Done> {
        self.delete_if(caller, name, String::new()).await
    }

    /// The same, only if that is its etag; empty is any.
    pub async fn delete_if(&self, caller: &Caller, name: &Name, etag: String) -> Result<Done> {
        self.inner.policy.authorise(caller, Permission::Write, name.parent())?;
        match self.apply(name, Command::Delete(Delete { etag, nonce: random() })).await {
            Err(error) if error.reason == Reason::Internal => {
                if !self.delete_unreadable(name).await? {
                    return Err(error);
                }
                let now = self.inner.store.now(self.partition(self.key(name)));
                Ok(Done { record: None, answer: Answer::default(), changed: true, time: now })
            }
            done => done,
        }
    }

    /// Parks it.
    pub async fn pause(
        &self,
        caller: &Caller,
        name: &Name,
        etag: String,
        reason: String,
    ) -> Result<Arc<View>> {
        self.inner.policy.authorise(caller, Permission::Write, name.parent())?;
        let pause = Pause { etag, reason, nonce: random() };
        self.apply(name, Command::Pause(pause)).await?;
        self.view(name).await
    }

    /// Ends its suspension.
    pub async fn resume(
        &self,
        caller: &Caller,
        name: &Name,
        etag: String,
        input: Option<Any>,
    ) -> Result<Arc<View>> {
        self.inner.policy.authorise(caller, Permission::Write, name.parent())?;
        let resume = Resume { etag, input, nonce: random() };
        self.apply(name, Command::Resume(Box::new(resume))).await?;
        self.view(name).await
    }

    /// Reads the operation with its payloads.
    pub(in crate::engine) async fn view(&self, name: &Name) -> Result<Arc<View>> {
        let key = self.key(name);
        let mut missed = None;
        for _ in 0..READS {
            let (operation, revision) = self.read_head(name).await?;
            if let Some(view) = View::load(&*self.inner.store, key, *operation).await? {
                return Ok(view);
            }
            // Read twice, nothing written in between: the payload is not about to be replaced, it is lost.
            if missed.replace(revision) == Some(revision) {
                return Err(Error::internal(&format!("a payload of {name} is missing")));
            }
        }
        Err(Error::busy(name))
    }

    /// Reads the operation without its large payloads, and the revision of its record.
    async fn read_head(&self, name: &Name) -> Result<(Box<Operation>, u64)> {
        let key = self.key(name);
        let partition = self.inner.store.keyspace().partition(key);
        let before = self.read::<Record>(key).await?.ok_or_else(|| Error::not_found(name))?;
        if let Some(gone) = before.record.gone(self.inner.store.now(partition)) {
            return Err(gone.into());
        }
        let revision = before.stamps.revision;
        match before.record {
            Record::Operation(operation) => Ok((operation, revision)),
            Record::Tombstone(_) => Err(Rejection::Expired(name.clone()).into()),
        }
    }

    /// The store's time where that operation lies.
    pub fn store_now(&self, name: &Name) -> Timestamp {
        self.inner.store.now(self.partition(self.key(name)))
    }

    /// How long operations of that method took lately, as far as this server has seen any end.
    pub fn took_lately(&self, method: &str) -> Option<Duration> {
        self.inner.lately.mean(method)
    }

    /// Remembers how long an operation took that has just succeeded.
    pub(in crate::engine) fn note_duration(&self, before: Option<&Record>, ended: &Operation) {
        let was_done = before.and_then(Record::operation).is_some_and(|it| it.state.is_done());
        if let (false, State::Succeeded(_)) = (was_done, &ended.state)
            && let Some(end) = ended.end_time
        {
            self.inner.lately.note(&ended.spec.method, end.since(ended.create_time));
        }
    }

    /// Sleeps on the engine's clock.
    pub(in crate::engine) async fn idle_for(&self, duration: Duration) {
        self.inner.clock.sleep(duration).await;
    }
}

/// What is known by key alone gets its name.
pub(in crate::engine) fn named(name: &Name, error: Box<Error>) -> Box<Error> {
    match error.reason {
        crate::engine::Reason::OperationNotFound => Error::not_found(name),
        _ => error,
    }
}

/// A record may change between the read of its head and of its bodies, but hardly this often in a row.
const READS: usize = 10;
