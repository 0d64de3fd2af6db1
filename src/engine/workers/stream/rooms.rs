//! The rooms of the engine that a stream works with.

use std::sync::Arc;

use crate::engine::commands::apply::Commands;
use crate::engine::commands::progress::HeldReports;
use crate::engine::context::Context;
use crate::engine::dispatch::dispatcher::Dispatch;
use crate::engine::leases::holders::Holders;
use crate::engine::roster::registry::Roster;

/// The same for all streams.
pub(in crate::engine) struct StreamRooms {
    pub(in crate::engine) context: Arc<Context>,
    pub(in crate::engine) commands: Arc<Commands>,
    pub(in crate::engine) reports: Arc<HeldReports>,
    pub(in crate::engine) dispatch: Arc<Dispatch>,
    pub(in crate::engine) holders: Arc<Holders>,
    pub(in crate::engine) roster: Arc<Roster>,
}
