//! Whether an operation matches.
//!
//! A comparison with what is not there does not hold, `!=` included. A payload is decoded only for a condition that looks into
//! it. Where one is not at hand the answer is [`Verdict::Unknown`], unless the other conditions decide.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::proto::google::protobuf::Any;
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};

use super::condition::{Condition, Of, TYPE, Test, is_done};
use super::literal::{Number, Scalar};
use super::seen::{Lookup, Payload, Seen};
use super::syntax::Comparator;
use super::typed::Shape;
use crate::operation::payload::{type_name, type_url};
use crate::types::Registry;

/// Whether an operation matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Match,
    /// It does not.
    NoMatch,
    /// A payload decides that was not at hand ([`Lookup::Elsewhere`]).
    Unknown,
}

pub(super) fn evaluate(condition: &Condition, of: &dyn Seen, types: &Registry) -> Verdict {
    let subject = Subject { of, types, decoded: Default::default(), error: OnceCell::new() };
    match subject.holds(condition) {
        Some(true) => Verdict::Match,
        Some(false) => Verdict::NoMatch,
        None => Verdict::Unknown,
    }
}

/// One operation, whose payloads are decoded at most once.
struct Subject<'a> {
    of: &'a dyn Seen,
    types: &'a Registry,
    decoded: [OnceCell<Decoded<'a>>; 3],
    error: OnceCell<Option<DynamicMessage>>,
}

/// A payload as it was found.
enum Decoded<'a> {
    Absent,
    Here(Cow<'a, Any>, Option<DynamicMessage>),
    Elsewhere(&'a str),
}

impl<'a> Subject<'a> {
    fn holds(&self, condition: &Condition) -> Option<bool> {
        match condition {
            Condition::All(parts) => self.decide(parts, false),
            Condition::Any(parts) => self.decide(parts, true),
            Condition::Not(part) => self.holds(part).map(|holds| !holds),
            Condition::Test(test) => self.test(test),
        }
    }

    /// One part with the deciding answer decides; otherwise all must be known.
    fn decide(&self, parts: &[Condition], deciding: bool) -> Option<bool> {
        let mut answer = Some(!deciding);
        for part in parts {
            match self.holds(part) {
                Some(holds) if holds == deciding => return Some(deciding),
                Some(_) => {}
                None => answer = None,
            }
        }
        answer
    }

    fn test(&self, test: &Test) -> Option<bool> {
        let text = |text: &str| Some(scalar(Scalar::Text(text), text.is_empty(), test));
        match &test.of {
            Of::Name => text(self.of.name()),
            Of::Method => text(self.of.method()),
            Of::Queue => text(self.of.queue()),
            Of::Label(key) => match self.of.label(key) {
                // A key that is there is there, whatever its value.
                Some(value) => Some(scalar(Scalar::Text(value), false, test)),
                None => Some(false),
            },
            Of::State => Some(scalar(Scalar::Enum(self.of.state().as_str_name()), false, test)),
            Of::Done => {
                let done = is_done(self.of.state());
                Some(scalar(Scalar::Flag(done), !done, test))
            }
            Of::CreateTime => {
                let time = prost_types::Timestamp::from(self.of.create_time());
                Some(scalar(Scalar::Time(time.seconds, time.nanos), false, test))
            }
            Of::Progress => {
                let number = self.of.progress().map(|done| Scalar::Number(Number::Real(done)));
                Some(number.is_some_and(|number| scalar(number, false, test)))
            }
            Of::Error(path) => {
                let error = self.error();
                Some(error.is_some_and(|error| self.in_message(error, path, test)))
            }
            Of::Payload(payload, path) => self.in_payload(*payload, path, test),
        }
    }

    fn error(&self) -> Option<&DynamicMessage> {
        let decode = || {
            let (error, name) = (self.of.error()?, "google.rpc.Status");
            let any = Any { type_url: type_url(name), value: error.encode_to_vec().into() };
            self.types.decode(&any).ok()
        };
        self.error.get_or_init(decode).as_ref()
    }

    fn in_payload(&self, payload: Payload, path: &[String], test: &Test) -> Option<bool> {
        let decoded = self.decoded[payload as usize].get_or_init(|| self.look_up(payload));
        let present = path.is_empty() && test.literal.star;
        match (decoded, path) {
            (Decoded::Absent, _) => Some(false),
            (Decoded::Here(..) | Decoded::Elsewhere(_), []) if present => Some(true),
            (Decoded::Here(any, _), [first]) if first == TYPE => Some(is_type(&any.type_url, test)),
            (Decoded::Elsewhere(type_url), [first]) if first == TYPE => {
                Some(is_type(type_url, test))
            }
            (Decoded::Elsewhere(_), _) => None,
            (Decoded::Here(_, message), _) => {
                Some(message.as_ref().is_some_and(|message| self.in_message(message, path, test)))
            }
        }
    }

    fn look_up(&self, payload: Payload) -> Decoded<'a> {
        match self.of.payload(payload) {
            Lookup::Absent => Decoded::Absent,
            Lookup::Elsewhere { type_url } => Decoded::Elsewhere(type_url),
            Lookup::Here(any) => {
                let message = self.types.decode(&any).ok();
                Decoded::Here(any, message)
            }
        }
    }

    fn in_message(&self, message: &DynamicMessage, path: &[String], test: &Test) -> bool {
        let descriptor = message.descriptor();
        let shape = Shape::of(&descriptor);
        let field = |name: &str| descriptor.get_field_by_name(name);
        match (shape, path) {
            (Shape::Any, _) => self.in_any(message, path, test),
            (Shape::Struct, _) => {
                field("fields").is_some_and(|fields| self.in_field(message, &fields, path, test))
            }
            (Shape::List, _) => {
                field("values").is_some_and(|values| self.in_field(message, &values, path, test))
            }
            (Shape::Value, _) => message
                .fields()
                .next()
                .is_some_and(|(field, value)| self.in_value(value, &field.kind(), path, test)),
            (_, []) if is_presence(test) => true,
            (Shape::Time, []) => {
                test.literal.holds(instant(message, Scalar::Time), test.comparator)
            }
            (Shape::Span, []) => {
                test.literal.holds(instant(message, Scalar::Span), test.comparator)
            }
            (Shape::Wrapper, []) => {
                field("value").is_some_and(|value| self.in_field(message, &value, &[], test))
            }
            (Shape::Fields, []) => {
                // `m:field`
                let named = field(&test.literal.plain);
                test.comparator == Comparator::Has
                    && named.is_some_and(|named| message.has_field(&named))
            }
            (_, [first, rest @ ..]) => {
                field(first).is_some_and(|field| self.in_field(message, &field, rest, test))
            }
        }
    }

    fn in_any(&self, message: &DynamicMessage, path: &[String], test: &Test) -> bool {
        let Ok(any) = message.transcode_to::<Any>() else { return false };
        match path {
            [] if is_presence(test) => true,
            [first] if first == TYPE => is_type(&any.type_url, test),
            _ => self
                .types
                .decode_within(&any)
                .is_ok_and(|inner| self.in_message(&inner, path, test)),
        }
    }

    fn in_field(
        &self,
        message: &DynamicMessage,
        field: &FieldDescriptor,
        path: &[String],
        test: &Test,
    ) -> bool {
        if field.supports_presence() && !message.has_field(field) {
            return false;
        }
        self.in_value(&message.get_field(field), &field.kind(), path, test)
    }

    fn in_value(&self, value: &Value, kind: &Kind, path: &[String], test: &Test) -> bool {
        match (value, path) {
            (Value::Message(message), _) => self.in_message(message, path, test),
            (Value::List(values), []) if is_presence(test) => !values.is_empty(),
            (Value::List(values), _) => {
                test.comparator == Comparator::Has
                    && values.iter().any(|value| self.in_value(value, kind, path, test))
            }
            (Value::Map(values), []) => {
                let matches = |key: &MapKey| test.literal.star || test.literal.fits(&key_text(key));
                test.comparator == Comparator::Has && values.keys().any(matches)
            }
            (Value::Map(values), [key, rest @ ..]) => {
                let Kind::Message(entry) = kind else { return false };
                let kind = entry.map_entry_value_field().kind();
                let found = values.iter().find(|(known, _)| key_text(known) == *key);
                found.is_some_and(|(_, value)| {
                    // A key that is there is there, whatever its value.
                    (rest.is_empty() && is_presence(test))
                        || self.in_value(value, &kind, rest, test)
                })
            }
            (value, []) => in_scalar(value, kind, test),
            _ => false,
        }
    }
}

fn in_scalar(value: &Value, kind: &Kind, test: &Test) -> bool {
    let whole = |number: i128| Scalar::Number(Number::Whole(number));
    let name;
    let found = match (value, kind) {
        (Value::EnumNumber(_), Kind::Enum(values)) if is_null(values.full_name()) => Scalar::Null,
        (Value::EnumNumber(number), Kind::Enum(values)) => {
            name = values.get_value(*number).map(|value| value.name().to_owned());
            match &name {
                Some(name) => Scalar::Enum(name),
                None => return is_presence(test),
            }
        }
        (Value::Bool(flag), _) => Scalar::Flag(*flag),
        (Value::I32(number), _) => whole((*number).into()),
        (Value::I64(number), _) => whole((*number).into()),
        (Value::U32(number), _) => whole((*number).into()),
        (Value::U64(number), _) => whole((*number).into()),
        (Value::F32(number), _) => Scalar::Number(Number::Real((*number).into())),
        (Value::F64(number), _) => Scalar::Number(Number::Real(*number)),
        (Value::String(text), _) => Scalar::Text(text),
        (Value::Bytes(bytes), _) => return is_presence(test) && !bytes.is_empty(),
        _ => return false,
    };
    scalar(found, value.is_default(kind), test)
}

/// Compares, or says whether there is a value other than the default.
fn scalar(found: Scalar<'_>, is_default: bool, test: &Test) -> bool {
    if is_presence(test) { !is_default } else { test.literal.holds(found, test.comparator) }
}

/// `:*`
const fn is_presence(test: &Test) -> bool {
    matches!(test.comparator, Comparator::Has) && test.literal.star
}

/// A type is named by its URL, or by its full name alone.
fn is_type(url: &str, test: &Test) -> bool {
    let known = if test.literal.plain.contains('/') { url } else { type_name(url) };
    scalar(Scalar::Text(known), url.is_empty(), test)
}

fn instant(message: &DynamicMessage, scalar: fn(i64, i32) -> Scalar<'static>) -> Scalar<'static> {
    let part = |name: &str| message.get_field_by_name(name);
    let seconds = part("seconds").and_then(|seconds| seconds.as_i64()).unwrap_or_default();
    scalar(seconds, part("nanos").and_then(|nanos| nanos.as_i32()).unwrap_or_default())
}

fn is_null(name: &str) -> bool {
    name == "google.protobuf.NullValue"
}

fn key_text(key: &MapKey) -> Cow<'_, str> {
    match key {
        MapKey::String(text) => Cow::Borrowed(text),
        MapKey::Bool(flag) => flag.to_string().into(),
        MapKey::I32(number) => number.to_string().into(),
        MapKey::I64(number) => number.to_string().into(),
        MapKey::U32(number) => number.to_string().into(),
        MapKey::U64(number) => number.to_string().into(),
    }
}
