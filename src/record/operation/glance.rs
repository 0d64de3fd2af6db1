//! The parts of an operation that most reads need, without decoding the rest of its record.

use bytes::Bytes;
use prost::Message;

use crate::proto::google::longrunning::Operation as Published;
use crate::store::Record;

/// The published form of an operation, without decoding the rest of its record.
///
/// `None` if that is not enough: for tombstones, deleted operations, payloads with a body, and damage.
pub fn glance(record: &Record) -> Option<Published> {
    let operation = Glance::decode(record.value.clone()).ok()?.operation?;
    let whole = operation.delete_after.is_none()
        && operation.detached_metadata.is_none()
        && operation.detached_response.is_none();
    operation.published.filter(|_| whole)
}

/// `stored::Record`, as far as [`glance`] needs it.
#[derive(Clone, PartialEq, Message)]
struct Glance {
    #[prost(message, optional, tag = "1")]
    operation: Option<OperationGlance>,
}

/// `stored::Operation`, as far as [`glance`] needs it.
#[derive(Clone, PartialEq, Message)]
struct OperationGlance {
    #[prost(message, optional, tag = "1")]
    published: Option<Published>,
    #[prost(bytes = "bytes", optional, tag = "27")]
    detached_metadata: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "28")]
    detached_response: Option<Bytes>,
    #[prost(sint64, optional, tag = "40")]
    delete_after: Option<i64>,
}
