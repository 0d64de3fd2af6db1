//! Messages from JSON, each fault named by its field.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde_json::{Map, Value as Json};

use crate::engine::{Error, Reason, Result};
use crate::types::Registry;
use crate::types::json::JsonError;

/// Reads a message. Where a payload is expected, an object without `@type` is a Struct.
pub fn message(
    types: &Registry,
    descriptor: MessageDescriptor,
    object: Map<String, Json>,
) -> Result<DynamicMessage> {
    object_at(types, descriptor, object, "")
}

fn object_at(
    types: &Registry,
    descriptor: MessageDescriptor,
    object: Map<String, Json>,
    path: &str,
) -> Result<DynamicMessage> {
    let mut message = DynamicMessage::new(descriptor.clone());
    for (key, value) in object {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let Some(field) = field(&descriptor, &key) else {
            return Err(Error::field(&path, format!("{} has no field {path}", descriptor.name())));
        };
        if value.is_null() && !takes_null(&field) {
            continue;
        }
        if message.has_field(&field) {
            return Err(Error::field(&path, format!("{path} is given twice")));
        }
        if let Some(other) = rival(&message, &field) {
            let message = format!("{path} excludes {}; give one of them", other.json_name());
            return Err(Error::field(&path, message));
        }
        let value = read(types, &field, value, &path)?;
        message.set_field(&field, value);
    }
    Ok(message)
}

/// The field of that name, in either spelling.
pub fn field(descriptor: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    descriptor.get_field_by_json_name(key).or_else(|| descriptor.get_field_by_name(key))
}

/// The other field of its oneof that is set already.
fn rival(message: &DynamicMessage, field: &FieldDescriptor) -> Option<FieldDescriptor> {
    let oneof = field.containing_oneof()?;
    oneof.fields().find(|other| message.has_field(other))
}

/// In a `google.protobuf.Value`, null is a value.
fn takes_null(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.Value")
}

fn read(types: &Registry, field: &FieldDescriptor, value: Json, path: &str) -> Result<Value> {
    let Kind::Message(descriptor) = field.kind() else { return plain(field, value, path) };
    if field.is_map() {
        return plain(field, value, path);
    }
    if !field.is_list() {
        return Ok(Value::Message(element(types, field, descriptor, value, path)?));
    }
    let Json::Array(values) = value else {
        return Err(Error::field(path, format!("{path} must be an array")));
    };
    let elements = values.into_iter().enumerate().map(|(index, value)| {
        let path = format!("{path}[{index}]");
        Ok(Value::Message(element(types, field, descriptor.clone(), value, &path)?))
    });
    elements.collect::<Result<Vec<_>>>().map(Value::List)
}

/// A message that is a field, or one of a list.
fn element(
    types: &Registry,
    field: &FieldDescriptor,
    descriptor: MessageDescriptor,
    value: Json,
    path: &str,
) -> Result<DynamicMessage> {
    if descriptor.full_name() == "google.protobuf.Any" {
        let any = types.read_any(&value).map_err(|error| unread(path, &error))?;
        let mut message = DynamicMessage::new(descriptor);
        return match message.transcode_from(&any) {
            Ok(()) => Ok(message),
            Err(error) => Err(Error::internal(&error)),
        };
    }
    if descriptor.package_name() == "google.protobuf" {
        let value = if field.is_list() { Json::Array(vec![value]) } else { value };
        let read = plain(field, value, path)?;
        let first = match read {
            Value::List(mut values) => values.pop(),
            single => Some(single),
        };
        return match first {
            Some(Value::Message(message)) => Ok(message),
            _ => Err(Error::field(path, format!("{path} must not be null"))),
        };
    }
    match value {
        Json::Object(object) => object_at(types, descriptor, object, path),
        _ => Err(Error::field(path, format!("{path} must be an object"))),
    }
}

/// A payload cannot be read. Its type being unknown is a reason of its own.
fn unread(path: &str, error: &JsonError) -> Box<Error> {
    let message = format!("{path}: {error}");
    match error {
        JsonError::Unfit(_) => Error::field(path, message),
        JsonError::UnknownType(name) => {
            Error::new(Reason::UnknownType, message).with("field", path).with("type", name)
        }
    }
}

/// What holds no message that this module reads itself: prost-reflect reads it, as a message with that field alone.
fn plain(field: &FieldDescriptor, value: Json, path: &str) -> Result<Value> {
    let alone = Map::from_iter([(field.json_name().to_owned(), value)]);
    let message = DynamicMessage::deserialize(field.parent_message().clone(), Json::Object(alone))
        .map_err(|error| Error::field(path, format!("{path} cannot be read: {error}")))?;
    Ok(message.get_field(field).into_owned())
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::proto::DESCRIPTORS;
    use crate::proto::longhaul::v1 as pb;

    fn pool() -> DescriptorPool {
        DescriptorPool::decode(DESCRIPTORS).expect("definitions")
    }

    fn read<M: Message + Default>(name: &str, value: Json) -> Result<M> {
        let types = Registry::builtin();
        let descriptor = pool().get_message_by_name(name).expect(name);
        let Json::Object(object) = value else { panic!("an object") };
        let message = super::message(&types, descriptor, object)?;
        Ok(M::decode(&message.encode_to_vec()[..]).expect("a message"))
    }

    fn start(value: Json) -> Result<pb::StartOperationRequest> {
        read("longhaul.v1.StartOperationRequest", value)
    }

    #[test]
    fn a_message_is_read_from_canonical_json_in_either_spelling() {
        let request = start(json!({
            "parent": "projects/p",
            "operation_id": "x",
            "request": { "rows": 7 },
            "responseType": null,
            "initialMetadata": {
                "@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.5s"
            },
            "options": {
                "priority": "-3",
                "labels": { "a": "b" },
                "ttl": "3600s",
                "scheduleTime": "2030-01-01T00:00:00+01:00",
                "metadataPolicy": "NONE",
                "retryPolicy": { "maxAttempts": 2, "retryableCodes": ["ABORTED", 4] },
                "callbacks": [],
            },
        }))
        .expect("a start");
        let options = request.options.expect("options");
        assert_eq!((&*request.parent, &*request.operation_id), ("projects/p", "x"));
        assert_eq!(
            request.request.expect("a request").type_url,
            "type.googleapis.com/google.protobuf.Struct"
        );
        assert_eq!(
            request.initial_metadata.expect("metadata").type_url,
            "type.googleapis.com/google.protobuf.Duration"
        );
        assert_eq!((options.priority, options.metadata_policy), (-3, 2));
        assert_eq!(options.labels["a"], "b");
        assert_eq!(options.retry_policy.expect("a policy").retryable_codes, [10, 4]);
        assert_eq!(options.schedule_time.expect("a time").seconds, 1_893_452_400);
        assert_eq!(start(json!({})).expect("a start"), pb::StartOperationRequest::default());
    }

    #[test]
    fn a_fault_is_named_by_its_field() {
        for (value, field, part) in [
            (json!({ "nothing": 1 }), "nothing", "has no field"),
            (json!({ "options": { "nothing": 1 } }), "options.nothing", "has no field"),
            (json!({ "options": 1 }), "options", "an object"),
            (json!({ "options": { "priority": 1.5 } }), "options.priority", "cannot be read"),
            (
                json!({ "options": { "priority": 1_u64 << 40 } }),
                "options.priority",
                "cannot be read",
            ),
            (json!({ "options": { "ttl": 5 } }), "options.ttl", "cannot be read"),
            (json!({ "options": { "ttl": "5000ms" } }), "options.ttl", "cannot be read"),
            (json!({ "options": { "metadataPolicy": "SOME" } }), "options.metadataPolicy", "SOME"),
            (json!({ "options": { "labels": { "a": 1 } } }), "options.labels", "cannot be read"),
            (json!({ "options": { "callbacks": {} } }), "options.callbacks", "an array"),
            (
                json!({ "options": { "callbacks": [{}, { "x": 1 }] } }),
                "options.callbacks[1].x",
                "no field",
            ),
            (
                json!({ "options": { "ttl": "1s", "expireTime": "2030-01-01T00:00:00Z" } }),
                "options.ttl",
                "excludes expireTime",
            ),
            (json!({ "operationId": "a", "operation_id": "b" }), "operation_id", "twice"),
            (json!({ "request": { "@type": "type.googleapis.com/a.B" } }), "request", "a.B"),
            (
                json!({ "request": { "@type": "type.googleapis.com/a.B", "@value": "!" } }),
                "request",
                "base64",
            ),
            (json!({ "validateOnly": "yes" }), "validateOnly", "cannot be read"),
            (json!({ "parent": ["a"] }), "parent", "cannot be read"),
        ] {
            let error = start(value.clone()).expect_err(&value.to_string());
            let found = error.metadata.get("field").map(String::as_str);
            assert_eq!(found, Some(field), "{value}: {error}");
            assert!(error.message.contains(part), "{value}: {error}");
        }
    }

    #[test]
    fn lists_of_payloads_and_of_well_known_types_are_read() {
        let request: pb::FailOperationRequest = read(
            "longhaul.v1.FailOperationRequest",
            json!({ "error": { "code": 5, "details": [{ "a": 1 }, "text"] } }),
        )
        .expect("a failure");
        let details = request.error.expect("an error").details;
        let types: Vec<&str> =
            details.iter().map(|any| any.type_url.rsplit('.').next().expect("a name")).collect();
        assert_eq!(types, ["Struct", "Value"]);
        let error = read::<pb::FailOperationRequest>(
            "longhaul.v1.FailOperationRequest",
            json!({ "error": { "details": [{}, { "@type": 1 }] } }),
        );
        assert_eq!(error.expect_err("a fault").metadata["field"], "error.details[1]");
    }
}
