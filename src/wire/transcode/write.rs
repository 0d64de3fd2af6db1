//! Messages as canonical proto3 JSON, payloads of unknown types included.

use std::collections::{BTreeMap, BTreeSet};

use base64::display::Base64Display;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage, Value};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::operation::name::ancestry;
use crate::proto::google::protobuf::Any;
use crate::types::Registry;

/// Types by the parent of the operation whose payloads are of them.
pub type TypesByParent = BTreeMap<String, Registry>;

/// A message as JSON. prost-reflect writes this too, but fails at payloads whose type it does not know.
pub struct MessageJson<'a> {
    message: &'a DynamicMessage,
    types: &'a Registry,
    parents: &'a TypesByParent,
}

impl<'a> MessageJson<'a> {
    /// The JSON of a message whose payloads are of these types.
    pub const fn new(message: &'a DynamicMessage, types: &'a Registry) -> Self {
        Self { message, types, parents: &NO_PARENTS }
    }

    /// The same, where operations of these parents have types of their own.
    #[must_use]
    pub const fn with_parents(self, parents: &'a TypesByParent) -> Self {
        Self { parents, ..self }
    }
}

/// The types of the payloads in a message: those of its parent if it is an operation, or else `types`.
pub fn types_of<'a>(
    message: &DynamicMessage,
    types: &'a Registry,
    parents: &'a TypesByParent,
) -> &'a Registry {
    if parents.is_empty() {
        return types;
    }
    name_of(message).and_then(|name| parents.get(parent_of(&name))).unwrap_or(types)
}

/// The parents of all operations in a message.
pub fn parents_in(message: &DynamicMessage, found: &mut BTreeSet<String>) {
    if let Some(name) = name_of(message) {
        found.insert(parent_of(&name).to_owned());
        return;
    }
    for (_, value) in message.fields() {
        match value {
            Value::Message(inner) => parents_in(inner, found),
            Value::List(values) => {
                values.iter().filter_map(Value::as_message).for_each(|it| parents_in(it, found));
            }
            _ => {}
        }
    }
}

/// The name of an operation.
fn name_of(message: &DynamicMessage) -> Option<String> {
    if !OPERATIONS.contains(&message.descriptor().full_name()) {
        return None;
    }
    Some(message.get_field_by_name("name")?.as_str()?.to_owned())
}

fn parent_of(name: &str) -> &str {
    ancestry(name).first().copied().unwrap_or_default()
}

/// A value of a field of that kind.
struct Field<'a> {
    value: &'a Value,
    kind: &'a Kind,
    types: &'a Registry,
    parents: &'a TypesByParent,
}

impl Serialize for MessageJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (message, parents) = (self.message, self.parents);
        let types = types_of(message, self.types, parents);
        let descriptor = message.descriptor();
        if descriptor.full_name() == ANY {
            let any = message.transcode_to::<Any>().map_err(serde::ser::Error::custom)?;
            return types.any(&any).serialize(serializer);
        }
        if descriptor.package_name() == WELL_KNOWN {
            return message.serialize(serializer);
        }
        let mut object = serializer.serialize_map(None)?;
        for (field, value) in message.fields() {
            let kind = &field.kind();
            object.serialize_entry(field.json_name(), &Field { value, kind, types, parents })?;
        }
        object.end()
    }
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, types, parents) = (self.kind, self.types, self.parents);
        match self.value {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            Value::I64(value) => serializer.collect_str(value),
            Value::U64(value) => serializer.collect_str(value),
            Value::F32(value) => {
                float(f64::from(*value), serializer, |serializer| serializer.serialize_f32(*value))
            }
            Value::F64(value) => {
                float(*value, serializer, |serializer| serializer.serialize_f64(*value))
            }
            Value::String(value) => serializer.serialize_str(value),
            Value::Bytes(value) => {
                serializer.collect_str(&Base64Display::new(value, &BASE64_STANDARD))
            }
            Value::EnumNumber(number) => {
                let named = kind.as_enum().and_then(|values| values.get_value(*number));
                match named {
                    Some(value) => serializer.serialize_str(value.name()),
                    None => serializer.serialize_i32(*number),
                }
            }
            Value::Message(message) => {
                MessageJson { message, types, parents }.serialize(serializer)
            }
            Value::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&Field { value, kind, types, parents })?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let kind = match kind {
                    Kind::Message(entry) => &entry.map_entry_value_field().kind(),
                    other => other,
                };
                let mut entries: Vec<_> =
                    entries.iter().map(|(key, value)| (text(key), value)).collect();
                // The same map is the same text, always.
                entries.sort_by(|(one, _), (other, _)| one.cmp(other));
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(&key, &Field { value, kind, types, parents })?;
                }
                map.end()
            }
        }
    }
}

fn float<S: Serializer>(
    value: f64,
    serializer: S,
    finite: impl FnOnce(S) -> Result<S::Ok, S::Error>,
) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        return finite(serializer);
    }
    serializer.serialize_str(match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    })
}

fn text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

static NO_PARENTS: TypesByParent = BTreeMap::new();
/// Messages that hold the payloads of one operation.
const OPERATIONS: [&str; 2] = ["google.longrunning.Operation", "longhaul.v1.OperationRecord"];
const ANY: &str = "google.protobuf.Any";
/// Types of this package have JSON forms of their own.
const WELL_KNOWN: &str = "google.protobuf";

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::proto::DESCRIPTORS;
    use crate::proto::google::rpc::Status;
    use crate::proto::longhaul::v1 as pb;

    fn pool() -> DescriptorPool {
        DescriptorPool::decode(DESCRIPTORS).expect("definitions")
    }

    fn written(name: &str, message: &impl Message) -> serde_json::Value {
        let types = Registry::builtin();
        let descriptor = pool().get_message_by_name(name).expect(name);
        let message =
            DynamicMessage::decode(descriptor, &message.encode_to_vec()[..]).expect("a message");
        serde_json::to_value(MessageJson::new(&message, &types)).expect("JSON")
    }

    #[test]
    fn a_message_is_written_as_canonical_json() {
        let metadata = pb::OperationMetadata {
            create_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            state: pb::operation_record::State::Running.into(),
            progress: Some(pb::Progress {
                fraction: Some(0.5),
                completed_units: 1 << 60,
                ..Default::default()
            }),
            ..Default::default()
        };
        let options = pb::OperationOptions {
            labels: [("b", "2"), ("a", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            cancel_grace: Some(prost_types::Duration { seconds: 5, nanos: 500_000_000 }),
            ..Default::default()
        };
        let record = pb::OperationRecord {
            name: "operations/x".to_owned(),
            server_metadata: Some(metadata),
            options: Some(options),
            ..Default::default()
        };
        let expected = json!({
            "name": "operations/x",
            "serverMetadata": {
                "createTime": "1970-01-01T00:00:01Z",
                "state": "RUNNING",
                "progress": { "fraction": 0.5, "completedUnits": "1152921504606846976" },
            },
            "options": { "labels": { "a": "1", "b": "2" }, "cancelGrace": "5.500s" },
        });
        assert_eq!(written("longhaul.v1.OperationRecord", &record), expected);
        assert_eq!(
            written("longhaul.v1.OperationRecord", &pb::OperationRecord::default()),
            json!({})
        );
        let unknown = pb::OperationMetadata { state: 99, ..Default::default() };
        assert_eq!(written("longhaul.v1.OperationMetadata", &unknown), json!({ "state": 99 }));
        let infinite = pb::Progress { fraction: Some(f64::NAN), ..Default::default() };
        assert_eq!(written("longhaul.v1.Progress", &infinite), json!({ "fraction": "NaN" }));
    }

    #[test]
    fn a_payload_of_an_unknown_type_is_written_as_its_bytes() {
        let unknown =
            Any { type_url: "type.googleapis.com/a.B".to_owned(), value: vec![1, 2].into() };
        let empty = "type.googleapis.com/google.protobuf.Empty";
        let known = Any { type_url: empty.to_owned(), value: Vec::new().into() };
        let status = Status { code: 5, message: String::new(), details: vec![unknown, known] };
        let expected = json!({
            "code": 5,
            "details": [
                { "@type": "type.googleapis.com/a.B", "@value": "AQI=" },
                { "@type": empty },
            ],
        });
        assert_eq!(written("google.rpc.Status", &status), expected);
    }
}
