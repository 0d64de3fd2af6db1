//! Messages of the user's own types: stored byte for byte, never decoded.

use bytes::Bytes;

use crate::proto::google::protobuf::Any;

/// The prefix of every type URL that longhaul sends: some clients compare the whole URL.
pub const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

/// A message of the user's, in its record or in a body beside it.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// Here.
    Inline(Any),
    /// Stored beside the record and loaded when needed.
    Detached(Detached),
}

/// The name of a payload that is stored beside its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    /// The message's type URL.
    pub type_url: String,
    /// Bytes of the message.
    pub size: u64,
    /// Tells this content from another.
    pub nonce: [u8; 8],
}

impl Detached {
    /// The name of that message. The nonce follows from the content, so that deciding twice writes the same.
    pub fn of(any: &Any) -> Self {
        let hash = blake3::hash(&any.value);
        let nonce = hash.as_bytes().first_chunk().copied().unwrap_or_default();
        Self { type_url: any.type_url.clone(), size: any.value.len() as u64, nonce }
    }
}

impl Payload {
    /// The type URL.
    pub fn type_url(&self) -> &str {
        match self {
            Self::Inline(any) => &any.type_url,
            Self::Detached(detached) => &detached.type_url,
        }
    }

    /// Bytes of the message.
    pub const fn size(&self) -> usize {
        match self {
            Self::Inline(any) => any.value.len(),
            Self::Detached(detached) => detached.size as usize,
        }
    }

    /// Whether it is this very message. One that is detached is compared by the hash of its content.
    pub fn holds(&self, any: &Any) -> bool {
        match self {
            Self::Inline(held) => held == any,
            Self::Detached(detached) => *detached == Detached::of(any),
        }
    }

    /// The message, if it is here.
    pub const fn inline(&self) -> Option<&Any> {
        match self {
            Self::Inline(any) => Some(any),
            Self::Detached(_) => None,
        }
    }
}

/// The full name of the message that a type URL points at.
pub fn type_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

/// The type URL of the message of that full name.
pub fn type_url(type_name: &str) -> String {
    format!("{TYPE_URL_PREFIX}{type_name}")
}

/// A packed `google.protobuf.Empty`: success without data.
pub fn empty() -> Any {
    Any { type_url: type_url(EMPTY), value: Bytes::new() }
}

/// The full name of `google.protobuf.Empty`.
pub const EMPTY: &str = "google.protobuf.Empty";
