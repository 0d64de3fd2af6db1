//! Tells a start that is sent again from another start of the same name.

use uuid::Uuid;

use crate::engine::error::{Error, Reason, Result};
use crate::operation::lease::Fingerprint;
use crate::operation::name::Name;
use crate::operation::{Operation, Record, Rejection};

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
