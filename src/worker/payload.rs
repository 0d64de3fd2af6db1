//! Conversion of the user's own messages to and from `Any`.

use prost::{Message, Name};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::proto::google::protobuf::Any;
use crate::types::json::check_numbers;

/// A response type: every prost message that knows its name, and [`Json`] of every type that serde can write.
pub trait Pack {
    /// As a payload.
    ///
    /// # Panics
    /// If [`Self::try_pack`] fails.
    fn pack(&self) -> Any;

    /// As a payload.
    ///
    /// # Errors
    /// Names the value that a payload cannot hold exactly.
    fn try_pack(&self) -> Result<Any, Unpackable> {
        Ok(self.pack())
    }
}

/// A request type: every prost message that knows its name, and [`Json`] of every type that serde can read.
pub trait Unpack: Sized {
    /// From a payload.
    ///
    /// # Errors
    /// If it has another type or is damaged.
    fn unpack(any: &Any) -> Result<Self, TypeMismatch>;

    /// The value for a missing payload.
    ///
    /// # Errors
    /// If the type has none.
    fn absent() -> Result<Self, TypeMismatch>;
}

/// Any type that serde reads and writes, as `google.protobuf.Struct` if it is a JSON object, else as
/// `google.protobuf.Value`. Needs no definitions. Numbers are doubles: integers beyond 2^53, of either sign, are refused,
/// and so are maps whose keys are not strings.
///
/// A handler that returns a refused value fails its operation with INTERNAL and the reason; [`Pack::pack`] panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// Why a value cannot be a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unpackable(String);

/// A payload of another type than expected, or a damaged one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeMismatch {
    /// Of another type.
    #[error("it is a {found}, not a {wanted}")]
    Other {
        /// The expected type.
        wanted: String,
        /// The type of the payload.
        found: String,
    },
    /// Damaged.
    #[error("it is not a valid {wanted}: {fault}")]
    Damaged {
        /// The expected type.
        wanted: String,
        /// What is wrong with it.
        fault: String,
    },
}

impl<T: Message + Name> Pack for T {
    fn pack(&self) -> Any {
        any(&T::full_name(), self)
    }
}

impl<T: Message + Name + Default> Unpack for T {
    fn unpack(any: &Any) -> Result<Self, TypeMismatch> {
        let (wanted, found) = (T::full_name(), type_name(any));
        if found != wanted {
            return Err(TypeMismatch::Other { wanted, found: found.to_owned() });
        }
        decoded(&wanted, any)
    }

    fn absent() -> Result<Self, TypeMismatch> {
        Ok(T::default())
    }
}

impl<T: Serialize> Pack for Json<T> {
    fn pack(&self) -> Any {
        self.try_pack().unwrap_or_else(|refused| panic!("{refused}"))
    }

    fn try_pack(&self) -> Result<Any, Unpackable> {
        let json = serde_json::to_value(&self.0).map_err(|error| Unpackable(error.to_string()))?;
        check_numbers(&json).map_err(|inexact| Unpackable(inexact.to_string()))?;
        Ok(match to_value(json) {
            Value { kind: Some(Kind::StructValue(object)) } => any(STRUCT, &object),
            value => any(VALUE, &value),
        })
    }
}

impl<T: DeserializeOwned> Unpack for Json<T> {
    fn unpack(any: &Any) -> Result<Self, TypeMismatch> {
        let kind = match type_name(any) {
            STRUCT => Some(Kind::StructValue(decoded(STRUCT, any)?)),
            VALUE => decoded::<Value>(VALUE, any)?.kind,
            LIST => Some(Kind::ListValue(decoded(LIST, any)?)),
            found => {
                let (wanted, found) = (STRUCT.to_owned(), found.to_owned());
                return Err(TypeMismatch::Other { wanted, found });
            }
        };
        Self::read(from_kind(kind))
    }

    fn absent() -> Result<Self, TypeMismatch> {
        Self::read(serde_json::Value::Null)
    }
}

impl<T: DeserializeOwned> Json<T> {
    fn read(json: serde_json::Value) -> Result<Self, TypeMismatch> {
        serde_json::from_value(json).map(Self).map_err(|error| TypeMismatch::Damaged {
            wanted: std::any::type_name::<T>().to_owned(),
            fault: error.to_string(),
        })
    }
}

fn any(type_name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{type_name}"),
        value: message.encode_to_vec().into(),
    }
}

fn type_name(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

fn decoded<T: Message + Default>(wanted: &str, any: &Any) -> Result<T, TypeMismatch> {
    T::decode(&any.value[..]).map_err(|error| TypeMismatch::Damaged {
        wanted: wanted.to_owned(),
        fault: error.to_string(),
    })
}

fn to_value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(to_value).collect() })
        }
        Json::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, to_value(value)));
            Kind::StructValue(Struct { fields: fields.collect() })
        }
    };
    Value { kind: Some(kind) }
}

fn from_kind(kind: Option<Kind>) -> serde_json::Value {
    match kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        // Whole numbers are read as such, so that integers can be asked for.
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() <= EXACT => {
            (number as i64).into()
        }
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::ListValue(list)) => {
            list.values.into_iter().map(|value| from_kind(value.kind)).collect()
        }
        Some(Kind::StructValue(object)) => {
            let fields = object.fields.into_iter();
            fields.map(|(name, value)| (name, from_kind(value.kind))).collect()
        }
    }
}

const STRUCT: &str = "google.protobuf.Struct";
const VALUE: &str = "google.protobuf.Value";
const LIST: &str = "google.protobuf.ListValue";
/// Up to here a double holds every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_reads_back_as_it_was_written() {
        for value in [
            json!({"a": 1, "b": [true, null, {"c": "d"}], "e": -2.5}),
            json!([1, "two"]),
            json!("text"),
            json!(null),
            json!(9_007_199_254_740_992_i64),
            json!(-9_007_199_254_740_992_i64),
        ] {
            let packed = Json(value.clone()).pack();
            assert_eq!(Json::unpack(&packed), Ok(Json(value)));
        }
        assert!(Json(json!({})).pack().type_url.ends_with("/google.protobuf.Struct"));
        assert_eq!(Json::<Option<u8>>::absent(), Ok(Json(None)));
    }

    #[test]
    fn an_integer_that_a_double_cannot_hold_is_refused_by_its_path() {
        for (value, path) in [
            (json!({"items": [{"id": 9_007_199_254_740_993_i64}]}), "items[0].id"),
            (json!({"id": -9_007_199_254_740_993_i64}), "id"),
            (json!({"id": u64::MAX}), "id"),
        ] {
            let refused = Json(value).try_pack().expect_err(path).to_string();
            assert!(refused.contains(&format!("at {path} ")), "{refused}");
        }
        assert!(Json(u128::MAX).try_pack().is_err());
        assert!(Json(std::collections::BTreeMap::from([((1, 2), 3)])).try_pack().is_err());
    }

    #[test]
    fn what_is_of_another_type_says_of_which() {
        let duration = prost_types::Duration { seconds: 1, nanos: 0 }.pack();
        assert_eq!(prost_types::Duration::unpack(&duration).map(|read| read.seconds), Ok(1));
        let wrong = prost_types::Timestamp::unpack(&duration).expect_err("another type");
        assert!(wrong.to_string().contains("google.protobuf.Duration, not"), "{wrong}");
        assert!(Json::<u8>::unpack(&duration).is_err());
        let wrong = Json::<u8>::unpack(&Json("x").pack()).expect_err("no number");
        assert!(matches!(wrong, TypeMismatch::Damaged { .. }));
    }
}
