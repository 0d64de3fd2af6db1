//! Starting operations, once each.

use std::sync::Arc;

use prost_types::Any;
use uuid::Uuid;

use super::Engine;
use super::caller::{Caller, Permission};
use super::commit::{Patience, Spot};
use super::error::{Error, Reason, Result};
use super::view::View;
use crate::operation::command::Take;
use crate::operation::lease::{Fingerprint, Token};
use crate::operation::name::{Id, Name, Parent, Queue};
use crate::operation::{Change, Operation, Record, Rejection, Start, start};
use crate::proto::longhaul::v1 as pb;
use crate::store::{CommitError, Committed, Key};

/// A producer's wish, checked by whoever read it.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// Below what.
    pub parent: Parent,
    /// Its id; the server gives one where there is none.
    pub id: Option<Id>,
    /// Where workers find it.
    pub queue: Queue,
    /// What to do.
    pub method: String,
    /// What to do it with.
    pub request: Option<Any>,
    /// Full name of the metadata's type, or empty.
    pub metadata_type: String,
    /// Full name of the response's type, or empty.
    pub response_type: String,
    /// Metadata before the first report.
    pub initial_metadata: Option<Any>,
    /// Everything else.
    pub options: pb::OperationOptions,
    /// Whether the published metadata is longhaul's own.
    pub server_metadata: bool,
    /// Only check it.
    pub validate_only: bool,
    /// What replays are known by, or empty.
    pub request_id: String,
    /// Of everything that a replay must repeat.
    pub fingerprint: Fingerprint,
    /// The trace that it is started in.
    pub trace_parent: String,
}

/// An operation that was started now or before.
#[derive(Clone, Debug)]
pub struct Started {
    /// What callers see.
    pub view: Arc<View>,
    /// Whether it was there already.
    pub replayed: bool,
}

/// A start on its way: what would be written, and under which key.
struct Attempt {
    key: Key,
    start: Start,
    change: Change,
    generation: u64,
}

impl Engine {
    /// Starts an operation, or finds the one that the same request started before.
    pub async fn start_operation(&self, caller: &Caller, request: StartRequest) -> Result<Started> {
        self.start_with(caller, request, None).await
    }

    /// Starts many, each on its own; results in their order.
    pub async fn start_batch(
        &self,
        caller: &Caller,
        requests: Vec<Result<StartRequest>>,
    ) -> Vec<Result<Started>> {
        let attempts: Vec<Result<Attempt>> =
            requests.into_iter().map(|request| self.prepare(caller, request?, None)).collect();
        let sets = attempts
            .iter()
            .flatten()
            .map(|attempt| self.plan(attempt.key, None, &attempt.change))
            .collect();
        let mut results = self.inner.store.commit(sets).await.into_iter();
        let mut started = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            started.push(match attempt {
                Err(error) => Err(error),
                Ok(attempt) => {
                    self.finish_start(attempt, results.next().unwrap_or(Err(CommitError::Conflict)))
                        .await
                }
            });
        }
        started
    }

    /// Checks a start without doing it: what it would be called, done, with an empty response (AIP-151).
    pub async fn validate_start(&self, caller: &Caller, request: StartRequest) -> Result<Name> {
        let attempt = self.prepare(caller, request, None)?;
        match self.read(attempt.key).await? {
            None => Ok(attempt.start.name),
            Some(before) => self
                .recognise(&attempt, before.record)
                .await
                .map(|started| started.view.operation.name.clone()),
        }
    }

    pub(super) async fn start_with(
        &self,
        caller: &Caller,
        request: StartRequest,
        take: Option<Take>,
    ) -> Result<Started> {
        let attempt = self.prepare(caller, request, take)?;
        let set = self.plan(attempt.key, None, &attempt.change);
        let result = self.commit_one(set).await;
        self.finish_start(attempt, result).await
    }

    fn prepare(
        &self,
        caller: &Caller,
        request: StartRequest,
        lease: Option<Take>,
    ) -> Result<Attempt> {
        self.inner.policy.authorise(caller, Permission::Write, request.parent.as_str())?;
        if self.is_draining() {
            return Err(Error::draining());
        }
        let name = self.name_for(caller, &request)?;
        let key = self.key(&name);
        let partition = self.inner.store.keyspace().partition(key);
        let uid = Uuid::new_v4();
        let start_command = Start {
            name,
            uid,
            queue: request.queue,
            method: request.method,
            request: request.request,
            metadata_type: request.metadata_type,
            response_type: request.response_type,
            initial_metadata: request.initial_metadata,
            options: request.options,
            server_metadata: request.server_metadata,
            request_id: request.request_id,
            fingerprint: request.fingerprint,
            trace_parent: request.trace_parent,
            lease: lease.map(|take| Take { token: self.starters_token(uid), ..take }),
        };
        let change = start(start_command.clone(), self.inner.store.now(partition))?;
        let generation = self.inner.hub.generation(partition);
        Ok(Attempt { key, start: start_command, change, generation })
    }

    /// The token of the lease that an operation was started with: by it a repeat of the start knows its own lease from those of
    /// other workers.
    pub(super) fn starters_token(&self, uid: Uuid) -> Token {
        Token(self.inner.store.keyspace().hash("starter's lease", uid.as_bytes()))
    }

    /// Its own id, the one that follows from its request id, or a new one in the order of time.
    fn name_for(&self, caller: &Caller, request: &StartRequest) -> Result<Name> {
        let keyspace = self.inner.store.keyspace();
        let id = match &request.id {
            Some(id) => id.clone(),
            None if request.request_id.is_empty() => {
                let micros = self.inner.clock.now().as_micros();
                let time = uuid::Timestamp::from_unix(
                    uuid::NoContext,
                    micros / 1_000_000,
                    (micros % 1_000_000 * 1_000) as u32,
                );
                Id::from_uuid(Uuid::new_v7(time))
            }
            None => {
                let seed = [&caller.id, request.parent.as_str(), &request.request_id].join("\0");
                Id::from_uuid(
                    uuid::Builder::from_custom_bytes(keyspace.hash("request id", seed.as_bytes()))
                        .into_uuid(),
                )
            }
        };
        Ok(Name::new(&request.parent, &id)?)
    }

    async fn finish_start(
        &self,
        attempt: Attempt,
        result: std::result::Result<Committed, CommitError>,
    ) -> Result<Started> {
        let mut patience = Patience::default();
        let mut result = result;
        loop {
            match result {
                Ok(committed) => return self.new_operation(attempt, committed),
                // Mostly because there is one of that name already.
                Err(error) => patience.spend(error)?,
            }
            if let Some(before) = self.read(attempt.key).await? {
                return self.recognise(&attempt, before.record).await;
            }
            result = self.commit_one(self.plan(attempt.key, None, &attempt.change)).await;
        }
    }

    fn new_operation(&self, attempt: Attempt, committed: Committed) -> Result<Started> {
        let record = self.committed(
            Spot { key: attempt.key, generation: attempt.generation },
            None,
            attempt.change,
            committed,
        );
        self.wake_after(None, record.as_ref());
        let view = match record {
            Some(Record::Operation(operation)) => View::inline(*operation),
            _ => None,
        };
        let view = view.ok_or_else(|| Error::internal(&"a new operation without its payloads"))?;
        Ok(Started { view, replayed: false })
    }

    /// What is under the name already: this very start, the same request before, or somebody else's.
    async fn recognise(&self, attempt: &Attempt, record: Record) -> Result<Started> {
        let wanted = &attempt.start;
        let gone =
            record.gone(self.inner.store.now(self.inner.store.keyspace().partition(attempt.key)));
        let operation = match (record, gone) {
            (Record::Operation(operation), None) => operation,
            (record, Some(Rejection::Deleted(_))) => {
                return Err(taken(record.name(), Reason::NameDeleted));
            }
            (record, _) => return Err(taken(record.name(), Reason::NameExpired)),
        };
        let ours = operation.uid == wanted.uid;
        if !ours && (wanted.request_id.is_empty() || operation.spec.request_id != wanted.request_id)
        {
            return Err(taken(&operation.name, Reason::OperationAlreadyExists));
        }
        if !ours && operation.spec.fingerprint != wanted.fingerprint {
            return Err(reused(&operation, &wanted.request_id));
        }
        let name = operation.name.clone();
        let view = View::load(&*self.inner.store, attempt.key, *operation).await?;
        let view = match view {
            Some(view) => view,
            None => self.view(&name).await?,
        };
        Ok(Started { view, replayed: !ours })
    }
}

fn taken(name: &Name, reason: Reason) -> Box<Error> {
    let message = match reason {
        Reason::NameExpired => {
            format!("{name} existed, has expired, and its name is not free again yet")
        }
        Reason::NameDeleted => format!("{name} was deleted, and its name is not free again yet"),
        _ => format!(
            "{name} exists already; choose another operation_id, or send the request_id that it was started with"
        ),
    };
    Error::about(reason, name, message)
}

fn reused(operation: &Operation, request_id: &str) -> Box<Error> {
    let message = format!(
        "request_id {request_id:?} started {} with other content before; use a new request_id",
        operation.name
    );
    Error::about(Reason::RequestIdReused, &operation.name, message).with("field", "request_id")
}
