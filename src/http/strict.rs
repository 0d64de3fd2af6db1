//! What Google's REST clients cannot read, kept from them.
//!
//! They read payloads strictly: one `@type` that they do not know and the whole reply is lost, and those that know the type
//! read `@value` as an empty message, silently. Such a client says `x-goog-api-client`.

use crate::proto::google::protobuf::Any;
use http::HeaderMap;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use crate::engine::{Error, Reason, Result};
use crate::operation::payload::type_name;
use crate::proto::google::longrunning::{Operation as Published, operation::Result as Outcome};
use crate::types::Registry;
use crate::wire::transcode::write::{TypesByParent, types_of};

/// Whether the client reads strictly.
pub(super) fn is_strict(headers: &HeaderMap) -> bool {
    headers.contains_key("x-goog-api-client")
}

/// Takes out of each Operation what its caller may not know: the server's own metadata, metadata of unknown types, and the
/// details of errors. A response of an unknown type cannot be left out.
pub(super) fn adapt(
    message: &mut DynamicMessage,
    types: &Registry,
    parents: &TypesByParent,
) -> Result<()> {
    let types = types_of(message, types, parents);
    if message.descriptor().full_name() == "google.longrunning.Operation" {
        return adapt_operation(message, types);
    }
    for (_, value) in message.fields_mut() {
        match value {
            Value::Message(message) => adapt(message, types, parents)?,
            Value::List(values) => {
                for message in values.iter_mut().filter_map(Value::as_message_mut) {
                    adapt(message, types, parents)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The same of an Operation that is no dynamic message.
pub(super) fn adapt_published(operation: &mut Published, types: &Registry) -> Result<()> {
    let is_foreign = |any: &Any| is_foreign(type_name(&any.type_url), types);
    operation.metadata = operation.metadata.take().filter(|metadata| !is_foreign(metadata));
    match &mut operation.result {
        Some(Outcome::Error(error)) => error.details.clear(),
        Some(Outcome::Response(response)) => check_response(type_name(&response.type_url), types)?,
        None => {}
    }
    Ok(())
}

/// Whether metadata of that type is left out.
fn is_foreign(name: &str, types: &Registry) -> bool {
    name.starts_with("longhaul.") || !types.knows(name)
}

fn check_response(name: &str, types: &Registry) -> Result<()> {
    if types.knows(name) {
        return Ok(());
    }
    let message = format!(
        "the response is a {name}, whose JSON is not known here; create a type set for its parent, or start the server with --descriptor-set"
    );
    Err(Error::new(Reason::UnknownResponse, message).with("type", name))
}

fn adapt_operation(operation: &mut DynamicMessage, types: &Registry) -> Result<()> {
    let payload = |operation: &DynamicMessage, field: &str| {
        let is_set = operation.has_field_by_name(field);
        let value = operation.get_field_by_name(field).filter(|_| is_set)?;
        value.as_message()?.transcode_to::<Any>().ok()
    };
    let metadata = payload(operation, "metadata");
    if metadata.is_some_and(|metadata| is_foreign(type_name(&metadata.type_url), types)) {
        operation.clear_field_by_name("metadata");
    }
    if let Some(response) = payload(operation, "response") {
        check_response(type_name(&response.type_url), types)?;
    }
    if operation.has_field_by_name("error")
        && let Some(Value::Message(error)) = operation.get_field_by_name_mut("error")
    {
        error.clear_field_by_name("details");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::http::routes::pool;
    use crate::proto::google::longrunning::{ListOperationsResponse, Operation, operation};
    use crate::proto::google::rpc::Status;

    fn any(name: &str) -> Any {
        Any { type_url: format!("type.googleapis.com/{name}"), value: Vec::new().into() }
    }

    fn adapted(operation: Operation) -> Result<Operation> {
        let list = ListOperationsResponse { operations: vec![operation], ..Default::default() };
        let descriptor = pool().get_message_by_name("google.longrunning.ListOperationsResponse");
        let descriptor = descriptor.expect("a descriptor");
        let mut message =
            DynamicMessage::decode(descriptor, &list.encode_to_vec()[..]).expect("a message");
        adapt(&mut message, &Registry::builtin(), &TypesByParent::new())?;
        let list = message.transcode_to::<ListOperationsResponse>().expect("a list");
        Ok(list.operations.into_iter().next().expect("an operation"))
    }

    #[test]
    fn strict_clients_get_no_type_that_they_may_not_know() {
        for (metadata, kept) in [
            ("longhaul.v1.OperationMetadata", false),
            ("a.B", false),
            ("google.protobuf.Struct", true),
        ] {
            let operation = Operation { metadata: Some(any(metadata)), ..Default::default() };
            let found = adapted(operation).expect("an operation").metadata.is_some();
            assert_eq!(found, kept, "{metadata}");
        }
        let error = Status { code: 5, message: "m".to_owned(), details: vec![any("a.B")] };
        let failed =
            Operation { result: Some(operation::Result::Error(error)), ..Default::default() };
        let Some(operation::Result::Error(error)) = adapted(failed).expect("an operation").result
        else {
            panic!("an error");
        };
        assert_eq!((error.code, &*error.message, error.details.len()), (5, "m", 0));
        let response = |name: &str| Operation {
            result: Some(operation::Result::Response(any(name))),
            ..Default::default()
        };
        assert!(adapted(response("google.protobuf.Empty")).is_ok());
        let refused = adapted(response("a.B")).expect_err("a refusal");
        assert!(refused.message.contains("a.B") && refused.message.contains("--descriptor-set"));
    }
}
