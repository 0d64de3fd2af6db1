//! Whether a path and a value fit a message whose type is known.

use prost_reflect::{FieldDescriptor, Kind as FieldKind, MessageDescriptor};

use super::error::meant;
use super::literal::{Kind, Literal, equality_only};
use super::syntax::Comparator;

/// How a message is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// By its fields.
    Fields,
    /// As the message that it holds.
    Any,
    /// As a map.
    Struct,
    /// As what it holds.
    Value,
    /// As a list.
    List,
    /// As an instant.
    Time,
    /// As a duration.
    Span,
    /// As its only value.
    Wrapper,
}

impl Shape {
    pub(super) fn of(message: &MessageDescriptor) -> Self {
        let Some(name) = message.full_name().strip_prefix("google.protobuf.") else {
            return Self::Fields;
        };
        match name {
            "Any" => Self::Any,
            "Struct" => Self::Struct,
            "Value" => Self::Value,
            "ListValue" => Self::List,
            "Timestamp" => Self::Time,
            "Duration" => Self::Span,
            "BoolValue" | "BytesValue" | "DoubleValue" | "FloatValue" | "Int32Value"
            | "Int64Value" | "StringValue" | "UInt32Value" | "UInt64Value" => Self::Wrapper,
            _ => Self::Fields,
        }
    }
}

/// Checks `path comparator literal` in a message.
pub(super) fn check(
    message: &MessageDescriptor,
    path: &[String],
    comparator: Comparator,
    literal: &Literal,
) -> Result<(), String> {
    let shape = Shape::of(message);
    let Some((first, rest)) = path.split_first() else {
        return check_end(message, shape, comparator, literal);
    };
    match shape {
        // What they hold is known only when it is there.
        Shape::Any | Shape::Struct | Shape::Value | Shape::List => Ok(()),
        Shape::Fields | Shape::Time | Shape::Span | Shape::Wrapper => {
            check_field(&named(message, first)?, rest, comparator, literal)
        }
    }
}

fn check_end(
    message: &MessageDescriptor,
    shape: Shape,
    comparator: Comparator,
    literal: &Literal,
) -> Result<(), String> {
    if comparator == Comparator::Has && literal.star {
        return Ok(());
    }
    match shape {
        Shape::Value => Ok(()),
        Shape::Time => literal.check(Kind::Time, comparator),
        Shape::Span => literal.check(Kind::Span, comparator),
        Shape::Wrapper => {
            named(message, "value").and_then(|field| check_field(&field, &[], comparator, literal))
        }
        Shape::Any | Shape::Struct | Shape::List if comparator == Comparator::Has => Ok(()),
        Shape::Fields if comparator == Comparator::Has => {
            named(message, &literal.plain).map(|_| ())
        }
        _ => Err(format!(
            "{} is a message, which has no {}; compare a field of it, or ask whether it is there by :*",
            message.full_name(),
            comparator.as_str()
        )),
    }
}

fn check_field(
    field: &FieldDescriptor,
    path: &[String],
    comparator: Comparator,
    literal: &Literal,
) -> Result<(), String> {
    let has = comparator == Comparator::Has;
    if field.is_map() {
        let value = match field.kind() {
            FieldKind::Message(entry) => entry.map_entry_value_field(),
            _ => return Ok(()),
        };
        return match path {
            [] if has => Ok(()),
            [] => Err(format!("{0} is a map; write {0}.KEY, or {0}:KEY", field.name())),
            [_key, rest @ ..] => check_kind(&value, rest, comparator, literal),
        };
    }
    if field.is_list() && !has {
        return Err(format!(
            "{0} is repeated; ask by {0}:VALUE whether it holds a value",
            field.name()
        ));
    }
    check_kind(field, path, comparator, literal)
}

fn check_kind(
    field: &FieldDescriptor,
    path: &[String],
    comparator: Comparator,
    literal: &Literal,
) -> Result<(), String> {
    let kind = field.kind();
    if let FieldKind::Message(message) = &kind {
        return check(message, path, comparator, literal);
    }
    if let Some(more) = path.first() {
        return Err(format!("{} has no field {more}", field.name()));
    }
    if comparator == Comparator::Has && literal.star {
        return Ok(());
    }
    let kind = match kind {
        FieldKind::Enum(values) => {
            equality_only(comparator, "enum values")?;
            let names: Vec<String> = values.values().map(|value| value.name().to_owned()).collect();
            if names.contains(&literal.plain) {
                return Ok(());
            }
            let hint = meant(&literal.plain, names.iter().map(String::as_str));
            let hint = hint.unwrap_or_else(|| format!("there are {}", names.join(", ")));
            return Err(format!("{:?} is no {}; {hint}", literal.plain, values.full_name()));
        }
        FieldKind::Bytes => {
            let name = field.name();
            return Err(format!("{name} holds bytes; ask only whether there are any, by {name}:*"));
        }
        FieldKind::String => Kind::Text,
        FieldKind::Bool => Kind::Flag,
        FieldKind::Double | FieldKind::Float => Kind::Real,
        _ => Kind::Whole,
    };
    literal.check(kind, comparator).map_err(|why| format!("{}: {why}", field.name()))
}

/// The field of that name, as it is written in the definition.
fn named(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    if let Some(field) = message.get_field_by_name(name) {
        return Ok(field);
    }
    let names: Vec<String> = message.fields().map(|field| field.name().to_owned()).collect();
    let hint = meant(name, names.iter().map(String::as_str));
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    Err(format!("{} has no field {name}{hint}", message.full_name()))
}
