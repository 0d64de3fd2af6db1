//! Encodes messages so that the same content always gives the same bytes: the entries of a map in the order of their keys.
//!
//! prost-reflect keeps maps in hash tables and writes them in a random order. A repeated start is recognised by its bytes.

use bytes::BufMut;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage, Value};

use super::registry::Registry;
use crate::operation::payload::type_name;
use crate::proto::google::protobuf::Any;

/// Encodes a message.
pub(super) fn encoded(types: &Registry, message: &DynamicMessage) -> Vec<u8> {
    if !has_order(message) {
        return message.encode_to_vec();
    }
    if let Some(any) = payload(types, message) {
        return any.encode_to_vec();
    }
    let mut bytes = Vec::new();
    for (field, value) in message.fields() {
        let alone = || {
            let mut alone = DynamicMessage::new(message.descriptor());
            alone.set_field(&field, value.clone());
            alone.encode_to_vec()
        };
        match (value, field.kind()) {
            (Value::Map(entries), Kind::Message(entry)) => {
                let mut entries: Vec<(&MapKey, &Value)> = entries.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                for (key, value) in entries {
                    let mut pair = DynamicMessage::new(entry.clone());
                    pair.set_field(&entry.map_entry_key_field(), key.clone().into());
                    pair.set_field(&entry.map_entry_value_field(), value.clone());
                    put(&mut bytes, field.number(), &encoded(types, &pair));
                }
            }
            (_, _) if field.is_group() => bytes.extend(alone()),
            (Value::Message(inner), _) => put(&mut bytes, field.number(), &encoded(types, inner)),
            (Value::List(items), Kind::Message(_)) => {
                for inner in items.iter().filter_map(Value::as_message) {
                    put(&mut bytes, field.number(), &encoded(types, inner));
                }
            }
            _ => bytes.extend(alone()),
        }
    }
    let mut extensions = DynamicMessage::new(message.descriptor());
    for (extension, value) in message.extensions() {
        extensions.set_extension(&extension, value.clone());
    }
    bytes.extend(extensions.encode_to_vec());
    bytes
}

/// Whether a message has parts whose order is open: maps, or payloads that may hold some.
fn has_order(message: &DynamicMessage) -> bool {
    fn of_value(value: &Value) -> bool {
        match value {
            Value::Map(_) => true,
            Value::Message(message) => has_order(message),
            Value::List(values) => values.iter().any(of_value),
            _ => false,
        }
    }
    message.descriptor().full_name() == ANY || message.fields().any(|(_, value)| of_value(value))
}

/// A payload of a known type, encoded in that order too.
fn payload(types: &Registry, message: &DynamicMessage) -> Option<Any> {
    if message.descriptor().full_name() != ANY {
        return None;
    }
    let any = message.transcode_to::<Any>().ok()?;
    let inner = types.decoded(type_name(&any.type_url), &any.value).ok()?;
    Some(Any { value: encoded(types, &inner).into(), ..any })
}

fn put(bytes: &mut Vec<u8>, number: u32, inner: &[u8]) {
    encode_key(number, WireType::LengthDelimited, bytes);
    encode_varint(inner.len() as u64, bytes);
    bytes.put_slice(inner);
}

const ANY: &str = "google.protobuf.Any";

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    /// Many keys, so that two random orders are not the same by chance.
    fn entries(backwards: bool) -> Json {
        let mut keys: Vec<u32> = (0..40).collect();
        if backwards {
            keys.reverse();
        }
        let fields: Vec<String> = keys.iter().map(|key| format!("\"k{key}\": \"v\"")).collect();
        serde_json::from_str(&format!("{{{}}}", fields.join(","))).expect("JSON")
    }

    #[test]
    fn the_same_message_has_the_same_bytes_whatever_the_order_of_its_maps() {
        let types = Registry::builtin();
        let info = |backwards| {
            json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "R",
                "metadata": entries(backwards),
            })
        };
        let inside = |backwards| {
            json!({
                "@type": "type.googleapis.com/google.rpc.Status",
                "code": 5,
                "details": [info(backwards), { "@type": "type.googleapis.com/google.protobuf.Struct", "value": entries(backwards) }],
            })
        };
        for value in [&info as &dyn Fn(bool) -> Json, &inside] {
            let first = types.read_any(&value(false)).expect("a payload");
            for _ in 0..4 {
                assert_eq!(types.read_any(&value(true)).expect("a payload"), first);
            }
            let shown = types.any(&first);
            assert_eq!(shown, value(false), "nothing is lost");
        }
    }
}
