//! The stored value around a kind's message, and the mark of its format.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{
    WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len,
};

use crate::proto::longhaul::store::v1 as stored;

/// The format of a value. It follows the kind's message.
pub(super) fn format(value: &Bytes) -> u32 {
    let mut rest = &value[..];
    while let Ok((number, wire_type)) = decode_key(&mut rest) {
        match (number, wire_type) {
            (FORMAT_NUMBER, WireType::Varint) => {
                return decode_varint(&mut rest).map_or(1, |format| format as u32);
            }
            (_, WireType::LengthDelimited) => match decode_varint(&mut rest) {
                Ok(length) if length <= rest.len() as u64 => rest = &rest[length as usize..],
                _ => return 1,
            },
            _ => return 1,
        }
    }
    1
}

/// Marks a value as written in that format. Values of format 1 bear no mark.
pub(super) fn stamped(value: Bytes, format: u32) -> Bytes {
    if format <= 1 {
        return value;
    }
    let mark = stored::Record { kind: None, format };
    [&value[..], &mark.encode_to_vec()].concat().into()
}

/// The number of the field that holds the kind's message.
pub(super) fn kind_number(value: &Bytes) -> Option<u32> {
    decode_key(&mut &value[..]).ok().map(|(number, _)| number)
}

/// The kind's message in a stored value.
pub(super) fn unwrap(value: &Bytes) -> Option<stored::record::Kind> {
    stored::Record::decode(value.clone()).ok()?.kind
}

/// The value that stores a kind's message, whose field has that number.
pub(super) fn wrap(number: u32, message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let all = key_len(number) + encoded_len_varint(length as u64) + length;
    let mut value = Vec::with_capacity(all);
    encode_key(number, WireType::LengthDelimited, &mut value);
    encode_varint(length as u64, &mut value);
    message.encode_raw(&mut value);
    value.into()
}

/// The number of `longhaul.store.v1.Record.format`.
const FORMAT_NUMBER: u32 = 15;
