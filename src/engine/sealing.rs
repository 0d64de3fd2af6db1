//! Texts that clients carry for the server: sealed with the secret of the keyspace, so that they can neither be read nor made.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use super::error::{Error, Result};
use super::random::random;
use crate::clock::Timestamp;
use crate::store::Keyspace;

/// What a token is bound to: all that the pages of one query have in common.
pub(in crate::engine) struct Binding(Vec<u8>);

impl Binding {
    /// Of all these parts, each told from the next.
    pub(in crate::engine) fn of(parts: &[&str]) -> Self {
        let length = |part: &str| (part.len() as u64).to_be_bytes();
        let bound = parts.iter().flat_map(|part| [&length(part)[..], part.as_bytes()].concat());
        Self(bound.collect())
    }
}

/// Seals a position in a list of `query`.
pub(in crate::engine) fn seal(
    keyspace: &Keyspace,
    query: &Binding,
    position: &[u8],
    now: Timestamp,
) -> Result<String> {
    let nonce: [u8; 24] = random();
    let content = [&now.as_micros().to_be_bytes()[..], position].concat();
    let payload = Payload { msg: &content, aad: &query.0 };
    let sealed = cipher(keyspace)
        .encrypt(&XNonce::from(nonce), payload)
        .map_err(|error| Error::internal(&error))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
}

/// When a token was sealed, and with which position; `None` if it is not one of this binding.
pub(in crate::engine) fn unseal(
    keyspace: &Keyspace,
    query: &Binding,
    token: &str,
) -> Option<(Timestamp, Vec<u8>)> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let (nonce, sealed) = bytes.split_first_chunk::<24>()?;
    let payload = Payload { msg: sealed, aad: &query.0 };
    let content = cipher(keyspace).decrypt(&XNonce::from(*nonce), payload).ok()?;
    let (time, position) = content.split_first_chunk()?;
    Some((Timestamp::from_micros(u64::from_be_bytes(*time)), position.to_vec()))
}

fn cipher(keyspace: &Keyspace) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&keyspace.hash::<32>("page token", &[]).into())
}
