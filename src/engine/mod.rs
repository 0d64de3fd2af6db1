//! The verbs: read, decide, commit, hint. The only entry for callers, workers and background agents.
//!
//! The engine knows operations and stores, but no protocol. It is made of rooms, each a struct with the parts that
//! it needs; `rooms.rs` connects them. A room uses only rooms below it: see `layers.rs`.

mod access;
mod bindings;
mod bulk_reruns;
mod commands;
mod context;
mod courier;
mod delivery_lists;
mod dispatch;
mod due;
mod endpoint_lists;
mod endpoints;
mod error;
mod firing;
mod gates;
mod identity;
mod jobs;
mod jwks;
mod jwt;
mod lately;
mod leases;
mod membership;
mod metered;
mod metrics;
mod notify;
mod operations;
mod operators;
mod parent_types;
mod queues;
mod random;
mod reading;
mod roles;
mod rooms;
mod roster;
mod sealing;
mod settings;
mod standstill;
pub mod tasks;
mod tenants;
#[cfg(test)]
mod tests;
mod token_lists;
mod transact;
mod type_set_lists;
mod type_sets;
mod verbs;
mod watching;
pub mod workers;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::operation::command::{Command, Renew};
use crate::operation::name::{Name, ParentPattern};
use crate::operation::{Operation, Start};
use crate::proto::google::longrunning::Operation as Published;
use crate::proto::google::protobuf::Any;
pub use crate::record::due::Agent::{self, Courier, Janitor, Reaper, Scheduler};
use crate::store::{Partition, Store};
use crate::types::Registry;

pub use self::access::{
    AUDIT, Caller, Guard, KnownCaller, LeaseScope, Permission, Policy, Resource, Rules, Verb,
};
pub use self::bindings::{IdentityBinding, Member};
pub use self::bulk_reruns::BulkRerun;
pub use self::commands::apply::Done;
pub use self::courier::letters::callback_key;
pub use self::courier::trials::Trial;
pub use self::delivery_lists::{DeliveryPage, DeliveryQuery};
pub use self::dispatch::batch::LeaseBatch;
pub use self::due::agents::Sweep;
pub use self::endpoint_lists::{EndpointPage, EndpointQuery};
pub use self::endpoints::calls::{EndpointRotation, EndpointTarget, NewEndpoint};
pub use self::error::{Error, Reason, Result};
pub use self::identity::authority::{Acceptance, NewLink};
pub use self::identity::credential::Credential;
pub use self::identity::links::LINKABLE;
pub use self::identity::tokens::{NewToken, ShownToken};
pub use self::jobs::calls::{JobControl, JobCreation, JobRequest, Jobs, PastTicks, Reconfigure};
pub use self::jobs::executions::{ExecutionQuery, Executions};
pub use self::jobs::lists::JobQuery;
pub use self::jobs::view::{ExecutionView, JobView};
pub use self::jwks::{Algorithm, IssuerKeys, KeySource};
pub use self::jwt::Issuer;
pub use self::leases::leased::Leased;
pub use self::membership::ranks::Heartbeat;
pub use self::operations::pages::ListPage;
pub use self::operations::query::{ListQuery, Listed};
pub use self::operations::reruns::Rerun;
pub use self::operations::set_event::{SetEvent, SetEventKind, SetWatchRequest};
pub use self::operations::set_watch::SetWatch;
pub use self::operations::starts::Started;
pub use self::operations::stats::Stats;
pub use self::operators::changes::QueueUpdate;
pub use self::operators::measure::Measure;
pub use self::operators::queues::{QueueListQuery, QueuePage, ShownQueue};
pub use self::operators::workers::{ShownWorker, WorkerListQuery, WorkerPage};
pub use self::reading::view::{EncodedForm, View};
pub use self::roles::Roles;
pub use self::settings::{IdentitySettings, Settings, TenantLimits};
pub use self::token_lists::TokenPage;
pub use self::type_set_lists::{TypeSetPage, TypeSetQuery};
pub use self::type_sets::{NewTypeSet, ShownTypeSet, TypeSetDeletion};
pub use self::watching::watch::{
    EventKind, ResumeToken, Watch, WatchEvent, WatchFrom, WatchOptions,
};
pub use self::workers::unary::LeaseRequest;

use self::rooms::Rooms;
use self::workers::stream::{Incoming, Outgoing};

/// The engine of one server. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    rooms: Arc<Rooms>,
}

impl Engine {
    /// An engine on `store`, its background agents running.
    pub fn start(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let engine = Self::with(store, clock, settings);
        engine.run_agents();
        engine
    }

    /// An engine whose agents run only when a test calls them.
    pub fn without_agents(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self::with(store, clock, Settings::default())
    }

    /// An engine with settings, whose agents run only when a test calls them.
    pub fn with(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        Self { rooms: Arc::new(Rooms::new(store, clock, settings)) }
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.rooms.context.store
    }

    /// The clock that waits are counted by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.rooms.context.clock
    }

    /// The policy, for the calls of one caller.
    pub fn guard<'a>(&'a self, caller: &'a Caller) -> Guard<'a> {
        Guard::new(&self.rooms.context.settings.policy, caller)
    }

    /// The headers of a start that the URIs of its callbacks may be made of, in lower case.
    pub fn callback_headers(&self) -> &[String] {
        &self.rooms.context.settings.callback_headers
    }

    /// The message types of this server: those of every parent.
    pub fn types(&self) -> &Registry {
        self.rooms.types.own()
    }

    /// The message types that are known for operations at that place: a name, a parent, or a pattern of parents.
    pub async fn types_at(&self, place: &str) -> Result<Registry> {
        self.rooms.types.at(place).await
    }

    /// Whether the store may have type sets: if not, all places have the types of this server.
    pub fn may_have_type_sets(&self) -> bool {
        self.rooms.types.are_any()
    }

    /// The message types of the root.
    pub fn types_of_root(&self) -> Registry {
        self.rooms.types.of_root()
    }

    /// All counters in the text format of OpenMetrics.
    pub fn metrics(&self) -> String {
        self.rooms.queues.metrics_read();
        self.rooms.context.metrics.text(self.rooms.holders.count())
    }

    /// How many live servers rank before this one in a partition; 0 if it is the first, or knows no other.
    pub fn rank(&self, partition: Partition) -> u32 {
        self.rooms.membership.rank(partition)
    }

    /// Whether this server knows no other.
    pub fn is_alone(&self) -> bool {
        self.rooms.membership.is_alone()
    }

    /// Stops leasing and ends waits and watches, politely; calls that run are finished.
    pub fn drain(&self) {
        self.rooms.context.drain();
    }

    /// Whether [`Self::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.rooms.context.is_draining()
    }

    /// Resolves once [`Self::drain`] is called.
    pub async fn drained(&self) {
        self.rooms.context.drained().await;
    }

    /// Ends the background work, then closes the store.
    pub async fn stop(&self) {
        let Rooms { context, reports, membership, .. } = &*self.rooms;
        context.drain();
        context.tasks.stop().await;
        reports.flush_all().await;
        membership.take_leave().await;
        context.store.close().await;
    }

    /// Runs the beat that standstills are noticed by. An engine with agents does so by itself.
    pub fn run_beat(&self) {
        let context = &self.rooms.context;
        context.tasks.spawn("beat", Arc::clone(&context.standstill).run());
    }

    fn run_agents(&self) {
        let Rooms { context, due, membership, queues, courier, bulk_reruns, .. } = &*self.rooms;
        self.run_beat();
        context.tasks.spawn("measure", Arc::clone(queues).run_measure());
        context.tasks.spawn("tenants", Arc::clone(&self.rooms.tenants).run());
        for agent in [Reaper, Scheduler, Courier, Janitor] {
            context.tasks.spawn(agent.name(), Arc::clone(due).run(agent));
        }
        context.tasks.spawn("bulk reruns", Arc::clone(bulk_reruns).run());
        context.tasks.spawn("deliveries", Arc::clone(courier).run());
        context.tasks.spawn("heartbeat", Arc::clone(membership).run());
    }
}

/// The verbs of producers and callers.
impl Engine {
    /// Starts an operation, or finds the one that the same request started before. With `validate_only` it starts none.
    pub async fn start_operation(&self, caller: &Caller, wanted: Start) -> Result<Started> {
        self.rooms.tenants.start(&wanted)?;
        self.rooms.starts.start_operation(caller, Box::new(wanted)).await
    }

    /// Starts many, each on its own; results in their order.
    pub async fn start_batch(
        &self,
        caller: &Caller,
        wanted: Vec<Result<Start>>,
    ) -> Vec<Result<Started>> {
        let wanted = self.rooms.tenants.start_each(wanted);
        self.rooms.starts.start_batch(caller, wanted).await
    }

    /// The operation now.
    pub async fn get(&self, _: &Caller, name: &Name) -> Result<Arc<View>> {
        self.rooms.tenants.read(name.parent()).await;
        self.rooms.calls.get(name).await
    }

    /// The published message alone, for callers that poll.
    pub async fn poll(&self, _: &Caller, name: &Name) -> Result<Published> {
        self.rooms.tenants.read(name.parent()).await;
        self.rooms.calls.poll(name).await
    }

    /// The operation now and, if wanted, the request that it was started with.
    pub async fn get_record(
        &self,
        _: &Caller,
        name: &Name,
        with_request: bool,
    ) -> Result<(Arc<View>, Option<Any>)> {
        self.rooms.tenants.read(name.parent()).await;
        self.rooms.calls.get_record(name, with_request).await
    }

    /// A page of operations, bounded by count, by bytes and by work.
    pub async fn list(&self, caller: &Caller, query: ListQuery) -> Result<ListPage> {
        self.rooms.tenants.read(query.parent.as_str()).await;
        self.rooms.lists.list(caller, query).await
    }

    /// How many operations there are below a parent, or below all that match.
    pub async fn stats(&self, _: &Caller, parent: &ParentPattern) -> Result<Stats> {
        self.rooms.tenants.read(parent.as_str()).await;
        self.rooms.counting.stats(parent).await
    }

    /// The operation once it is done, or as it is when the time is up: `timeout`, five minutes, or the server's end.
    pub async fn wait(&self, _: &Caller, name: &Name, timeout: Duration) -> Result<Arc<View>> {
        self.rooms.tenants.read(name.parent()).await;
        self.rooms.hub.wait(name, timeout).await
    }

    /// The same, once `is_there` holds.
    pub async fn wait_until(
        &self,
        _: &Caller,
        name: &Name,
        timeout: Duration,
        is_there: impl Fn(&View) -> bool + Send + Sync,
    ) -> Result<Arc<View>> {
        self.rooms.tenants.read(name.parent()).await;
        self.rooms.hub.wait_until(name, timeout, is_there).await
    }

    /// The operation now, without its large payloads.
    pub async fn head(&self, _: &Caller, name: &Name) -> Result<Box<Operation>> {
        self.rooms.tenants.read(name.parent()).await;
        self.rooms.calls.head(name).await
    }

    /// What callers see of an operation that [`Self::head`] has just read; its large payloads are read now.
    pub async fn show(&self, operation: Operation) -> Result<Arc<View>> {
        self.rooms.calls.show(operation).await
    }

    /// How long operations of that method took lately, as far as this server has seen any end.
    pub fn took_lately(&self, method: &str) -> Option<Duration> {
        self.rooms.context.lately.mean(method)
    }

    /// The store's time where that operation lies.
    pub fn store_now(&self, name: &Name) -> Timestamp {
        self.rooms.context.now(self.rooms.context.key(name))
    }

    /// Watches an operation.
    pub async fn watch(&self, _: &Caller, name: &Name, options: WatchOptions) -> Result<Watch> {
        let share = self.rooms.tenants.watch(name.parent())?;
        Ok(self.rooms.hub.watch(name, options).await?.counted(share))
    }

    /// Watches a set of operations.
    pub fn watch_set(&self, caller: &Caller, request: SetWatchRequest) -> Result<SetWatch> {
        let share = self.rooms.tenants.watch(request.parent.as_str())?;
        Ok(self.rooms.set_watches.watch(caller, request)?.counted(share))
    }

    /// Requests a cancel; the worker may confirm it later.
    pub async fn cancel(&self, caller: &Caller, name: &Name) -> Result<Done> {
        self.cancel_if(caller, name, String::new()).await
    }

    /// The same, only if the operation has that etag; an empty one fits all.
    pub async fn cancel_if(&self, _: &Caller, name: &Name, etag: String) -> Result<Done> {
        self.rooms.tenants.write(name.parent())?;
        self.rooms.calls.cancel(name, etag).await
    }

    /// Is no longer interested in it.
    pub async fn delete(&self, caller: &Caller, name: &Name) -> Result<Done> {
        self.delete_if(caller, name, String::new()).await
    }

    /// The same, only if the operation has that etag; an empty one fits all.
    pub async fn delete_if(&self, _: &Caller, name: &Name, etag: String) -> Result<Done> {
        self.rooms.tenants.write(name.parent())?;
        self.rooms.calls.delete(name, etag).await
    }

    /// Parks it.
    pub async fn pause(
        &self,
        _: &Caller,
        name: &Name,
        etag: String,
        reason: String,
    ) -> Result<Arc<View>> {
        self.rooms.tenants.write(name.parent())?;
        self.rooms.calls.pause(name, etag, reason).await
    }

    /// Ends its suspension.
    pub async fn resume(
        &self,
        _: &Caller,
        name: &Name,
        etag: String,
        input: Option<Any>,
    ) -> Result<Arc<View>> {
        self.rooms.tenants.write(name.parent())?;
        self.rooms.calls.resume(name, etag, input).await
    }
}

/// The verbs of workers.
impl Engine {
    /// Leases operations from a queue. If there are none, it waits for some; if the wait ends first, the result is empty.
    pub async fn lease(&self, _: &Caller, request: LeaseRequest) -> Result<LeaseBatch> {
        self.rooms.unary.lease(request).await
    }

    /// Starts an operation that the caller works on itself. A repeat gets the same lease while it lives, afterwards none.
    pub async fn start_leased(
        &self,
        caller: &Caller,
        wanted: Start,
        worker: String,
        duration: Duration,
    ) -> Result<(Started, Option<Leased>)> {
        self.rooms.tenants.start(&wanted)?;
        self.rooms.unary.start_leased(caller, wanted, worker, duration).await
    }

    /// Goes on holding leases; results in the order of the renewals.
    pub async fn renew_each(
        &self,
        _: &Caller,
        renewals: Vec<Result<(Name, Renew)>>,
    ) -> Vec<Result<Done>> {
        self.rooms.unary.renew_each(renewals).await
    }

    /// Goes on holding a lease.
    pub async fn renew(&self, _: &Caller, name: &Name, renew: Renew) -> Result<Done> {
        self.rooms.unary.renew(name, renew).await
    }

    /// A call of the worker that holds the operation.
    pub async fn work(&self, _: &Caller, name: &Name, command: Command) -> Result<Done> {
        self.rooms.unary.work(name, command).await
    }

    /// Serves a queue to a worker until either side ends it.
    pub fn serve_queue(&self, incoming: Incoming) -> Outgoing {
        workers::stream::serve(&self.rooms.streams, incoming)
    }
}

impl Agent {
    /// Processes all due records.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn run_once(self, engine: &Engine) -> Result<Sweep> {
        engine.rooms.due.run_once(self).await
    }
}

impl Measure {
    /// Measures the queues for `/metrics`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn run_once(self, engine: &Engine) -> Result<()> {
        engine.rooms.queues.measure().await
    }
}

/// Delivers what is due.
#[derive(Clone, Copy, Debug)]
pub struct Deliveries;

impl Deliveries {
    /// Makes an attempt of each delivery that is due and that its receiver has room for, and of those that follow it, and waits
    /// for their ends; returns how many it began at once.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn run_once(self, engine: &Engine) -> Result<usize> {
        let courier = &engine.rooms.courier;
        courier.claim_due(true).await?;
        let attempts = courier.begin().into_iter().map(|claimed| courier.deliver(claimed));
        Ok(futures_util::future::join_all(attempts).await.len())
    }
}

impl Heartbeat {
    /// Refreshes this server's record and reads those of the others.
    pub async fn run_once(self, engine: &Engine) -> Result<()> {
        Ok(engine.rooms.membership.beat().await?)
    }
}
