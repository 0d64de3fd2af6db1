//! The state of an operation, from a reply.

use longhaul::clock::Timestamp;
use longhaul::proto::google::longrunning::{Operation, operation::Result as Outcome};
use longhaul::proto::google::protobuf::Any;
use longhaul::proto::longhaul::v1::operation_record::State as Published;
use longhaul::proto::longhaul::v1::watch_operation_response::Type;
use longhaul::proto::longhaul::v1::{OperationMetadata, OperationRecord, WatchOperationResponse};
use prost::Message;

use super::event::{News, Seen, State};

/// From the published service.
pub(super) fn at_operation(operation: &Operation) -> Seen {
    let metadata = operation.metadata.as_ref().expect("the server's metadata");
    let metadata = OperationMetadata::decode(&metadata.value[..]).expect("the server's");
    let result = match &operation.result {
        Some(Outcome::Response(response)) => format!("response {}", text_of(response)),
        Some(Outcome::Error(error)) => format!("error {} {}", error.code, error.message),
        None => String::new(),
    };
    let seen = Seen { result, ..at_metadata(&metadata) };
    assert_eq!(operation.done, seen.state.is_done(), "{operation:?}");
    assert_eq!(operation.done, operation.result.is_some(), "{operation:?}");
    seen
}

/// The same with the fields of the record.
pub(super) fn at_record(operation: &Operation, record: &OperationRecord) -> Seen {
    let revision = u64::from_str_radix(record.etag.trim_matches('"'), 16).expect("a revision");
    let fencing = record.attempts.iter().map(|attempt| attempt.fencing_number as u64).max();
    Seen { revision, fencing: fencing.unwrap_or(0), ..at_operation(operation) }
}

/// From an event of a watch.
pub(super) fn at_message(message: &WatchOperationResponse) -> News {
    let seen = || {
        let operation = message.operation.as_ref().expect("an operation");
        at_record(operation, message.record.as_ref().expect("a record"))
    };
    match message.r#type() {
        Type::Unspecified => panic!("{message:?}"),
        Type::Snapshot => News::Snapshot(seen()),
        Type::Update => News::Update(seen()),
        Type::Heartbeat => News::Heartbeat,
        Type::Done => News::Done(seen()),
        Type::Deleted => News::Deleted,
        Type::Reconnect => News::Reconnect,
        Type::Resync => News::Resync(seen()),
    }
}

/// A text as a payload.
pub(super) fn payload(text: &str) -> Any {
    let type_url = "type.googleapis.com/google.protobuf.StringValue".to_owned();
    Any { type_url, value: text.to_owned().encode_to_vec().into() }
}

fn text_of(payload: &Any) -> String {
    String::decode(&payload.value[..]).unwrap_or_default()
}

fn at_metadata(metadata: &OperationMetadata) -> Seen {
    let state = match metadata.state() {
        Published::Pending => State::Pending,
        Published::Running => State::Running,
        Published::Cancelling => State::Cancelling,
        Published::Suspended => State::Suspended,
        Published::Succeeded => State::Succeeded,
        Published::Failed => State::Failed,
        Published::Cancelled => State::Cancelled,
        Published::Unspecified => panic!("{metadata:?}"),
    };
    let updated = metadata.update_time.as_ref().map_or(0, |time| Timestamp::from(time).as_micros());
    Seen {
        updated,
        state,
        attempts: metadata.attempt_count,
        cancel_requested: metadata.cancel_requested,
        ..Seen::default()
    }
}
