//! Messages as proto3 JSON, payloads of the user's types included as far as they are known.
//!
//! A payload of an unknown type goes out as `{"@type": T, "@value": "<base64>"}`, and is taken in so too.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, SerializeOptions};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::registry::Registry;
use super::sorted;
use crate::operation::payload::{EMPTY, type_name, type_url};
use crate::proto::google::longrunning::{Operation, operation};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1::{OperationRecord, OperationStats};

/// Why a JSON text is no payload.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JsonError {
    /// It is not valid, or does not fit its type.
    #[error("{0}")]
    Unfit(String),
    /// Its type is not known.
    #[error(
        "the type {0} is not known here; send its bytes as {{\"@type\": \"{url}\", \"@value\": \"<base64>\"}}, or start the server with --descriptor-set",
        url = type_url(.0)
    )]
    UnknownType(String),
}

impl Registry {
    /// An Operation, with nothing but its own fields.
    pub fn operation(&self, operation: &Operation) -> Value {
        let mut object = Map::new();
        object.insert("name".to_owned(), operation.name.clone().into());
        if let Some(metadata) = &operation.metadata {
            object.insert("metadata".to_owned(), self.any(metadata));
        }
        if operation.done {
            object.insert("done".to_owned(), true.into());
        }
        match &operation.result {
            Some(operation::Result::Response(response)) => {
                drop(object.insert("response".to_owned(), self.any(response)));
            }
            Some(operation::Result::Error(error)) => {
                drop(object.insert("error".to_owned(), self.status(error)));
            }
            None => {}
        }
        object.into()
    }

    /// Counts of operations.
    pub fn stats(&self, stats: &OperationStats) -> Value {
        let value = self.json_of("longhaul.v1.OperationStats", &stats.encode_to_vec());
        value.unwrap_or_else(|| json!({}))
    }

    /// A record with its operation and its request.
    pub fn record(&self, record: &OperationRecord) -> Value {
        let bare = OperationRecord { operation: None, request: None, ..record.clone() };
        let mut value = self
            .json_of("longhaul.v1.OperationRecord", &bare.encode_to_vec())
            .unwrap_or_else(|| json!({ "name": record.name }));
        if let Some(object) = value.as_object_mut() {
            object.extend(
                record
                    .operation
                    .as_ref()
                    .map(|operation| ("operation".to_owned(), self.operation(operation))),
            );
            object.extend(
                record.request.as_ref().map(|request| ("request".to_owned(), self.any(request))),
            );
        }
        value
    }

    /// A payload.
    pub fn any(&self, any: &Any) -> Value {
        let name = type_name(&any.type_url);
        // Strict parsers want Empty without a value.
        if name == EMPTY {
            return json!({ "@type": any.type_url });
        }
        match self.json_of(name, &any.value) {
            Some(Value::Object(mut fields)) if !is_special(name) => {
                fields.insert("@type".to_owned(), any.type_url.clone().into());
                fields.into()
            }
            Some(value) => json!({ "@type": any.type_url, "value": value }),
            None => json!({ "@type": any.type_url, "@value": BASE64_STANDARD.encode(&any.value) }),
        }
    }

    /// What a payload says, without its type where that is plain from the JSON: objects are Structs by custom.
    pub fn bare(&self, any: &Any) -> Value {
        match type_name(&any.type_url) {
            name @ ("google.protobuf.Struct"
            | "google.protobuf.Value"
            | "google.protobuf.ListValue") => {
                self.json_of(name, &any.value).unwrap_or_else(|| self.any(any))
            }
            _ => self.any(any),
        }
    }

    /// What a payload says, without its type. The bytes of an unknown type keep it.
    pub fn plain(&self, any: &Any) -> Value {
        let mut value = self.any(any);
        let Some(object) = value.as_object_mut() else { return value };
        if object.contains_key("@value") {
            return value;
        }
        object.remove("@type");
        if is_special(type_name(&any.type_url)) {
            return object.remove("value").unwrap_or(Value::Null);
        }
        value
    }

    /// Reads a payload from a JSON text; see [`Self::read_any`].
    ///
    /// # Errors
    /// Says what is no JSON, or does not fit.
    pub fn read_text(&self, text: &str) -> Result<Any, JsonError> {
        let value = parse(text)?;
        self.read_any(&value)
    }

    /// Reads a payload: an object without `@type` is a Struct, anything else that is no object a Value.
    ///
    /// # Errors
    /// Says what does not fit, or which type is not known.
    pub fn read_any(&self, value: &Value) -> Result<Any, JsonError> {
        let Some(object) = value.as_object() else {
            return self.read_message("google.protobuf.Value", value);
        };
        let Some(wanted) = object.get("@type") else {
            return self.read_message("google.protobuf.Struct", value);
        };
        let wanted = wanted.as_str().ok_or_else(|| unfit("@type must be a text"))?;
        let name = type_name(wanted);
        if let Some(encoded) = object.get("@value").and_then(Value::as_str) {
            check_members(object, name, &["@type", "@value"])?;
            let value = BASE64_STANDARD
                .decode(encoded)
                .map_err(|error| unfit(format!("@value of {name} is no base64: {error}")))?;
            return Ok(Any { type_url: type_url(name), value: value.into() });
        }
        if name == EMPTY {
            check_members(object, name, &["@type", "value"])?;
            return Ok(Any { type_url: type_url(name), value: Bytes::new() });
        }
        if is_special(name) {
            check_members(object, name, &["@type", "value"])?;
            return self.read_message(name, object.get("value").unwrap_or(&Value::Null));
        }
        let mut fields = object.clone();
        fields.remove("@type");
        self.read_message(name, &fields.into())
    }

    /// Reads a message of a known type.
    ///
    /// # Errors
    /// Says what does not fit, or that the type is not known.
    pub fn read_message(&self, name: &str, value: &Value) -> Result<Any, JsonError> {
        let descriptor =
            self.message(name).ok_or_else(|| JsonError::UnknownType(name.to_owned()))?;
        if matches!(name, STRUCT | VALUE | LIST) {
            check_numbers(value).map_err(|fault| unfit(fault.to_string()))?;
        }
        if name == ANY && value.is_object() {
            self.read_any(value)?;
        }
        let options = DeserializeOptions::new();
        let message = DynamicMessage::deserialize_with_options(descriptor, value, &options)
            .map_err(|error| unfit(format!("this is no {name}: {error}")))?;
        Ok(Any { type_url: type_url(name), value: sorted::encoded(self, &message).into() })
    }

    /// Whether the type's JSON is known.
    pub fn knows(&self, name: &str) -> bool {
        self.message(name).is_some()
    }

    /// An error with its details.
    pub fn status(&self, status: &Status) -> Value {
        let mut object = Map::new();
        object.insert("code".to_owned(), status.code.into());
        object.insert("message".to_owned(), status.message.clone().into());
        if !status.details.is_empty() {
            object.insert(
                "details".to_owned(),
                status.details.iter().map(|detail| self.any(detail)).collect(),
            );
        }
        object.into()
    }

    /// A message of that type; `None` if it is not known, or the bytes are no such message.
    pub fn json_of(&self, name: &str, bytes: &[u8]) -> Option<Value> {
        let message = self.decoded(name, bytes).ok()?;
        let options = SerializeOptions::new();
        let value = message.serialize_with_options(serde_json::value::Serializer, &options).ok()?;
        Some(with_whole_numbers(value))
    }
}

/// Reads a JSON text in which no integer is changed by reading it.
///
/// # Errors
/// Says what is no JSON, or which integer is too large.
pub fn parse(text: &str) -> Result<Value, JsonError> {
    let value =
        serde_json::from_str(text).map_err(|error| unfit(format!("not valid JSON: {error}")))?;
    // Beyond 64 bits the parser itself makes a double of an integer, so the text is looked at.
    let raw = serde_json::from_str(text).map_err(|error| unfit(error.to_string()))?;
    check_raw(raw, &mut String::new()).map_err(|fault| unfit(fault.to_string()))?;
    Ok(value)
}

fn unfit(message: impl Into<String>) -> JsonError {
    JsonError::Unfit(message.into())
}

/// Refuses members that the form of a payload does not have.
fn check_members(object: &Map<String, Value>, name: &str, known: &[&str]) -> Result<(), JsonError> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(unfit(format!(
            "a payload of the type {name} has no member {key} here; {} are its members",
            known.join(" and ")
        ))),
    }
}

/// An integer that a double cannot hold, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the integer {number} at {} is beyond 2^53 and would change, as numbers in a google.protobuf.Struct are doubles; send it as a string, or in a message of a type of your own",
    if path.is_empty() { "the top" } else { path }
)]
pub struct InexactNumber {
    /// As in `items[3].id`.
    pub path: String,
    /// The integer.
    pub number: String,
}

/// Whether all integers are the same as doubles: those between -2^53 and 2^53 are.
///
/// # Errors
/// Names the first that is not.
pub fn check_numbers(value: &Value) -> Result<(), InexactNumber> {
    check(value, &mut String::new())
}

fn check(value: &Value, path: &mut String) -> Result<(), InexactNumber> {
    match value {
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            match magnitude {
                Some(magnitude) if magnitude > MAX_EXACT => {
                    Err(InexactNumber { path: path.clone(), number: number.to_string() })
                }
                _ => Ok(()),
            }
        }
        Value::Array(values) => values.iter().enumerate().try_for_each(|(index, value)| {
            step(path, &format!("[{index}]"), |path| check(value, path))
        }),
        Value::Object(fields) => fields
            .iter()
            .try_for_each(|(key, value)| step(path, &dotted(key), |path| check(value, path))),
        _ => Ok(()),
    }
}

/// Finds integers beyond 64 bits; the others are exact in a [`Value`].
fn check_raw(raw: &RawValue, path: &mut String) -> Result<(), InexactNumber> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> =
                serde_json::from_str(text).unwrap_or_default();
            fields
                .iter()
                .try_for_each(|(key, raw)| step(path, &dotted(key), |path| check_raw(raw, path)))
        }
        Some(b'[') => {
            let values: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            values.iter().enumerate().try_for_each(|(index, raw)| {
                step(path, &format!("[{index}]"), |path| check_raw(raw, path))
            })
        }
        Some(b'-' | b'0'..=b'9') => {
            let whole = !text.contains(['.', 'e', 'E']);
            let fits = text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok();
            if whole && !fits {
                let number = text.chars().take(MAX_SHOWN).collect();
                return Err(InexactNumber { path: path.clone(), number });
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn step<T>(path: &mut String, part: &str, inside: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    path.push_str(if length == 0 { part.trim_start_matches('.') } else { part });
    let outcome = inside(path);
    path.truncate(length);
    outcome
}

fn dotted(key: &str) -> String {
    format!(".{key}")
}

/// What is 7 stays 7: protobuf's JSON has only doubles in a Struct, but programs tell 7.0 and 7 apart.
fn with_whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(whole) if whole.fract() == 0.0 && whole.abs() <= EXACT => (whole as i64).into(),
            _ => number.into(),
        },
        Value::Array(values) => values.into_iter().map(with_whole_numbers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, with_whole_numbers(value))).collect()
        }
        other => other,
    }
}

/// Up to here every whole number is a double of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The same, of integers.
const MAX_EXACT: u64 = 1 << 53;
/// Digits of a number that a message shows.
const MAX_SHOWN: usize = 40;
const STRUCT: &str = "google.protobuf.Struct";
const VALUE: &str = "google.protobuf.Value";
const LIST: &str = "google.protobuf.ListValue";
const ANY: &str = "google.protobuf.Any";

/// Well-known types that have a JSON form of their own, which an Any holds as `value`.
fn is_special(name: &str) -> bool {
    const SPECIAL: [&str; 16] = [
        "Any",
        "BoolValue",
        "BytesValue",
        "DoubleValue",
        "Duration",
        "FieldMask",
        "FloatValue",
        "Int32Value",
        "Int64Value",
        "ListValue",
        "StringValue",
        "Struct",
        "Timestamp",
        "UInt32Value",
        "UInt64Value",
        "Value",
    ];
    name.strip_prefix("google.protobuf.").is_some_and(|name| SPECIAL.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry::builtin()
    }

    #[test]
    fn payloads_of_known_types_read_back_as_they_were() {
        for text in [
            r#"{"a": 1.5, "b": [true, null, {"c": "d"}]}"#,
            r#"{"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.500s"}"#,
            r#"{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R", "domain": "d", "metadata": {"k": "v"}}"#,
            r#"{"@type": "type.googleapis.com/google.protobuf.Empty"}"#,
            r#"{"@type": "type.googleapis.com/a.B", "@value": "AQI="}"#,
            "[1, -2.5, 0, 1e300]",
            r#""text""#,
        ] {
            let value: Value = serde_json::from_str(text).expect(text);
            let any = registry().read_any(&value).expect(text);
            assert_eq!(registry().bare(&any), value, "{text}");
        }
    }

    #[test]
    fn what_is_no_payload_is_refused_by_its_type() {
        for (text, part) in [
            (r#"{"@type": "type.googleapis.com/a.B", "x": 1}"#, "a.B is not known"),
            (
                r#"{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "x": 1}"#,
                "google.rpc.ErrorInfo",
            ),
            (r#"{"@type": 1}"#, "@type"),
            (r#"{"@type": "a.B", "@value": "!"}"#, "base64"),
            (r#"{"@type": "a.B", "@value": "", "x": 1}"#, "no member x"),
            (r#"{"@type": "google.protobuf.Empty", "x": 1}"#, "no member x"),
            (r#"{"@type": "google.protobuf.Duration", "value": "1s", "x": 1}"#, "no member x"),
        ] {
            let value: Value = serde_json::from_str(text).expect(text);
            let error = registry().read_any(&value).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_integer_that_a_double_cannot_hold_is_refused_by_its_path() {
        for (text, path) in [
            (r#"{"id": 9007199254740993}"#, "at id "),
            (r#"{"a": {"b": [1, {"id": -9007199254740993}]}}"#, "at a.b[1].id "),
            (r#"{"id": 18446744073709551615}"#, "at id "),
            (r#"{"id": 18446744073709551616}"#, "at id "),
            (r"[-9223372036854775809]", "at [0] "),
            ("9223372036854775807", "at the top "),
            (
                r#"{"@type": "type.googleapis.com/google.protobuf.Value", "value": [9007199254740993]}"#,
                "at [0] ",
            ),
            (
                r#"{"@type": "type.googleapis.com/google.protobuf.Any", "value": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"id": 9007199254740993}}}"#,
                "at id ",
            ),
        ] {
            let error = registry().read_text(text).expect_err(text).to_string();
            assert!(error.contains(path) && error.contains("as a string"), "{error}");
        }
        for text in [
            r#"{"id": 9007199254740992, "other": -9007199254740992, "ratio": 0.1, "large": 1e300}"#,
            r#"{"@type": "type.googleapis.com/google.protobuf.Int64Value", "value": 9007199254740993}"#,
            r#"{"id": "9007199254740993"}"#,
        ] {
            registry().read_text(text).expect(text);
        }
        assert!(registry().read_text(r#"{"x": 1e400}"#).is_err());
    }

    #[test]
    fn an_operation_has_no_fields_but_its_own() {
        let metadata = Any { type_url: type_url("google.protobuf.Struct"), value: Bytes::new() };
        let operation = Operation {
            name: "operations/x".to_owned(),
            metadata: Some(metadata),
            done: true,
            result: Some(operation::Result::Error(Status {
                code: 5,
                message: "m".to_owned(),
                details: Vec::new(),
            })),
        };
        let value = registry().operation(&operation);
        let expected = json!({
            "name": "operations/x",
            "metadata": { "@type": "type.googleapis.com/google.protobuf.Struct", "value": {} },
            "done": true,
            "error": { "code": 5, "message": "m" },
        });
        assert_eq!(value, expected);
    }
}
