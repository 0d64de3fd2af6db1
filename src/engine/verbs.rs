//! The verbs of those who keep what operations need: owners of jobs, of message types and of webhook
//! endpoints, operators of queues, and administrators of identities.

use std::time::Duration;

use super::{
    Acceptance, BulkRerun, Caller, Credential, DeliveryPage, DeliveryQuery, EndpointPage,
    EndpointQuery, EndpointRotation, EndpointTarget, Engine, Executions, Issuer, Jobs, NewEndpoint,
    NewLink, NewToken, NewTypeSet, QueueListQuery, QueuePage, QueueUpdate, Rerun, Result,
    ShownQueue, ShownToken, ShownTypeSet, ShownWorker, Started, TokenPage, Trial, TypeSetDeletion,
    TypeSetPage, TypeSetQuery, Verb, WorkerListQuery, WorkerPage,
};
use crate::operation::Operation;
use crate::operation::name::{EndpointName, Id, Name, Queue, TypeSetName};
use crate::post::Carrier;
use crate::record::delivery::Delivery;
use crate::record::tokens::ApiToken;
use crate::webhook::endpoint::{Endpoint, EndpointSettings};
use crate::webhook::name::DeliveryName;

/// The verbs of jobs.
impl Engine {
    /// Those about jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.rooms.jobs.calls
    }

    /// Those about their executions.
    pub fn executions(&self) -> &Executions {
        &self.rooms.jobs.executions
    }
}

/// The verbs of those who define message types.
impl Engine {
    /// Creates a type set, or finds the one that the same request created before.
    pub async fn create_type_set(&self, caller: &Caller, new: NewTypeSet) -> Result<ShownTypeSet> {
        self.rooms.tenants.write(new.parent.as_str())?;
        self.rooms.type_sets.create(caller, new).await
    }

    /// A type set, with its descriptors if it is to be full.
    pub async fn get_type_set(
        &self,
        _: &Caller,
        name: &TypeSetName,
        full: bool,
    ) -> Result<ShownTypeSet> {
        self.rooms.tenants.read(name.parent.as_str()).await;
        self.rooms.type_sets.get(name, full).await
    }

    /// A page of type sets, by parent and id.
    pub async fn list_type_sets(
        &self,
        caller: &Caller,
        query: TypeSetQuery,
    ) -> Result<TypeSetPage> {
        self.rooms.tenants.read(query.parent.as_str()).await;
        self.rooms.type_sets.list(caller, query).await
    }

    /// Deletes a type set.
    pub async fn delete_type_set(&self, _: &Caller, wanted: TypeSetDeletion) -> Result<()> {
        self.rooms.tenants.write(wanted.name.parent.as_str())?;
        self.rooms.type_sets.delete(&wanted).await
    }
}

/// The verbs of the owners of webhook endpoints.
impl Engine {
    /// Creates a webhook endpoint, or finds the one that the same request created before.
    pub async fn create_endpoint(&self, caller: &Caller, new: NewEndpoint) -> Result<Endpoint> {
        self.rooms.tenants.write(new.parent.as_str())?;
        self.rooms.endpoints.create(caller, new).await
    }

    /// A webhook endpoint.
    pub async fn get_endpoint(&self, _: &Caller, name: &EndpointName) -> Result<Endpoint> {
        self.rooms.tenants.read(name.parent.as_str()).await;
        self.rooms.endpoints.get(name).await
    }

    /// A page of webhook endpoints, by parent and id.
    pub async fn list_endpoints(
        &self,
        caller: &Caller,
        query: EndpointQuery,
    ) -> Result<EndpointPage> {
        self.rooms.tenants.read(query.parent.as_str()).await;
        self.rooms.endpoints.list(caller, query).await
    }

    /// Changes the settings of a webhook endpoint.
    pub async fn update_endpoint(
        &self,
        _: &Caller,
        target: &EndpointTarget,
        change: &(dyn Fn(&EndpointSettings) -> Result<EndpointSettings> + Sync),
    ) -> Result<Endpoint> {
        self.rooms.tenants.write(target.name.parent.as_str())?;
        self.rooms.endpoints.update(target, change).await
    }

    /// Deletes a webhook endpoint. With `allow_missing` it is no error if there is none.
    pub async fn delete_endpoint(
        &self,
        _: &Caller,
        target: &EndpointTarget,
        allow_missing: bool,
    ) -> Result<()> {
        self.rooms.tenants.write(target.name.parent.as_str())?;
        self.rooms.endpoints.delete(target, allow_missing).await
    }

    /// Gives a webhook endpoint a new secret.
    pub async fn rotate_endpoint(
        &self,
        _: &Caller,
        rotation: &EndpointRotation,
    ) -> Result<Endpoint> {
        self.rooms.tenants.write(rotation.target.name.parent.as_str())?;
        self.rooms.endpoints.rotate(rotation).await
    }

    /// What carries deliveries, and knows where they may go.
    pub fn carrier(&self) -> Option<&dyn Carrier> {
        self.rooms.context.settings.carrier.as_deref()
    }

    /// Sends a test event to a webhook endpoint, and returns what happened.
    pub async fn test_endpoint(&self, _: &Caller, name: &EndpointName) -> Result<Trial> {
        self.rooms.tenants.write(name.parent.as_str())?;
        self.rooms.courier.test(name).await
    }

    /// A delivery to a webhook endpoint or a callback.
    pub async fn get_delivery(&self, _: &Caller, name: &DeliveryName) -> Result<Delivery> {
        self.rooms.tenants.read(name.owner.parent()).await;
        self.rooms.courier.get(name).await
    }

    /// A page of deliveries, the newest first.
    pub async fn list_deliveries(
        &self,
        caller: &Caller,
        query: &DeliveryQuery,
    ) -> Result<DeliveryPage> {
        self.rooms.tenants.read(query.owner.parent()).await;
        self.rooms.endpoints.list_deliveries(caller, query).await
    }

    /// Sends a delivery again that has ended.
    pub async fn replay_delivery(&self, _: &Caller, name: &DeliveryName) -> Result<Delivery> {
        self.rooms.tenants.write(name.owner.parent())?;
        self.rooms.courier.replay(name).await
    }

    /// Calls a webhook endpoint again that was suspended or disabled.
    pub async fn resume_endpoint(&self, _: &Caller, target: &EndpointTarget) -> Result<Endpoint> {
        self.rooms.tenants.write(target.name.parent.as_str())?;
        self.rooms.endpoints.resume(target).await
    }
}

/// The verbs of operators.
impl Engine {
    /// A queue now.
    pub async fn get_queue(&self, _: &Caller, queue: &Queue) -> Result<ShownQueue> {
        self.rooms.queues.get(queue).await
    }

    /// A page of the queues that have operations to do or settings of their own, by name.
    pub async fn list_queues(&self, caller: &Caller, query: QueueListQuery) -> Result<QueuePage> {
        self.rooms.queues.list(caller, query).await
    }

    /// Changes the settings of a queue.
    pub async fn update_queue(&self, _: &Caller, update: QueueUpdate) -> Result<ShownQueue> {
        self.rooms.queues.update(update).await
    }

    /// A page of the workers of a queue or of all, over all servers.
    pub async fn list_workers(
        &self,
        caller: &Caller,
        query: WorkerListQuery,
    ) -> Result<WorkerPage> {
        self.rooms.queues.list_workers(caller, query).await
    }

    /// Asks the workers of that name to take no more operations of the queue; returns them.
    pub async fn drain_worker(
        &self,
        _: &Caller,
        queue: Queue,
        name: &str,
    ) -> Result<Vec<ShownWorker>> {
        self.rooms.queues.drain_worker(queue, name).await
    }

    /// Ends the drain of the workers of that name; returns them.
    pub async fn resume_worker(
        &self,
        _: &Caller,
        queue: Queue,
        name: &str,
    ) -> Result<Vec<ShownWorker>> {
        self.rooms.queues.resume_worker(queue, name).await
    }
}

/// Reruns.
impl Engine {
    /// Starts a finished operation again, as a new one.
    pub async fn rerun(&self, caller: &Caller, wanted: Rerun) -> Result<Started> {
        self.rooms.tenants.write(wanted.name.parent())?;
        let start = self.rooms.reruns.prepare(wanted).await?;
        self.rooms.tenants.start_below(start.parent.as_str(), &start.spec)?;
        self.rooms.reruns.start(caller, start).await
    }

    /// Starts all finished operations that match a filter again, as an operation itself.
    pub async fn rerun_all(&self, caller: &Caller, wanted: BulkRerun) -> Result<Started> {
        self.rooms.tenants.write(&wanted.request.parent)?;
        self.rooms.bulk_reruns.start(caller, wanted).await
    }

    /// Works on a bulk rerun that waits, if there is one. An engine with agents does so by itself.
    pub async fn work_on_rerun(&self) -> Result<bool> {
        self.rooms.bulk_reruns.run_once().await
    }
}

/// Tenants.
impl Engine {
    /// Counts what tenants store, if that is limited. An engine with agents does so by itself.
    pub async fn count_tenants(&self) -> Result<()> {
        self.rooms.tenants.count().await
    }
}

/// Identities.
impl Engine {
    /// Whether callers are asked for credentials.
    pub fn asks_for_credentials(&self) -> bool {
        self.rooms.authority.asks()
    }

    /// That these credentials are accepted, if that was found a moment ago.
    pub fn known_acceptance(&self, credential: &Credential<'_>) -> Option<Acceptance> {
        self.rooms.authority.known(credential)
    }

    /// The caller whose credentials were accepted. `None` if that has to be found out again.
    pub fn caller_of(&self, acceptance: &Acceptance) -> Option<Caller> {
        self.rooms.authority.caller_of(acceptance)
    }

    /// The caller with these credentials: [`Caller::REFUSED`] if they are not accepted.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn authenticate(&self, credential: &Credential<'_>) -> Result<Caller> {
        self.rooms.authority.authenticate(credential).await
    }

    /// The issuers whose JWTs are accepted.
    pub fn issuers(&self) -> &[Issuer] {
        &self.rooms.context.settings.identity.issuers
    }

    /// Creates a token. Its text is in the answer, and can be had nowhere else.
    pub async fn create_token(&self, caller: &Caller, new: NewToken) -> Result<ShownToken> {
        self.rooms.tokens.create(caller, new).await
    }

    /// A token.
    pub async fn get_token(&self, _: &Caller, id: &Id) -> Result<ApiToken> {
        self.rooms.tokens.get(id).await
    }

    /// A page of tokens, by id.
    pub async fn list_tokens(
        &self,
        caller: &Caller,
        page_size: usize,
        page_token: &str,
    ) -> Result<TokenPage> {
        self.rooms.tokens.list(caller, page_size, page_token).await
    }

    /// Gives a token a new secret. The former ones end after `grace`.
    pub async fn rotate_token(&self, _: &Caller, id: &Id, grace: Duration) -> Result<ShownToken> {
        self.rooms.tokens.rotate(id, grace).await
    }

    /// Revokes a token.
    pub async fn delete_token(&self, _: &Caller, id: &Id) -> Result<()> {
        self.rooms.tokens.delete(id).await
    }

    /// Makes a link: a token for these verbs on one operation.
    pub async fn create_link(
        &self,
        caller: &Caller,
        name: &Name,
        verbs: Vec<Verb>,
        lifetime: Duration,
    ) -> Result<NewLink> {
        let operation = self.head(caller, name).await?;
        self.rooms.authority.link(&operation, verbs, lifetime)
    }

    /// Makes a link to an operation that was started just now.
    pub fn link_to(
        &self,
        operation: &Operation,
        verbs: Vec<Verb>,
        lifetime: Duration,
    ) -> Result<NewLink> {
        self.rooms.authority.link(operation, verbs, lifetime)
    }
}
