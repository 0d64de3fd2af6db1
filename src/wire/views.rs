//! What callers get who want more, and what they send for it.

use std::time::Duration;

use prost_types::Any;

use super::fields::duration;
use crate::engine::{
    Error, EventKind, Result, ResumeToken, View, WatchEvent, WatchFrom, WatchOptions,
};
use crate::limits::{DEFAULT_WATCH_HEARTBEAT, MAX_WATCH_INTERVAL, MIN_WATCH_HEARTBEAT};
use crate::proto::longhaul::v1 as pb;

/// Whether the whole view is wanted.
pub fn is_full(view: i32) -> Result<bool> {
    match pb::OperationView::try_from(view) {
        Ok(pb::OperationView::Full) => Ok(true),
        Ok(pb::OperationView::Unspecified | pb::OperationView::Basic) => Ok(false),
        Err(_) => Err(Error::field("view", format!("view {view} is not known"))),
    }
}

/// The record of a view, `request` only where the whole view is wanted.
pub fn record(view: &View, request: Option<Any>) -> pb::OperationRecord {
    pb::OperationRecord {
        operation: Some(view.published.clone()),
        request,
        ..view.operation.record()
    }
}

/// Reads what a watcher wants.
pub fn watch(request: &pb::WatchOperationRequest) -> Result<WatchOptions> {
    let heartbeat = duration("heartbeat_interval", request.heartbeat_interval)?
        .filter(|interval| !interval.is_zero());
    Ok(WatchOptions {
        from: match request.resume_token.as_str() {
            "" => WatchFrom::Start,
            "now" => WatchFrom::Now,
            token => WatchFrom::Token(ResumeToken::parse(token)?),
        },
        min_interval: duration("min_interval", request.min_interval)?
            .unwrap_or_default()
            .min(MAX_WATCH_INTERVAL),
        heartbeat: heartbeat
            .unwrap_or(DEFAULT_WATCH_HEARTBEAT)
            .clamp(MIN_WATCH_HEARTBEAT, MAX_WATCH_INTERVAL),
    })
}

/// An event for its watcher.
pub fn event(event: WatchEvent, full: bool) -> pb::WatchOperationResponse {
    use pb::watch_operation_response::Type;
    let kind = match event.kind {
        EventKind::Snapshot => Type::Snapshot,
        EventKind::Update => Type::Update,
        EventKind::Heartbeat => Type::Heartbeat,
        EventKind::Done => Type::Done,
        EventKind::Deleted => Type::Deleted,
        EventKind::Reconnect => Type::Reconnect,
        EventKind::Resync => Type::Resync,
    };
    let reconnect_delay = (event.kind == EventKind::Reconnect)
        .then(|| prost_types::Duration::try_from(RECONNECT_DELAY).unwrap_or_default());
    pb::WatchOperationResponse {
        r#type: kind.into(),
        operation: event.view.as_ref().map(|view| view.published.clone()),
        server_metadata: event.view.as_ref().map(|view| view.operation.server_metadata()),
        record: event.view.as_ref().filter(|_| full).map(|view| view.operation.record()),
        resume_token: event.resume_token,
        event_time: Some(event.time.into()),
        reconnect_delay,
    }
}

/// So long the others of a draining server's kind may need to take over.
const RECONNECT_DELAY: Duration = Duration::from_millis(200);
