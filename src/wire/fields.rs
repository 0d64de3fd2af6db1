//! Single fields. A value out of bounds is refused with the field's name, the value and the bound.

use std::time::Duration;

use bytes::Bytes;

use crate::code::Code;

use crate::clock::{Timestamp, length};
use crate::engine::{Error, Reason, Result};
use crate::limits::{MAX_DURATION, MAX_ERROR_BYTES, MAX_NAME_BYTES};
use crate::operation::lease::{Fingerprint, Token};
use crate::operation::name::Name;
use crate::operation::payload::{self, TYPE_URL_PREFIX, type_url};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;

/// An operation's name.
pub fn name(text: &str) -> Result<Name> {
    Name::parse(text).map_err(|error| Box::<Error>::from(error).with("field", "name"))
}

/// A lease token.
pub fn token(text: &str) -> Result<Token> {
    u128::from_str_radix(text, 16)
        .ok()
        .filter(|_| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(|token| Token(token.to_be_bytes()))
        .ok_or_else(|| {
            Error::field(
                "lease_token",
                "lease_token must be the one that came with the lease: 32 hexadecimal digits",
            )
        })
}

/// A lease token's text.
pub fn token_text(token: Token) -> String {
    format!("{:032x}", u128::from_be_bytes(token.0))
}

/// A text of bounded length.
pub fn text(field: &str, text: String, max_bytes: usize) -> Result<String> {
    check_text(field, &text, max_bytes)?;
    Ok(text)
}

/// Checks the length of a text.
pub fn check_text(field: &str, text: &str, max_bytes: usize) -> Result<()> {
    if text.len() <= max_bytes {
        return Ok(());
    }
    let message = format!("{field} has {} bytes, at most {max_bytes} are allowed", text.len());
    Err(Error::field(field, message).with("limit", max_bytes))
}

/// A duration that is not negative.
pub fn duration(field: &str, duration: Option<prost_types::Duration>) -> Result<Option<Duration>> {
    let Some(duration) = duration else { return Ok(None) };
    let valid = length(&duration).filter(|duration| *duration <= MAX_DURATION);
    valid.map(Some).ok_or_else(|| {
        let sign = if duration.seconds < 0 || duration.nanos < 0 { "-" } else { "" };
        let (seconds, nanos) = (duration.seconds.unsigned_abs(), duration.nanos.unsigned_abs());
        let message = format!(
            "{field} is {sign}{seconds}.{nanos:09} s; it must be between 0 and {} s",
            MAX_DURATION.as_secs()
        );
        Error::field(field, message)
    })
}

/// A duration that is positive.
pub fn positive_duration(
    field: &str,
    value: Option<prost_types::Duration>,
) -> Result<Option<Duration>> {
    match duration(field, value)? {
        Some(Duration::ZERO) => {
            Err(Error::field(field, format!("{field} is 0; leave it out for no bound")))
        }
        duration => Ok(duration),
    }
}

/// A time between 1970 and 9999, in microseconds.
pub fn timestamp(
    field: &str,
    timestamp: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>> {
    let Some(timestamp) = timestamp else { return Ok(None) };
    let last = i64::try_from(Timestamp::MAX.as_micros() / 1_000_000).unwrap_or(i64::MAX);
    if (0..=last).contains(&timestamp.seconds) && (0..1_000_000_000).contains(&timestamp.nanos) {
        return Ok(Some(Timestamp::from(&timestamp)));
    }
    let message = format!(
        "{field} is {} s and {} ns after 1970; it must lie between 1970 and 9999",
        timestamp.seconds, timestamp.nanos
    );
    Err(Error::field(field, message))
}

/// A payload of bounded size, with its type URL in the form that all clients understand.
pub fn any(field: &str, any: Option<Any>, max_bytes: usize) -> Result<Option<Any>> {
    let Some(any) = any else { return Ok(None) };
    if any.value.len() > max_bytes {
        let message = format!(
            "{field} has {} bytes, at most {max_bytes} are allowed; store it elsewhere and send a reference",
            any.value.len()
        );
        return Err(Error::new(Reason::PayloadTooLarge, message)
            .with("field", field)
            .with("limit", max_bytes)
            .with("size", any.value.len()));
    }
    if any.type_url.is_empty() {
        return Err(Error::field(
            &format!("{field}.type_url"),
            format!("{field} has no type_url; it looks like type.googleapis.com/package.Message"),
        ));
    }
    let name = checked_type_name(&any.type_url)
        .ok_or_else(|| no_type_name(&format!("{field}.type_url"), &any.type_url))?;
    let type_url = if any.type_url.strip_prefix(TYPE_URL_PREFIX) == Some(name) {
        any.type_url
    } else {
        type_url(name)
    };
    Ok(Some(Any { type_url, value: own(any.value) }))
}

/// A slice of a request keeps the whole request in memory, which may be a batch, for as long as the slice exists. So a
/// payload that may be a small part of its request gets bytes of its own.
pub(super) fn own(value: Bytes) -> Bytes {
    if value.len() > MAX_COPIED_BYTES { value } else { Bytes::copy_from_slice(&value) }
}

/// The full name of a message, given bare or as a type URL; empty stays empty.
pub fn type_name(field: &str, text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    checked_type_name(text).map(str::to_owned).ok_or_else(|| no_type_name(field, text))
}

fn checked_type_name(text: &str) -> Option<&str> {
    let name = payload::type_name(text);
    let of_name = |part: &str| {
        let starts =
            part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        starts && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    (name.len() <= MAX_NAME_BYTES && name.split('.').all(of_name)).then_some(name)
}

fn no_type_name(field: &str, text: &str) -> Box<Error> {
    let shown: String = text.chars().take(80).collect();
    Error::field(
        field,
        format!("{field} is {shown:?}, which is no full name of a message such as package.Message"),
    )
}

/// The error of an operation or an attempt.
pub fn error(field: &str, status: Option<Status>) -> Result<Status> {
    use prost::Message;
    let status = status.ok_or_else(|| Error::field(field, format!("{field} must be set")))?;
    if !(1..=16).contains(&status.code) {
        let message =
            format!("{field}.code is {}; it must be a google.rpc.Code from 1 to 16", status.code);
        return Err(Error::field(&format!("{field}.code"), message));
    }
    if status.message.is_empty() {
        let message = format!(
            "{field}.message is empty; say what went wrong, code {:?} alone does not",
            Code::from_number(status.code)
        );
        return Err(Error::field(&format!("{field}.message"), message));
    }
    let size = status.encoded_len();
    if size > MAX_ERROR_BYTES {
        let message = format!("{field} has {size} bytes, at most {MAX_ERROR_BYTES} are allowed");
        return Err(Error::new(Reason::PayloadTooLarge, message)
            .with("field", field)
            .with("limit", MAX_ERROR_BYTES)
            .with("size", size));
    }
    Ok(status)
}

/// Refuses a field that has no effect yet if it is set.
pub fn not_yet(field: &str, is_set: bool) -> Result<()> {
    if !is_set {
        return Ok(());
    }
    Err(Error::new(
        Reason::Unimplemented,
        format!("{field} has no effect in this version; leave it out"),
    )
    .with("field", field))
}

/// Hashes the content of a call, part by part and in place: a payload is not copied.
#[derive(Debug, Default)]
pub struct Fingerprinter(blake3::Hasher);

impl Fingerprinter {
    /// Adds a part.
    pub fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes()).update(bytes);
    }

    /// Adds a payload, which may be absent.
    pub fn any(&mut self, any: Option<&Any>) {
        self.part(any.map_or(&[], |any| any.type_url.as_bytes()));
        self.part(any.map_or(&[], |any| &any.value));
    }

    /// Adds a message that holds no payload.
    pub fn message(&mut self, message: &impl prost::Message) {
        self.part(&message.encode_to_vec());
    }

    /// The fingerprint of all parts.
    pub fn finish(&self) -> Fingerprint {
        self.0.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
    }
}

/// A copy of this size takes a microsecond or two.
const MAX_COPIED_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of<T: std::fmt::Debug>(result: Result<T>) -> (Reason, String) {
        let error = result.expect_err("refused");
        (error.reason, error.metadata.get("field").cloned().unwrap_or_default())
    }

    #[test]
    fn durations_and_instants_out_of_bounds_are_refused_by_name() {
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        assert_eq!(
            field_of(duration("wait", Some(negative))),
            (Reason::InvalidArgument, "wait".into())
        );
        let endless = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
        assert!(duration("wait", Some(endless)).is_err());
        for seconds in [i64::MIN, i64::MAX] {
            let edge = prost_types::Duration { seconds, nanos: 0 };
            assert!(duration("wait", Some(edge)).is_err(), "{seconds}");
        }
        assert!(positive_duration("wait", Some(prost_types::Duration::default())).is_err());
        for (seconds, nanos) in [(-1, 0), (i64::MAX, 0), (0, -1), (0, 1_000_000_000)] {
            assert!(
                timestamp("at", Some(prost_types::Timestamp { seconds, nanos })).is_err(),
                "{seconds} {nanos}"
            );
        }
    }

    #[test]
    fn type_urls_are_brought_to_one_form_and_nonsense_is_refused() {
        for url in ["type.googleapis.com/a.B", "example.com/x/a.B", "a.B", "/a.B"] {
            let any = Any { type_url: url.to_owned(), value: vec![1].into() };
            assert_eq!(
                super::any("request", Some(any), 1).expect(url).expect("set").type_url,
                "type.googleapis.com/a.B"
            );
        }
        for url in ["", "/", "a..B", "a.1", "a b", "type.googleapis.com/"] {
            let any = Any { type_url: url.to_owned(), value: Bytes::new() };
            assert!(super::any("request", Some(any), 1).is_err(), "{url}");
        }
        let large = Any { type_url: "a.B".to_owned(), value: vec![0; 2].into() };
        assert_eq!(
            field_of(super::any("request", Some(large), 1)),
            (Reason::PayloadTooLarge, "request".into())
        );
    }

    #[test]
    fn errors_have_a_code_from_1_to_16_and_a_message() {
        let status = |code, message: &str| {
            Some(Status { code, message: message.to_owned(), details: Vec::new() })
        };
        assert!(error("error", status(1, "x")).is_ok() && error("error", status(16, "x")).is_ok());
        for status in [
            None,
            status(0, "x"),
            status(17, "x"),
            status(404, "x"),
            status(5, ""),
            status(5, &"x".repeat(20_000)),
        ] {
            assert!(error("error", status).is_err());
        }
    }

    #[test]
    fn lease_tokens_read_back_and_others_are_refused() {
        let own = Token([0xab; 16]);
        assert_eq!(token(&token_text(own)).expect("own"), own);
        for text in ["", "xyz", "+0000000000000000000000000000000", "00"] {
            assert!(token(text).is_err(), "{text}");
        }
    }
}
