//! Payloads as they are stored: common types as numbers, the usual prefix of type URLs left out.

use bytes::Bytes;

use crate::operation::payload::{Detached, Payload, TYPE_URL_PREFIX};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::store::v1 as stored;

/// Types with a number, from 1. The table only grows at its end: stored records hold the numbers.
const KNOWN: [&str; 12] = [
    "google.protobuf.Empty",
    "google.protobuf.Struct",
    "google.protobuf.Value",
    "google.protobuf.ListValue",
    "google.protobuf.StringValue",
    "google.protobuf.BytesValue",
    "google.protobuf.Int64Value",
    "google.protobuf.DoubleValue",
    "google.protobuf.BoolValue",
    "google.protobuf.Any",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
];

pub(super) fn encode_any(any: &Any) -> stored::Message {
    use stored::message::Type;
    let kind = match any.type_url.strip_prefix(TYPE_URL_PREFIX) {
        None => Type::Url(any.type_url.clone()),
        Some(name) => KNOWN
            .iter()
            .position(|known| *known == name)
            .map_or_else(|| Type::Name(name.to_owned()), |number| Type::Known(number as u32 + 1)),
    };
    stored::Message { value: any.value.clone(), r#type: Some(kind) }
}

pub(super) fn decode_any(message: stored::Message) -> Option<Any> {
    use stored::message::Type;
    let type_url = match message.r#type? {
        Type::Url(url) => url,
        Type::Name(name) => [TYPE_URL_PREFIX, &name].concat(),
        Type::Known(number) => {
            let name = KNOWN.get((number as usize).checked_sub(1)?)?;
            [TYPE_URL_PREFIX, name].concat()
        }
    };
    Some(Any { type_url, value: message.value })
}

pub(in crate::record) fn encode(payload: &Payload) -> stored::Payload {
    use stored::payload::Place;
    let place = match payload {
        Payload::Inline(any) => Place::Inline(encode_any(any)),
        Payload::Detached(detached) => Place::Detached(encode_detached(detached)),
    };
    stored::Payload { place: Some(place) }
}

/// The outer `None` is damage, the inner one absence.
#[expect(clippy::option_option, reason = "damage and absence are two things")]
pub(in crate::record) fn decode(stored: Option<stored::Payload>) -> Option<Option<Payload>> {
    use stored::payload::Place;
    match stored.map(|payload| payload.place) {
        None => Some(None),
        Some(Some(Place::Inline(message))) => Some(Some(Payload::Inline(decode_any(message)?))),
        Some(Some(Place::Detached(detached))) => {
            Some(Some(Payload::Detached(decode_detached(&detached)?)))
        }
        Some(None) => None,
    }
}

/// The name of a payload's body, if it has one.
pub(super) fn encode_body(payload: &Payload) -> Option<stored::Detached> {
    match payload {
        Payload::Inline(_) => None,
        Payload::Detached(detached) => Some(encode_detached(detached)),
    }
}

fn encode_detached(detached: &Detached) -> stored::Detached {
    stored::Detached {
        type_url: detached.type_url.clone(),
        size: detached.size,
        nonce: Bytes::copy_from_slice(&detached.nonce),
    }
}

pub(super) fn decode_detached(stored: &stored::Detached) -> Option<Detached> {
    let nonce = stored.nonce.as_ref().try_into().ok()?;
    Some(Detached { type_url: stored.type_url.clone(), size: stored.size, nonce })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_url_reads_back_as_it_was() {
        let known = KNOWN.map(|name| [TYPE_URL_PREFIX, name].concat());
        let others = ["type.googleapis.com/a.B", "example.com/a.B", "a.B", ""];
        for type_url in known.into_iter().chain(others.map(str::to_owned)) {
            let any = Any { type_url, value: vec![1, 2].into() };
            assert_eq!(decode_any(encode_any(&any)), Some(any));
        }
        let unknown = stored::message::Type::Known(KNOWN.len() as u32 + 1);
        let message = stored::Message { r#type: Some(unknown), value: Bytes::new() };
        assert_eq!(decode_any(message), None);
    }
}
