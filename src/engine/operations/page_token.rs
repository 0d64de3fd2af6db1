//! Page tokens: opaque, bound to their query and its caller, good for three days, and nothing that a client could make.
//! Resume tokens of watches of sets are sealed in the same way.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::clock::Timestamp;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::random::random;
use crate::limits::PAGE_TOKEN_LIFETIME;
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

/// The position that a token was sealed with.
pub(in crate::engine) fn open(
    keyspace: &Keyspace,
    query: &Binding,
    token: &str,
    now: Timestamp,
) -> Result<Vec<u8>> {
    let (sealed_at, position) = unseal(keyspace, query, token).ok_or_else(|| {
        Error::new(Reason::InvalidPageToken, "page_token is not one that this query returned; send every argument but page_size as before, or leave page_token empty to start from the first page")
            .with("field", "page_token")
    })?;
    if now.since(sealed_at) > PAGE_TOKEN_LIFETIME {
        return Err(Error::new(
            Reason::PageTokenExpired,
            "page_token is older than three days; leave it empty to start from the first page",
        )
        .with("field", "page_token"));
    }
    Ok(position)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_only_for_its_own_query_and_keyspace_and_not_after_three_days() {
        let (keyspace, other) = (Keyspace::generate(1), Keyspace::generate(1));
        let now = Timestamp::from_micros(1_000_000);
        let own = Binding::of(&["a", "projects/p"]);
        let token = seal(&keyspace, &own, b"here", now).expect("token");
        assert_eq!(open(&keyspace, &own, &token, now).expect("own token"), b"here");
        for (keyspace, query, token) in [
            (&keyspace, &["a", "projects/q"][..], token.as_str()),
            (&keyspace, &["b", "projects/p"], &token),
            (&keyspace, &["ap", "rojects/p"], &token),
            (&keyspace, &["a", "projects/p", ""], &token),
            (&other, &["a", "projects/p"], &token),
            (&keyspace, &["a", "projects/p"], "x"),
            (&keyspace, &["a", "projects/p"], &token[1..]),
        ] {
            let refusal =
                open(keyspace, &Binding::of(query), token, now).expect_err("foreign token");
            assert_eq!(refusal.reason, Reason::InvalidPageToken);
        }
        let late = now + PAGE_TOKEN_LIFETIME + std::time::Duration::from_secs(1);
        assert_eq!(
            open(&keyspace, &own, &token, late).expect_err("old token").reason,
            Reason::PageTokenExpired
        );
    }
}
