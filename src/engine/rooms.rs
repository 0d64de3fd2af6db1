//! The rooms of an engine, put together from the bottom up.

use std::sync::Arc;

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
use super::jobs::rooms::JobRooms;
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
    roster: Arc<Roster>,
    notifier: Arc<Notifier>,
    transactor: Arc<OperationTransactor>,
    commands: Arc<Commands>,
    reports: Arc<HeldReports>,
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
        let hub = Arc::new(Hub::new(context.clone(), reader.clone()));
        let sets = Arc::new(Sets::new(context.clone(), reader.clone()));
        let holders = Arc::<Holders>::default();
        let types = Arc::new(ParentTypes::new(context.clone(), reader.clone()));
        let notifier = Arc::new(Notifier::new(
            context.clone(),
            reader.clone(),
            membership.clone(),
            Informed {
                hub: hub.clone(),
                sets: sets.clone(),
                holders: holders.clone(),
                types: types.clone(),
                queues: queues.clone(),
                roster: roster.clone(),
            },
        ));
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
        context.tasks.spawn("feed", notifier.clone().run(context.store.feed()));
        context.tasks.spawn("hub", hub.clone().run());
        context.tasks.spawn("sets", sets.clone().run());
        context.tasks.spawn("progress", reports.clone().run());
        context.tasks.spawn("types", types.clone().run());
        context.tasks.spawn("queues", queues.clone().run());
        Self {
            context,
            reader,
            membership,
            hub,
            sets,
            holders,
            types,
            queues,
            roster,
            notifier,
            transactor,
            commands,
            reports,
        }
    }

    fn courier(&self) -> Arc<Courier> {
        let (context, reader) = (self.context.clone(), self.reader.clone());
        Arc::new(Courier::new(context, reader, self.membership.clone(), self.types.clone()))
    }

    fn due(&self, courier: Arc<Courier>) -> Arc<DueAgents> {
        Arc::new(DueAgents::new(
            self.context.clone(),
            self.reader.clone(),
            self.membership.clone(),
            self.notifier.clone(),
            self.commands.clone(),
            courier,
        ))
    }

    fn grants(&self) -> Arc<Grants> {
        let (context, commands) = (self.context.clone(), self.commands.clone());
        Arc::new(Grants::new(context, commands, self.holders.clone()))
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

    fn starts(&self, dispatch: &Arc<Dispatch>, grants: Arc<Grants>) -> Arc<Starts> {
        Arc::new(Starts::new(
            self.context.clone(),
            self.reader.clone(),
            self.transactor.clone(),
            dispatch.clone(),
            grants,
        ))
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
}

impl Rooms {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let lower = Lower::new(store, clock, settings);
        let courier = lower.courier();
        let due = lower.due(courier.clone());
        let grants = lower.grants();
        let dispatch = lower.dispatch(&grants);
        let starts = lower.starts(&dispatch, grants);
        let streams = lower.streams(&dispatch);
        let Lower { context, reader, membership, hub, sets, holders, .. } = lower;
        let Lower { types, queues, roster, commands, reports, .. } = lower;
        let lists = Arc::new(Lists::new(context.clone(), reader.clone()));
        let shared =
            UnaryRooms { context: context.clone(), dispatch: dispatch.clone(), roster: roster.clone() };
        let unary =
            Arc::new(Unary::new(shared, commands.clone(), reports.clone(), starts.clone()));
        let calls =
            Arc::new(Calls::new(context.clone(), reader.clone(), commands.clone(), hub.clone()));
        let reruns = Arc::new(Reruns::new(starts.clone(), calls.clone()));
        let bulk_reruns = Arc::new(BulkReruns {
            context: context.clone(),
            types: types.clone(),
            lists: lists.clone(),
            starts: starts.clone(),
            reruns: reruns.clone(),
            unary: unary.clone(),
            started: Notify::new(),
        });
        Self {
            calls,
            reruns,
            bulk_reruns,
            jobs: JobRooms::new(&context, &reader, &commands),
            counting: Counts::new(context.clone(), reader.clone()),
            set_watches: SetWatches::new(context.clone(), sets, lists.clone()),
            lists,
            queues: Arc::new(QueueCalls::new(
                context.clone(),
                reader.clone(),
                membership.clone(),
                roster,
                queues.clone(),
            )),
            type_sets: TypeSetCalls::new(context.clone(), reader.clone(), types.clone()),
            types,
            context,
            membership,
            hub,
            holders,
            #[cfg(test)]
            commands,
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
            known_queues: queues,
        }
    }
}
