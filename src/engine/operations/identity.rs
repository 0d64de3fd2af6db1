//! The names of new operations, and telling a start that is sent again from another start of the same name.

use uuid::Uuid;

use crate::engine::access::Caller;
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::operation::lease::Fingerprint;
use crate::operation::name::{Id, Name};
use crate::operation::{Operation, Record, Rejection, Start};

/// Tells a start from other starts of the same name.
pub(super) struct Identity {
    pub(super) name: Name,
    pub(super) uid: Uuid,
    pub(super) request_id: String,
    pub(super) fingerprint: Fingerprint,
}

impl Identity {
    /// The operation that has the name already, if this start or an earlier one of the same request made it. `gone`: why
    /// the operation of that record is gone, if it is.
    pub(super) fn recognise(
        &self,
        record: Record,
        gone: Option<Rejection>,
    ) -> Result<Box<Operation>> {
        let operation = match (record, gone) {
            (Record::Operation(operation), None) => operation,
            (record, Some(Rejection::Deleted(_))) => {
                return Err(taken(record.name(), Reason::NameDeleted));
            }
            (record, _) => return Err(taken(record.name(), Reason::NameExpired)),
        };
        let ours = operation.uid == self.uid;
        if !ours && (self.request_id.is_empty() || operation.spec.request_id != self.request_id) {
            return Err(taken(&operation.name, Reason::OperationAlreadyExists));
        }
        if !ours && operation.spec.fingerprint != self.fingerprint {
            return Err(reused(&operation, &self.request_id));
        }
        Ok(operation)
    }
}

/// The name with the given id, with an id derived from the request id, or with a new id that sorts by time.
pub(super) fn name_for(context: &Context, caller: &Caller, wanted: &Start) -> Result<Name> {
    let keyspace = context.store.keyspace();
    let request_id = wanted.spec.request_id.as_str();
    let id = match &wanted.id {
        Some(id) => id.clone(),
        None if request_id.is_empty() => {
            let micros = context.clock.now().as_micros();
            let time = uuid::Timestamp::from_unix(
                uuid::NoContext,
                micros / 1_000_000,
                (micros % 1_000_000 * 1_000) as u32,
            );
            Id::from_uuid(Uuid::new_v7(time))
        }
        None => {
            let seed = [&caller.id, wanted.parent.as_str(), request_id].join("\0");
            Id::from_uuid(
                uuid::Builder::from_custom_bytes(keyspace.hash("request id", seed.as_bytes()))
                    .into_uuid(),
            )
        }
    };
    Ok(Name::new(&wanted.parent, &id)?)
}

fn taken(name: &Name, reason: Reason) -> Box<Error> {
    let message = match reason {
        Reason::NameExpired => {
            format!("{name} existed, has expired, and its name is not free again yet")
        }
        Reason::NameDeleted => format!("{name} was deleted, and its name is not free again yet"),
        _ => format!(
            "{name} exists already; choose another operation_id, or send the request_id that it was started with"
        ),
    };
    Error::about(reason, name, message)
}

fn reused(operation: &Operation, request_id: &str) -> Box<Error> {
    let message = format!(
        "request_id {request_id:?} started {} with other content before; use a new request_id",
        operation.name
    );
    Error::about(Reason::RequestIdReused, &operation.name, message).with("field", "request_id")
}
