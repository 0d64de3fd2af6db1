//! Signatures of deliveries, as Standard Webhooks defines them.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::webhook::endpoint::{EndpointSecret, SecretAlgorithm};

/// A key that signs deliveries. It is never shown in logs.
#[derive(Clone, PartialEq, Eq)]
pub enum SigningKey {
    /// A secret that the receiver knows, too: `v1`, HMAC-SHA256, written `whsec_...`.
    Shared(Vec<u8>),
    /// A pair of keys: `v1a`, Ed25519. The receiver knows the public key, written `whpk_...`.
    Pair(SigningPair),
}

/// A pair of keys and the seed that it was made of. Making it takes as long as signing does, so clones share it.
#[derive(Clone)]
pub struct SigningPair {
    seed: [u8; 32],
    pair: Option<Arc<Ed25519KeyPair>>,
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a signing key is whsec_ and the base64 of 24 to 64 bytes, or whsk_ and that of 32 or 64 bytes"
)]
pub struct BadKey;

impl SigningKey {
    /// Parses the written form.
    ///
    /// # Errors
    /// Says what a key is.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let decode = |encoded: &str| BASE64_STANDARD.decode(encoded).map_err(|_| BadKey);
        if let Some(encoded) = text.strip_prefix(SHARED) {
            let secret = decode(encoded)?;
            return if (24..=64).contains(&secret.len()) {
                Ok(Self::Shared(secret))
            } else {
                Err(BadKey)
            };
        }
        let pair = decode(text.strip_prefix(PAIR).ok_or(BadKey)?)?;
        // Other implementations append the public key to the seed.
        let seed = if matches!(pair.len(), 32 | 64) { pair.first_chunk() } else { None };
        seed.copied().map(Self::pair).ok_or(BadKey)
    }

    /// The pair of keys with that seed.
    pub fn pair(seed: [u8; 32]) -> Self {
        // A seed of 32 bytes is always one.
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok().map(Arc::new);
        Self::Pair(SigningPair { seed, pair })
    }

    /// The written form, which is secret.
    pub fn reveal(&self) -> String {
        match self {
            Self::Shared(secret) => format!("{SHARED}{}", BASE64_STANDARD.encode(secret)),
            Self::Pair(pair) => {
                let whole = [&pair.seed[..], pair.public().unwrap_or_default()].concat();
                format!("{PAIR}{}", BASE64_STANDARD.encode(whole))
            }
        }
    }

    /// The written form of the public key, if there is one.
    pub fn public_text(&self) -> Option<String> {
        let Self::Pair(pair) = self else { return None };
        pair.public().map(|key| format!("{PUBLIC}{}", BASE64_STANDARD.encode(key)))
    }

    /// The entry for the header `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let signed = signed_text(id, timestamp, body);
        match self {
            Self::Shared(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                format!("v1,{}", BASE64_STANDARD.encode(hmac::sign(&key, &signed)))
            }
            Self::Pair(pair) => {
                let signature = pair.pair.as_ref().map(|pair| pair.sign(&signed));
                let bytes = signature.as_ref().map_or(&[][..], AsRef::as_ref);
                format!("v1a,{}", BASE64_STANDARD.encode(bytes))
            }
        }
    }
}

impl SigningPair {
    fn public(&self) -> Option<&[u8]> {
        self.pair.as_ref().map(|pair| pair.public_key().as_ref())
    }
}

impl PartialEq for SigningPair {
    fn eq(&self, other: &Self) -> bool {
        self.seed == other.seed
    }
}

impl Eq for SigningPair {}

impl From<&EndpointSecret> for SigningKey {
    fn from(secret: &EndpointSecret) -> Self {
        match secret.algorithm {
            SecretAlgorithm::HmacSha256 => Self::Shared(secret.key.to_vec()),
            SecretAlgorithm::Ed25519 => Self::pair(secret.key),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a signing key")
    }
}

/// The header `webhook-signature`: an entry for each key.
pub fn signatures<'a>(
    keys: impl IntoIterator<Item = &'a SigningKey>,
    id: &str,
    timestamp: u64,
    body: &[u8],
) -> String {
    let entries = keys.into_iter().map(|key| key.sign(id, timestamp, body));
    entries.collect::<Vec<_>>().join(" ")
}

/// What a signature covers.
pub(super) fn signed_text(id: &str, timestamp: u64, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body].concat()
}

const SHARED: &str = "whsec_";
const PAIR: &str = "whsk_";
pub(super) const PUBLIC: &str = "whpk_";

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_signature_of_the_published_example_is_reproduced() {
        let key = SigningKey::parse(SECRET).expect("a key");
        let signature =
            key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(key.reveal(), SECRET);
        assert_eq!(format!("{key:?}"), "a signing key");
    }

    #[test]
    fn keys_read_back_and_others_are_refused() {
        for key in [SigningKey::Shared(vec![1; 24]), SigningKey::pair([3; 32])] {
            assert_eq!(SigningKey::parse(&key.reveal()), Ok(key));
        }
        let seed = format!("whsk_{}", BASE64_STANDARD.encode([3; 32]));
        assert_eq!(SigningKey::parse(&seed), Ok(SigningKey::pair([3; 32])));
        let short = format!("whsec_{}", BASE64_STANDARD.encode([3; 23]));
        for bad in ["", "x", "whsec_", "whsk_AAAA", "whpk_AAAA", &short] {
            assert_eq!(SigningKey::parse(bad), Err(BadKey), "{bad}");
        }
    }
}
