//! Records, watches, pauses and resumes: conversions for `longhaul.v1.Callers`.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use super::fields::{any, duration, name, text};
use crate::engine::{
    EncodedForm, Error, EventKind, Result, ResumeToken, View, WatchEvent, WatchFrom, WatchOptions,
};
use crate::limits::{
    DEFAULT_WATCH_HEARTBEAT, MAX_CHECKPOINT_BYTES, MAX_TEXT_BYTES, MAX_WATCH_INTERVAL,
    MIN_WATCH_HEARTBEAT,
};
use crate::operation::name::Name;
use crate::proto::encoded::Encoded;
use crate::proto::google::longrunning::Operation;
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1 as pb;

/// Whether the view is FULL.
pub fn is_full(view: i32) -> Result<bool> {
    match pb::OperationView::try_from(view) {
        Ok(pb::OperationView::Full) => Ok(true),
        Ok(pb::OperationView::Unspecified | pb::OperationView::Basic) => Ok(false),
        Err(_) => Err(Error::field("view", format!("view {view} is not known"))),
    }
}

/// The operation of a view.
pub fn published(view: Arc<View>) -> Operation {
    Arc::try_unwrap(view).map_or_else(|shared| shared.published.clone(), |own| own.published)
}

/// The record of a view, with the request if the view is FULL.
pub fn record(view: Arc<View>, request: Option<Any>) -> pb::OperationRecord {
    let record = view.operation.record();
    pb::OperationRecord { operation: Some(published(view)), request, ..record }
}

/// Reads a pause: the name, the etag and the reason.
pub fn pause(request: pb::PauseOperationRequest) -> Result<(Name, String, String)> {
    let name = name(&request.name)?;
    Ok((name, request.etag, text("reason", request.reason, MAX_TEXT_BYTES)?))
}

/// Reads a resume: the name, the etag and the input.
pub fn resume(request: pb::ResumeOperationRequest) -> Result<(Name, String, Option<Any>)> {
    let name = name(&request.name)?;
    Ok((name, request.etag, any("input", request.input, MAX_CHECKPOINT_BYTES)?))
}

/// Reads the options of a watch.
pub fn watch(request: &pb::WatchOperationRequest) -> Result<WatchOptions> {
    Ok(WatchOptions {
        from: match request.resume_token.as_str() {
            "" => WatchFrom::Start,
            "now" => WatchFrom::Now,
            token => WatchFrom::Token(ResumeToken::parse(token)?),
        },
        min_interval: min_interval(request.min_interval)?,
        heartbeat: heartbeat(request.heartbeat_interval)?,
    })
}

/// Reads the shortest time between two updates.
pub(super) fn min_interval(interval: Option<prost_types::Duration>) -> Result<Duration> {
    let interval = duration("min_interval", interval)?;
    Ok(interval.unwrap_or_default().min(MAX_WATCH_INTERVAL))
}

/// Reads the time without a message after which a watch shows that it lives.
pub(super) fn heartbeat(interval: Option<prost_types::Duration>) -> Result<Duration> {
    let interval = duration("heartbeat_interval", interval)?;
    let interval = interval.filter(|interval| !interval.is_zero());
    Ok(interval.unwrap_or(DEFAULT_WATCH_HEARTBEAT).clamp(MIN_WATCH_HEARTBEAT, MAX_WATCH_INTERVAL))
}

/// An encoded event. All watchers of the operation share the part that holds its state.
pub fn event(event: WatchEvent, full: bool) -> Encoded {
    let form = if full { EncodedForm::FullEvent } else { EncodedForm::Event };
    let shared = event
        .view
        .as_ref()
        .map(|view| view.encoded(form, |view| state(view, full).encode_to_vec().into()));
    let own = frame(event).encode_to_vec().into();
    Encoded { shared: shared.unwrap_or_default(), own }
}

/// The part of an event that is the same for all watchers.
fn state(view: &View, full: bool) -> pb::WatchOperationResponse {
    pb::WatchOperationResponse {
        operation: Some(view.published.clone()),
        server_metadata: Some(view.operation.server_metadata()),
        record: full.then(|| view.operation.record()),
        ..pb::WatchOperationResponse::default()
    }
}

/// The part of an event that is one watcher's own.
fn frame(event: WatchEvent) -> pb::WatchOperationResponse {
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
    let reconnect_delay = (event.kind == EventKind::Reconnect).then(reconnect_delay);
    pb::WatchOperationResponse {
        r#type: kind.into(),
        resume_token: event.resume_token,
        event_time: Some(event.time.into()),
        reconnect_delay,
        ..pb::WatchOperationResponse::default()
    }
}

/// What a server that drains asks its watches to wait.
pub(super) fn reconnect_delay() -> prost_types::Duration {
    prost_types::Duration::try_from(RECONNECT_DELAY).unwrap_or_default()
}

/// How long the other servers may need to take over from one that drains.
const RECONNECT_DELAY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::engine::{Caller, Engine};
    use crate::operation::{Spec, Start};
    use crate::store::Keyspace;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn a_state_is_encoded_once_for_all_who_watch_the_operation() {
        let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
        let store = MemoryStore::new(Keyspace::generate(1), clock.clone());
        let (engine, caller) = (Engine::without_agents(store, clock), Caller::default());
        let spec = Spec { server_metadata: true, ..Spec::default() };
        let wanted = Start { spec, ..Start::default() };
        let started = engine.start_operation(&caller, wanted).await.expect("a start");
        let name = Name::parse(&started.published.name).expect("a name");
        let options = watch(&pb::WatchOperationRequest::default()).expect("options");
        let mut events = Vec::new();
        let mut watches = Vec::new();
        for full in [true, true, false, false] {
            let mut watch = engine.watch(&caller, &name, options.clone()).await.expect("a watch");
            events.push(event(watch.next().await.expect("an event").expect("a state"), full));
            watches.push(watch);
        }
        let shared = |event: &Encoded| event.shared.as_ptr();
        assert_eq!(shared(&events[0]), shared(&events[1]));
        assert_eq!(shared(&events[2]), shared(&events[3]));
        assert_ne!(shared(&events[0]), shared(&events[2]));
        for (event, full) in events.iter().zip([true, true, false, false]) {
            let read = pb::WatchOperationResponse::decode(&event.encode_to_vec()[..]).expect("one");
            assert_eq!(event.encoded_len(), event.encode_to_vec().len());
            assert_eq!(read.r#type(), pb::watch_operation_response::Type::Snapshot);
            assert_eq!(read.operation, Some(started.published.clone()));
            assert!(read.server_metadata.is_some() && read.event_time.is_some());
            assert!(!read.resume_token.is_empty());
            assert_eq!(read.record.is_some(), full);
        }
    }
}
