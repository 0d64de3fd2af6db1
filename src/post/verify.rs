//! Checks deliveries as their receivers do.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use humantime::{FormattedDuration, format_duration};
use ring::hmac;
use ring::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, UnparsedPublicKey};

use super::sign::{PUBLIC, SigningKey, signed_text};
use crate::clock::Timestamp;

/// A key that a receiver checks deliveries with.
#[derive(Clone, Debug)]
pub enum VerifyingKey {
    /// A secret, written `whsec_...`. It checks entries `v1`.
    Secret(hmac::Key),
    /// A public key, written `whpk_...`. It checks entries `v1a`.
    Public(UnparsedPublicKey<Vec<u8>>),
}

/// What the headers of a delivery say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`: the time of the attempt, in seconds since 1970.
    pub timestamp: u64,
    /// `webhook-signature`: entries of a version and a signature, separated by spaces.
    pub signatures: String,
}

/// Why a text is no key to check with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is whsec_ and the base64 of 24 to 64 bytes, or whpk_ and that of 32 bytes")]
pub struct BadVerifyingKey;

/// Why a delivery must not be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// A header is not there.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// The timestamp cannot be read.
    #[error("webhook-timestamp is {0:?}; it must be a number of seconds since 1970")]
    Timestamp(String),
    /// The header has no signature that the key could check.
    #[error(
        "webhook-signature has no entry {version}, which this key checks; it has {found}: {instead}"
    )]
    Version {
        /// Of entries that the key checks.
        version: &'static str,
        /// Of the entries that are there.
        found: String,
        /// The key that may check them.
        instead: &'static str,
    },
    /// No signature of the key's version fits.
    #[error(
        "no entry {0} of webhook-signature fits the key, webhook-id, webhook-timestamp and the body"
    )]
    Mismatch(&'static str),
    /// It was sent too long ago.
    #[error(
        "webhook-timestamp is {} ago, more than {}: the delivery may have been recorded and sent again",
        span(.age), span(.tolerance)
    )]
    TooOld {
        /// How long ago.
        age: Duration,
        /// How long ago it may be.
        tolerance: Duration,
    },
    /// It was sent too far in the future.
    #[error(
        "webhook-timestamp is {} ahead, more than {}: a clock is wrong",
        span(.ahead), span(.tolerance)
    )]
    TooNew {
        /// How far ahead.
        ahead: Duration,
        /// How far ahead it may be.
        tolerance: Duration,
    },
}

impl VerifyingKey {
    /// Parses the written form. A key that signs, `whsk_...`, stands for its public key.
    ///
    /// # Errors
    /// Says what a key is.
    pub fn parse(text: &str) -> Result<Self, BadVerifyingKey> {
        if let Some(encoded) = text.strip_prefix(PUBLIC) {
            let key = BASE64_STANDARD.decode(encoded).map_err(|_| BadVerifyingKey)?;
            return if key.len() == ED25519_PUBLIC_KEY_LEN {
                Ok(Self::Public(UnparsedPublicKey::new(&ED25519, key)))
            } else {
                Err(BadVerifyingKey)
            };
        }
        match SigningKey::parse(text) {
            Ok(SigningKey::Shared(secret)) => {
                Ok(Self::Secret(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
            }
            Ok(pair) => Self::parse(&pair.public_text().ok_or(BadVerifyingKey)?),
            Err(_) => Err(BadVerifyingKey),
        }
    }

    const fn version(&self) -> &'static str {
        match self {
            Self::Secret(_) => "v1",
            Self::Public(_) => "v1a",
        }
    }

    const fn instead(&self) -> &'static str {
        match self {
            Self::Secret(_) => "check it with a public key, whpk_...",
            Self::Public(_) => "check it with the secret of the endpoint, whsec_...",
        }
    }

    fn fits(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
            Self::Public(key) => key.verify(signed, signature).is_ok(),
        }
    }
}

impl SignedHead {
    /// Reads the headers; `header` returns an empty text for one that is missing.
    ///
    /// # Errors
    /// Names the header that is missing or malformed.
    pub fn parse<'a>(header: impl Fn(&'static str) -> &'a str) -> Result<Self, Unverified> {
        let required = |name| match header(name) {
            "" => Err(Unverified::Missing(name)),
            value => Ok(value.to_owned()),
        };
        let (id, timestamp) = (required("webhook-id")?, required("webhook-timestamp")?);
        let signatures = required("webhook-signature")?;
        let timestamp = timestamp.parse().map_err(|_| Unverified::Timestamp(timestamp))?;
        Ok(Self { id, timestamp, signatures })
    }

    /// Checks whether a signature fits, whenever the delivery was sent.
    ///
    /// # Errors
    /// Says why none does.
    pub fn check(&self, key: &VerifyingKey, body: &[u8]) -> Result<(), Unverified> {
        let signed = signed_text(&self.id, self.timestamp, body);
        let entries = self.signatures.split(' ').filter_map(|entry| entry.split_once(','));
        let version = key.version();
        let mut ours = entries.clone().filter(|(it, _)| *it == version).peekable();
        if ours.peek().is_none() {
            let found: Vec<&str> = entries.map(|(version, _)| version).collect();
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            return Err(Unverified::Version { version, found, instead: key.instead() });
        }
        let mut signatures = ours.filter_map(|(_, encoded)| BASE64_STANDARD.decode(encoded).ok());
        let fits = signatures.any(|signature| key.fits(&signed, &signature));
        if fits { Ok(()) } else { Err(Unverified::Mismatch(version)) }
    }

    /// Checks that the delivery was sent at about `now`, and returns how long ago.
    ///
    /// # Errors
    /// Says how far away it is.
    pub fn check_time(&self, now: Timestamp, tolerance: Duration) -> Result<Duration, Unverified> {
        // The header has whole seconds.
        let now = now.as_micros() / 1_000_000;
        let age = Duration::from_secs(now.saturating_sub(self.timestamp));
        let ahead = Duration::from_secs(self.timestamp.saturating_sub(now));
        if age > tolerance {
            return Err(Unverified::TooOld { age, tolerance });
        }
        if ahead > tolerance {
            return Err(Unverified::TooNew { ahead, tolerance });
        }
        Ok(age)
    }
}

fn span(duration: &Duration) -> FormattedDuration {
    format_duration(*duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::post::sign::signatures;

    const NOW: u64 = 1_700_000_000;
    const MINUTES: Duration = Duration::from_mins(5);

    fn head(key: &SigningKey) -> SignedHead {
        let signatures = signatures([key], "msg_1", NOW, b"body");
        SignedHead { id: "msg_1".to_owned(), timestamp: NOW, signatures }
    }

    fn key(text: &str) -> VerifyingKey {
        VerifyingKey::parse(text).expect("a key")
    }

    #[test]
    fn a_signature_fits_its_key_id_time_and_body_and_no_other() {
        let shared = SigningKey::Shared(vec![7; 32]);
        let pair = SigningKey::pair([9; 32]);
        let other = SigningKey::Shared(vec![8; 32]);
        let both = signatures([&other, &shared, &pair], "msg_1", NOW, b"body");
        let head = SignedHead { signatures: both, ..head(&shared) };
        let public = pair.public_text().expect("a public key");
        for (text, version) in [(shared.reveal(), "v1"), (public, "v1a"), (pair.reveal(), "v1a")] {
            let key = key(&text);
            assert_eq!(head.check(&key, b"body"), Ok(()), "{version}");
            let mismatch = Err(Unverified::Mismatch(version));
            assert_eq!(head.check(&key, b"bodY"), mismatch);
            assert_eq!(head.check(&key, b""), mismatch);
            let renamed = SignedHead { id: "msg_2".to_owned(), ..head.clone() };
            assert_eq!(renamed.check(&key, b"body"), mismatch);
            let later = SignedHead { timestamp: NOW + 1, ..head.clone() };
            assert_eq!(later.check(&key, b"body"), mismatch);
        }
        let unknown = key(&SigningKey::Shared(vec![1; 32]).reveal());
        assert_eq!(head.check(&unknown, b"body"), Err(Unverified::Mismatch("v1")));
        let garbage = SignedHead { signatures: "v1,% v1, v1,AAAA".to_owned(), ..head };
        assert_eq!(garbage.check(&unknown, b"body"), Err(Unverified::Mismatch("v1")));
    }

    #[test]
    fn a_key_of_the_other_kind_is_named() {
        let (shared, pair) = (SigningKey::Shared(vec![7; 32]), SigningKey::pair([9; 32]));
        let wrong = head(&pair).check(&key(&shared.reveal()), b"body").expect_err("no entry");
        assert_eq!(
            wrong.to_string(),
            "webhook-signature has no entry v1, which this key checks; it has v1a: check it with a public key, whpk_..."
        );
        let wrong = head(&shared).check(&key(&pair.reveal()), b"body").expect_err("no entry");
        assert!(wrong.to_string().contains("check it with the secret of the endpoint"), "{wrong}");
        let empty = SignedHead { signatures: "x".to_owned(), ..head(&shared) };
        let none = empty.check(&key(&shared.reveal()), b"body").expect_err("no entry");
        assert!(none.to_string().contains("it has none"), "{none}");
    }

    #[test]
    fn a_head_that_lacks_something_says_what() {
        let whole =
            [("webhook-id", "msg_1"), ("webhook-timestamp", "5"), ("webhook-signature", "v1,x")];
        let without = |left_out: &str| {
            SignedHead::parse(|name| {
                let found = whole.iter().find(|(it, _)| *it == name && name != left_out);
                found.map_or("", |(_, value)| value)
            })
        };
        assert_eq!(without("").expect("a head").timestamp, 5);
        for (name, _) in whole {
            assert_eq!(without(name), Err(Unverified::Missing(name)));
        }
        for text in ["soon", "-5", "1.5", "99999999999999999999"] {
            let parsed = SignedHead::parse(|name| if name == "webhook-id" { "x" } else { text });
            assert_eq!(parsed, Err(Unverified::Timestamp(text.to_owned())));
        }
    }

    #[test]
    fn a_delivery_is_refused_more_than_the_tolerance_before_and_after_its_time() {
        let head = head(&SigningKey::Shared(vec![7; 32]));
        let at = |seconds: u64| {
            head.check_time(Timestamp::from_micros(seconds * 1_000_000 + 999_999), MINUTES)
        };
        assert_eq!(at(NOW + 12), Ok(Duration::from_secs(12)));
        assert_eq!(at(NOW + 300), Ok(MINUTES));
        assert_eq!(at(NOW - 300), Ok(Duration::ZERO));
        let old = at(NOW + 301).expect_err("too old").to_string();
        assert!(old.starts_with("webhook-timestamp is 5m 1s ago, more than 5m"), "{old}");
        let new = at(NOW - 301).expect_err("too new").to_string();
        assert!(new.starts_with("webhook-timestamp is 5m 1s ahead, more than 5m"), "{new}");
    }

    #[test]
    fn texts_that_are_no_keys_are_refused() {
        let short = format!("whsec_{}", BASE64_STANDARD.encode([3; 23]));
        for text in ["", "x", "whsec_", "whsec_%", "whpk_AAAA", "whsk_AAAA", &short] {
            assert_eq!(VerifyingKey::parse(text).err(), Some(BadVerifyingKey), "{text}");
        }
    }
}
