//! Watches of sets of operations: conversions for `longhaul.v1.Callers.WatchOperations`.

use prost::Message;

use super::operations::{filter, pattern};
use super::views::{heartbeat, is_full, min_interval, reconnect_delay};
use crate::engine::{EncodedForm, Result, SetEvent, SetEventKind, SetWatchRequest, View};
use crate::proto::encoded::Encoded;
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1 as pb;
use crate::types::Registry;

/// Reads a watch.
pub fn watch(request: pb::WatchOperationsRequest, types: &Registry) -> Result<SetWatchRequest> {
    Ok(SetWatchRequest {
        parent: pattern("parent", &request.parent)?,
        filter: filter(&request.filter, types)?,
        resume_token: request.resume_token,
        min_interval: min_interval(request.min_interval)?,
        heartbeat: heartbeat(request.heartbeat_interval)?,
        full: is_full(request.view)?,
    })
}

/// An encoded event. All watches of the operation share the part that holds its state.
pub fn event(mut event: SetEvent, full: bool) -> Encoded {
    let form = if full { EncodedForm::FullSetEvent } else { EncodedForm::SetEvent };
    let (view, request) = (event.view.take(), event.request.take());
    let shared = view
        .as_ref()
        .map(|view| view.encoded(form, |view| state(view, request).encode_to_vec().into()));
    let own = frame(event, view.is_some()).encode_to_vec().into();
    Encoded { shared: shared.unwrap_or_default(), own }
}

/// The part of an event that is the same for all watches.
fn state(view: &View, request: Option<Any>) -> pb::WatchOperationsResponse {
    let record = pb::OperationRecord {
        operation: Some(view.published.clone()),
        request,
        ..view.operation.record()
    };
    pb::WatchOperationsResponse {
        name: view.published.name.clone(),
        record: Some(record),
        ..pb::WatchOperationsResponse::default()
    }
}

/// The part of an event that is one watch's own.
fn frame(event: SetEvent, has_state: bool) -> pb::WatchOperationsResponse {
    use pb::watch_operations_response::Type;
    let kind = match event.kind {
        SetEventKind::Snapshot => Type::Snapshot,
        SetEventKind::SnapshotComplete => Type::SnapshotComplete,
        SetEventKind::Update => Type::Update,
        SetEventKind::Removed => Type::Removed,
        SetEventKind::Bookmark => Type::Bookmark,
        SetEventKind::Resync => Type::Resync,
        SetEventKind::Reconnect => Type::Reconnect,
    };
    let reconnect_delay = (kind == Type::Reconnect).then(reconnect_delay);
    pb::WatchOperationsResponse {
        r#type: kind.into(),
        name: if has_state { String::new() } else { event.name },
        record: None,
        resume_token: event.resume_token.to_string(),
        event_time: Some(event.time.into()),
        reconnect_delay,
    }
}
