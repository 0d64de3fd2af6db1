//! The rooms of an engine, put together from the bottom up.

use std::sync::Arc;

use super::commands::apply::Commands;
use super::context::Context;
use super::dispatch::dispatcher::Dispatch;
use super::dispatch::grants::Grants;
use super::dispatch::poller::Poller;
use super::due::agents::DueAgents;
use super::leases::holders::Holders;
use super::membership::ranks::Membership;
use super::notify::notifier::{Informed, Notifier, OperationTransactor};
use super::operations::calls::Calls;
use super::operations::pages::Lists;
use super::operations::starts::Starts;
use super::parent_types::ParentTypes;
use super::reading::reader::Reader;
use super::settings::Settings;
use super::transact::{Transactor, Unobserved};
use super::type_sets::TypeSetCalls;
use super::watching::hub::Hub;
use super::workers::stream::rooms::StreamRooms;
use super::workers::unary::Unary;
use crate::clock::Clock;
use crate::store::Store;

/// The rooms that the verbs are forwarded to.
pub(super) struct Rooms {
    pub(super) context: Arc<Context>,
    pub(super) membership: Arc<Membership>,
    pub(super) hub: Arc<Hub>,
    pub(super) holders: Arc<Holders>,
    pub(super) commands: Arc<Commands>,
    pub(super) due: Arc<DueAgents>,
    pub(super) starts: Arc<Starts>,
    pub(super) calls: Calls,
    pub(super) lists: Lists,
    pub(super) types: Arc<ParentTypes>,
    pub(super) type_sets: TypeSetCalls,
    pub(super) unary: Unary,
    pub(super) streams: Arc<StreamRooms>,
    #[cfg(test)]
    pub(super) reader: Arc<Reader>,
    #[cfg(test)]
    pub(super) dispatch: Arc<Dispatch>,
    #[cfg(test)]
    pub(super) notifier: Arc<Notifier>,
}

/// The rooms without verbs of their own, and those that others are built on.
struct Lower {
    context: Arc<Context>,
    reader: Arc<Reader>,
    membership: Arc<Membership>,
    hub: Arc<Hub>,
    holders: Arc<Holders>,
    types: Arc<ParentTypes>,
    notifier: Arc<Notifier>,
    transactor: Arc<OperationTransactor>,
    commands: Arc<Commands>,
}

impl Lower {
    fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let context = Arc::new(Context::new(store, clock, settings));
        let reader = Arc::new(Reader::new(context.clone()));
        let signs = Transactor::new(context.clone(), reader.clone(), Arc::new(Unobserved));
        let membership = Arc::new(Membership::new(context.clone(), signs));
        let hub = Arc::new(Hub::new(context.clone(), reader.clone()));
        let holders = Arc::<Holders>::default();
        let types = Arc::new(ParentTypes::new(context.clone(), reader.clone()));
        let notifier = Arc::new(Notifier::new(
            context.clone(),
            reader.clone(),
            membership.clone(),
            Informed { hub: hub.clone(), holders: holders.clone(), types: types.clone() },
        ));
        let transactor =
            Arc::new(Transactor::new(context.clone(), reader.clone(), notifier.clone()));
        let commands = Arc::new(Commands::new(
            context.clone(),
            reader.clone(),
            transactor.clone(),
            holders.clone(),
        ));
        context.tasks.spawn("feed", notifier.clone().run(context.store.feed()));
        context.tasks.spawn("hub", hub.clone().run());
        context.tasks.spawn("progress", commands.clone().run());
        context.tasks.spawn("types", types.clone().run());
        Self { context, reader, membership, hub, holders, types, notifier, transactor, commands }
    }
}

impl Lower {
    /// The agents that poll for due records.
    fn due(&self) -> Arc<DueAgents> {
        let Self { context, reader, membership, notifier, commands, .. } = self;
        Arc::new(DueAgents::new(
            context.clone(),
            reader.clone(),
            membership.clone(),
            notifier.clone(),
            commands.clone(),
        ))
    }

    /// What leases work to the workers of this server.
    fn dispatch(&self) -> (Arc<Dispatch>, Arc<Grants>) {
        let Self { context, reader, holders, notifier, transactor, commands, .. } = self;
        let grants = Arc::new(Grants::new(context.clone(), commands.clone(), holders.clone()));
        let poller = Poller::new(
            context.clone(),
            reader.clone(),
            transactor.clone(),
            grants.clone(),
            commands.clone(),
        );
        let dispatch =
            Arc::new(Dispatch::new(context.clone(), notifier.clone(), poller, grants.clone()));
        (dispatch, grants)
    }
}

impl Rooms {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let lower = Lower::new(store, clock, settings);
        let ((dispatch, grants), due) = (lower.dispatch(), lower.due());
        #[cfg(test)]
        let notifier = lower.notifier.clone();
        let Lower {
            context, reader, membership, hub, holders, types, transactor, commands, ..
        } = lower;
        let starts = Arc::new(Starts::new(
            context.clone(),
            reader.clone(),
            transactor,
            dispatch.clone(),
            grants,
        ));
        let unary = Unary::new(
            context.clone(),
            dispatch.clone(),
            commands.clone(),
            membership.clone(),
            starts.clone(),
        );
        let streams = Arc::new(StreamRooms {
            context: context.clone(),
            commands: commands.clone(),
            dispatch: dispatch.clone(),
            holders: holders.clone(),
        });
        Self {
            calls: Calls::new(context.clone(), reader.clone(), commands.clone(), hub.clone()),
            lists: Lists::new(context.clone(), reader.clone()),
            type_sets: TypeSetCalls::new(context.clone(), reader.clone(), types.clone()),
            types,
            context,
            membership,
            hub,
            holders,
            commands,
            due,
            starts,
            unary,
            streams,
            #[cfg(test)]
            reader,
            #[cfg(test)]
            dispatch,
            #[cfg(test)]
            notifier,
        }
    }
}
