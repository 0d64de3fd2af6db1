//! The rooms of an engine, put together from the bottom up.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::Notify;

use super::bulk_reruns::BulkReruns;
use super::commands::apply::Commands;
use super::commands::coalescer::Coalescer;
use super::commands::progress::HeldReports;
use super::context::Context;
use super::courier::agent::Courier;
use super::dispatch::dispatcher::Dispatch;
use super::dispatch::grants::Grants;
use super::dispatch::poller::Poller;
use super::due::agents::DueAgents;
use super::due::kinds::DueRooms;
use super::endpoints::calls::Endpoints;
use super::endpoints::listening::Listening;
use super::firing::fire::Firing;
use super::gates::desk::Gates;
use super::identity::authority::Authority;
use super::identity::tokens::TokenCalls;
use super::jobs::rooms::{JobParts, JobRooms};
use super::leases::holders::Holders;
use super::membership::ranks::Membership;
use super::notify::notifier::{Informed, Notifier, OperationTransactor};
use super::operations::calls::Calls;
use super::operations::pages::Lists;
use super::operations::reruns::Reruns;
use super::operations::set_watch::SetWatches;
use super::operations::starts::Starts;
use super::operations::stats::Counts;
use super::operators::queues::QueueCalls;
use super::parent_types::ParentTypes;
use super::queues::known::KnownQueues;
use super::reading::reader::Reader;
use super::roster::registry::Roster;
use super::settings::Settings;
use super::tenants::Tenants;
use super::transact::{Transactor, Unobserved};
use super::type_sets::TypeSetCalls;
use super::watching::hub::Hub;
use super::watching::sets::intake::Sets;
use super::workers::stream::rooms::StreamRooms;
use super::workers::unary::{Unary, UnaryRooms};
use crate::clock::Clock;
use crate::store::Store;

/// The rooms that the verbs are forwarded to.
pub(super) struct Rooms {
    pub(super) context: Arc<Context>,
    pub(super) tenants: Arc<Tenants>,
    pub(super) membership: Arc<Membership>,
    pub(super) hub: Arc<Hub>,
    pub(super) holders: Arc<Holders>,
    #[cfg(test)]
    pub(super) commands: Arc<Commands>,
    pub(super) reports: Arc<HeldReports>,
    pub(super) due: Arc<DueAgents>,
    pub(super) courier: Arc<Courier>,
    pub(super) starts: Arc<Starts>,
    pub(super) calls: Arc<Calls>,
    pub(super) reruns: Arc<Reruns>,
    pub(super) bulk_reruns: Arc<BulkReruns>,
    pub(super) jobs: JobRooms,
    pub(super) lists: Arc<Lists>,
    pub(super) counting: Counts,
    pub(super) set_watches: SetWatches,
    pub(super) queues: Arc<QueueCalls>,
    pub(super) types: Arc<ParentTypes>,
    pub(super) type_sets: TypeSetCalls,
    pub(super) authority: Arc<Authority>,
    pub(super) tokens: TokenCalls,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) unary: Arc<Unary>,
    pub(super) streams: Arc<StreamRooms>,
    #[cfg(test)]
    pub(super) reader: Arc<Reader>,
    #[cfg(test)]
    pub(super) dispatch: Arc<Dispatch>,
    #[cfg(test)]
    pub(super) notifier: Arc<Notifier>,
    #[cfg(test)]
    pub(super) known_queues: Arc<KnownQueues>,
    #[cfg(test)]
    pub(super) listening: Arc<Listening>,
}

/// The rooms without verbs of their own, and those that others are built on.
struct Lower {
    context: Arc<Context>,
    reader: Arc<Reader>,
    membership: Arc<Membership>,
    hub: Arc<Hub>,
    sets: Arc<Sets>,
    holders: Arc<Holders>,
    types: Arc<ParentTypes>,
    queues: Arc<KnownQueues>,
    endpoints: Arc<Endpoints>,
    listening: Arc<Listening>,
    roster: Arc<Roster>,
    authority: Arc<Authority>,
    notifier: Arc<Notifier>,
    transactor: Arc<OperationTransactor>,
    commands: Arc<Commands>,
    reports: Arc<HeldReports>,
    gates: Arc<Gates>,
    tenants: Arc<Tenants>,
}

impl Lower {
    fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let context = Arc::new(Context::new(store, clock, settings));
        let reader = Arc::new(Reader::new(context.clone()));
        let roster = Arc::new(Roster::new(context.clone(), reader.clone()));
        let queues = Arc::new(KnownQueues::new(context.clone(), reader.clone()));
        let signs = Transactor::new(context.clone(), reader.clone(), Arc::new(Unobserved));
        let membership =
            Arc::new(Membership::new(context.clone(), signs, roster.clone(), queues.clone()));
        let informed = Informed {
            hub: Arc::new(Hub::new(context.clone(), reader.clone())),
            sets: Arc::new(Sets::new(context.clone(), reader.clone())),
            holders: Arc::default(),
            types: Arc::new(ParentTypes::new(context.clone(), reader.clone())),
            listening: Arc::new(Listening::new(context.clone())),
            queues,
            roster,
            authority: Arc::new(Authority::new(context.clone(), reader.clone())),
        };
        let (ours, members) = (informed.clone(), membership.clone());
        let notifier = Arc::new(Notifier::new(context.clone(), reader.clone(), members, ours));
        let Informed { hub, sets, holders, types, listening, queues, roster, authority } = informed;
        let endpoints = Arc::new(Endpoints::new(context.clone(), reader.clone()));
        let transactor =
            Arc::new(Transactor::new(context.clone(), reader.clone(), notifier.clone()));
        let interval = context.settings.progress_interval;
        let coalescer = Arc::new(Coalescer::new(context.clock.clone(), interval));
        let commands = Arc::new(Commands::new(
            context.clone(),
            reader.clone(),
            transactor.clone(),
            holders.clone(),
            coalescer.clone(),
        ));
        let reports = Arc::new(HeldReports::new(commands.clone(), coalescer, membership.clone()));
        let (orders, known) = (commands.clone(), queues.clone());
        let gates = Gates::new(context.clone(), reader.clone(), orders, notifier.clone(), known);
        let lower = Self {
            tenants: Tenants::new(context.clone()),
            context,
            reader,
            membership,
            hub,
            sets,
            holders,
            types,
            queues,
            endpoints,
            listening,
            roster,
            authority,
            notifier,
            transactor,
            commands,
            reports,
            gates: Arc::new(gates),
        };
        lower.run();
        lower
    }

    /// Starts the tasks of these rooms.
    fn run(&self) {
        let tasks = &self.context.tasks;
        tasks.spawn("gates", self.gates.clone().run());
        tasks.spawn("feed", self.notifier.clone().run(self.context.store.feed()));
        tasks.spawn("hub", self.hub.clone().run());
        tasks.spawn("sets", self.sets.clone().run());
        tasks.spawn("progress", self.reports.clone().run());
        tasks.spawn("types", self.types.clone().run());
        tasks.spawn("queues", self.queues.clone().run());
        tasks.spawn("endpoints", self.listening.clone().run());
    }

    fn streams(&self, dispatch: &Arc<Dispatch>) -> Arc<StreamRooms> {
        Arc::new(StreamRooms {
            context: self.context.clone(),
            commands: self.commands.clone(),
            reports: self.reports.clone(),
            dispatch: dispatch.clone(),
            holders: self.holders.clone(),
            roster: self.roster.clone(),
        })
    }

    fn unary(&self, dispatch: &Arc<Dispatch>, starts: &Arc<Starts>) -> Arc<Unary> {
        let (context, dispatch) = (self.context.clone(), dispatch.clone());
        let shared = UnaryRooms { context, dispatch, roster: self.roster.clone() };
        Arc::new(Unary::new(shared, self.commands.clone(), self.reports.clone(), starts.clone()))
    }

    fn queue_calls(&self) -> Arc<QueueCalls> {
        Arc::new(QueueCalls::new(
            self.context.clone(),
            self.reader.clone(),
            self.membership.clone(),
            self.roster.clone(),
            self.queues.clone(),
        ))
    }

    fn courier(&self) -> Arc<Courier> {
        let (context, reader) = (self.context.clone(), self.reader.clone());
        let (membership, types) = (self.membership.clone(), self.types.clone());
        Arc::new(Courier::new(context, reader, membership, types, self.endpoints.clone()))
    }

    fn agents(&self) -> (Arc<Courier>, Arc<DueAgents>) {
        let courier = self.courier();
        (courier.clone(), self.due(courier))
    }

    fn due(&self, courier: Arc<Courier>) -> Arc<DueAgents> {
        Arc::new(DueAgents::new(
            self.context.clone(),
            self.reader.clone(),
            self.membership.clone(),
            self.notifier.clone(),
            DueRooms {
                commands: self.commands.clone(),
                courier,
                firing: self.firing(),
                gates: self.gates.clone(),
            },
        ))
    }

    fn grants(&self) -> Arc<Grants> {
        let (context, commands) = (self.context.clone(), self.commands.clone());
        Arc::new(Grants::new(context, commands, self.holders.clone(), self.gates.clone()))
    }

    fn dispatch(&self, grants: &Arc<Grants>) -> Arc<Dispatch> {
        let poller = Poller::new(
            self.context.clone(),
            self.reader.clone(),
            self.transactor.clone(),
            grants.clone(),
            self.commands.clone(),
        );
        let (context, queues) = (self.context.clone(), self.queues.clone());
        Arc::new(Dispatch::new(context, queues, poller, grants.clone()))
    }

    fn firing(&self) -> Arc<Firing> {
        let (commands, queues) = (self.commands.clone(), self.queues.clone());
        Arc::new(Firing::new(commands, queues, self.tenants.clone()))
    }

    fn jobs(&self) -> JobRooms {
        let (context, reader) = (self.context.clone(), self.reader.clone());
        let (commands, firing) = (self.commands.clone(), self.firing());
        JobRooms::new(JobParts { context, reader, commands, firing, tenants: self.tenants.clone() })
    }

    fn calls(&self) -> Arc<Calls> {
        let (context, reader) = (self.context.clone(), self.reader.clone());
        Arc::new(Calls::new(context, reader, self.commands.clone(), self.hub.clone()))
    }

    fn starts(&self, dispatch: &Arc<Dispatch>, grants: Arc<Grants>) -> Arc<Starts> {
        Arc::new(Starts::new(
            self.context.clone(),
            self.reader.clone(),
            self.transactor.clone(),
            dispatch.clone(),
            grants,
        ))
    }
}

impl Rooms {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let lower = Lower::new(store, clock, settings);
        let (courier, due) = lower.agents();
        let grants = lower.grants();
        let dispatch = lower.dispatch(&grants);
        let (queue_calls, streams) = (lower.queue_calls(), lower.streams(&dispatch));
        let starts = lower.starts(&dispatch, grants);
        let (unary, jobs, calls) = (lower.unary(&dispatch, &starts), lower.jobs(), lower.calls());
        let Lower { context, reader, membership, hub, sets, holders, .. } = lower;
        let Lower { types, authority, endpoints, reports, tenants, .. } = lower;
        let lists = Arc::new(Lists::new(context.clone(), reader.clone()));
        let reruns = Arc::new(Reruns::new(starts.clone(), calls.clone()));
        let bulk_reruns = Arc::new(BulkReruns {
            context: context.clone(),
            types: types.clone(),
            lists: lists.clone(),
            starts: starts.clone(),
            reruns: reruns.clone(),
            unary: unary.clone(),
            started: Notify::new(),
            tenants: tenants.clone(),
            slowed: AtomicBool::new(false),
        });
        Self {
            calls,
            reruns,
            bulk_reruns,
            jobs,
            counting: Counts::new(context.clone(), reader.clone()),
            set_watches: SetWatches::new(context.clone(), sets, lists.clone()),
            lists,
            queues: queue_calls,
            type_sets: TypeSetCalls::new(context.clone(), reader.clone(), types.clone()),
            tokens: TokenCalls::new(context.clone(), reader.clone(), authority.clone()),
            endpoints,
            types,
            authority,
            tenants,
            context,
            membership,
            hub,
            holders,
            #[cfg(test)]
            commands: lower.commands,
            reports,
            due,
            courier,
            starts,
            unary,
            streams,
            #[cfg(test)]
            reader,
            #[cfg(test)]
            dispatch,
            #[cfg(test)]
            notifier: lower.notifier,
            #[cfg(test)]
            listening: lower.listening,
            #[cfg(test)]
            known_queues: lower.queues,
        }
    }
}
