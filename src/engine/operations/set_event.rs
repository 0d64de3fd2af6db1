//! The request and the events of a watch of a set.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::reading::view::View;
use crate::filter::Filter;
use crate::operation::name::ParentPattern;
use crate::proto::google::protobuf::Any;

/// The request of a watch of a set.
#[derive(Clone, Debug)]
pub struct SetWatchRequest {
    /// Of which parents.
    pub parent: ParentPattern,
    /// Which operations.
    pub filter: Filter,
    /// Where an earlier watch stopped; empty to begin with a snapshot.
    pub resume_token: String,
    /// The shortest time between two updates of an operation.
    pub min_interval: Duration,
    /// Send a bookmark after this long without another event.
    pub heartbeat: Duration,
    /// With the requests that the operations were started with.
    pub full: bool,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetEventKind {
    /// An operation of the first list.
    Snapshot,
    /// The list is complete.
    SnapshotComplete,
    /// Added or changed.
    Update,
    /// No longer in the set.
    Removed,
    /// Nothing new but the token.
    Bookmark,
    /// Changes may be missing; a snapshot follows.
    Resync,
    /// Attach again, elsewhere.
    Reconnect,
}

/// One event.
#[derive(Clone, Debug)]
pub struct SetEvent {
    /// The kind.
    pub kind: SetEventKind,
    /// The name of the operation, where the kind has one.
    pub name: String,
    /// The operation, where the kind has one.
    pub view: Option<Arc<View>>,
    /// The request that it was started with, if wanted.
    pub request: Option<Any>,
    /// Where to go on after a break.
    pub resume_token: Arc<str>,
    /// When.
    pub time: Timestamp,
}
