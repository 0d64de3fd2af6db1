//! The rooms of an engine, put together from the bottom up.

use std::sync::Arc;

use super::commands::apply::Commands;
use super::context::Context;
use super::dispatch::dispatcher::Dispatch;
use super::dispatch::grants::Grants;
use super::dispatch::poller::Poller;
use super::due::agents::DueAgents;
use super::jobs::rooms::JobRooms;
use super::leases::holders::Holders;
use super::membership::ranks::Membership;
use super::notify::notifier::{Notifier, OperationTransactor};
use super::operations::calls::Calls;
use super::operations::pages::Lists;
use super::operations::reruns::Reruns;
use super::operations::starts::Starts;
use super::reading::reader::Reader;
use super::settings::Settings;
use super::transact::{Transactor, Unobserved};
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
    pub(super) reruns: Reruns,
    pub(super) jobs: JobRooms,
    pub(super) lists: Lists,
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
        let notifier = Arc::new(Notifier::new(
            context.clone(),
            reader.clone(),
            membership.clone(),
            hub.clone(),
            holders.clone(),
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
        Self { context, reader, membership, hub, holders, notifier, transactor, commands }
    }
}

impl Rooms {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let Lower { context, reader, membership, hub, holders, notifier, transactor, commands } =
            Lower::new(store, clock, settings);
        let due = Arc::new(DueAgents::new(
            context.clone(),
            reader.clone(),
            membership.clone(),
            notifier.clone(),
            commands.clone(),
        ));
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
            reruns: Reruns::new(starts.clone()),
            jobs: JobRooms::new(&context, &reader, &commands),
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
