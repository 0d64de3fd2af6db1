//! The public keys of an issuer of JWTs, and how its signatures are checked with them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::post::HttpsFetcher;

/// Where the keys of an issuer come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// From a file.
    File(PathBuf),
    /// From a URL.
    Url(String, Arc<HttpsFetcher>),
    /// From the URL that the configuration of the issuer names (OpenID Connect Discovery).
    Discovery(Arc<HttpsFetcher>),
}

/// The keys of an issuer, which change now and then. Clones are the same keys.
#[derive(Clone, Default)]
pub struct IssuerKeys(Arc<KeyRing>);

#[derive(Default)]
struct KeyRing {
    keys: RwLock<Arc<[PublicKey]>>,
    /// Whether the keys are read again if a caller asks for it.
    listens: AtomicBool,
    asked: Notify,
    /// Rises each time the keys were read again, also if they could not be.
    readings: watch::Sender<u64>,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of RFC 7518 and RFC 8037")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// One key of a set.
struct PublicKey {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    material: KeyMaterial,
}

enum KeyMaterial {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl IssuerKeys {
    /// Replaces the keys by those of a set (RFC 7517). Keys of other kinds and uses are left out.
    ///
    /// # Errors
    /// If it is no set, or has no key that can be used. The former keys stay then.
    pub fn replace(&self, set: &[u8]) -> Result<usize, String> {
        let set: Value = serde_json::from_slice(set).map_err(|error| error.to_string())?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("it has no list \"keys\"")?;
        let keys: Arc<[PublicKey]> =
            keys.iter().take(MOST_KEYS).filter_map(PublicKey::of).collect();
        if keys.is_empty() {
            return Err("it has no key for signatures of a known kind".to_owned());
        }
        let count = keys.len();
        self.set(keys);
        Ok(count)
    }

    /// Forgets all keys, so that no token of the issuer is accepted.
    pub fn forget(&self) {
        self.set(Arc::default());
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys().is_empty()
    }

    /// From now on callers may ask for the keys to be read again.
    pub fn listen(&self) {
        // Those who asked before have their answer.
        let _ = self.0.asked.notified().now_or_never();
        self.0.listens.store(true, Ordering::Release);
    }

    /// Resolves once a caller asks.
    pub async fn asked(&self) {
        self.0.asked.notified().await;
    }

    /// The keys were read again, or could not be: all who asked for it go on.
    pub fn was_read(&self) {
        self.0.listens.store(false, Ordering::Release);
        self.0.readings.send_modify(|count| *count += 1);
    }

    /// Has the keys read again, and waits for that. Returns at once, and false, if that is not due yet.
    pub(super) async fn read_again(&self) -> bool {
        let mut readings = self.0.readings.subscribe();
        if !self.0.listens.load(Ordering::Acquire) {
            return false;
        }
        self.0.asked.notify_one();
        readings.changed().await.is_ok()
    }

    /// Whether there is a key of that id. Without an id it is not known which key is meant.
    pub(super) fn has(&self, id: Option<&str>) -> bool {
        id.is_some_and(|id| self.keys().iter().any(|key| key.id.as_deref() == Some(id)))
    }

    /// Whether one of the keys made that signature; the one with that id, if there is an id.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> bool {
        let keys = self.keys();
        let fits = |key: &&PublicKey| {
            key.algorithm.is_none_or(|own| own == algorithm)
                && id.is_none_or(|id| key.id.as_deref() == Some(id))
        };
        let mut fitting = keys.iter().filter(fits).take(MOST_TRIED);
        fitting.any(|key| key.verifies(algorithm, signed, signature))
    }

    fn keys(&self) -> Arc<[PublicKey]> {
        Arc::clone(&self.0.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, keys: Arc<[PublicKey]>) {
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("IssuerKeys").field(&self.keys().len()).finish()
    }
}

impl PublicKey {
    fn of(key: &Value) -> Option<Self> {
        let text = |field: &str| key.get(field).and_then(Value::as_str);
        let bytes = |field: &str| BASE64_URL_SAFE_NO_PAD.decode(text(field)?).ok();
        let point = |length: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == length && y.len() == length).then(|| [&[4][..], &x, &y].concat())
        };
        if text("use").is_some_and(|it| it != "sig") {
            return None;
        }
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => KeyMaterial::Rsa { modulus: bytes("n")?, exponent: bytes("e")? },
            ("EC", Some("P-256")) => KeyMaterial::P256(point(32)?),
            ("EC", Some("P-384")) => KeyMaterial::P384(point(48)?),
            ("OKP", Some("Ed25519")) => KeyMaterial::Ed25519(bytes("x")?),
            _ => return None,
        };
        let algorithm = match text("alg") {
            None => None,
            Some(text) => Some(text.parse().ok()?),
        };
        Some(Self { id: text("kid").map(str::to_owned), algorithm, material })
    }

    fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let plain = |kind: &'static dyn signature::VerificationAlgorithm, key: &Vec<u8>| {
            UnparsedPublicKey::new(kind, key).verify(signed, signature).is_ok()
        };
        match (&self.material, algorithm) {
            (KeyMaterial::Rsa { modulus: n, exponent: e }, algorithm) => {
                algorithm.of_rsa().is_some_and(|kind| {
                    RsaPublicKeyComponents { n, e }.verify(kind, signed, signature).is_ok()
                })
            }
            (KeyMaterial::P256(key), Algorithm::Es256) => {
                plain(&signature::ECDSA_P256_SHA256_FIXED, key)
            }
            (KeyMaterial::P384(key), Algorithm::Es384) => {
                plain(&signature::ECDSA_P384_SHA384_FIXED, key)
            }
            (KeyMaterial::Ed25519(key), Algorithm::EdDsa) => plain(&signature::ED25519, key),
            _ => false,
        }
    }
}

impl Algorithm {
    const ALL: [(&'static str, Self); 9] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];

    fn of_rsa(self) -> Option<&'static signature::RsaParameters> {
        match self {
            Self::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::EdDsa => None,
        }
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, algorithm)| algorithm).ok_or_else(|| {
            let all = Self::ALL.map(|(name, _)| name).join(", ");
            format!("{text:?} is no algorithm of signatures that is known; known are {all}")
        })
    }
}

/// Keys of a set that are read.
const MOST_KEYS: usize = 100;
/// Keys that are tried for a token that does not say which one.
const MOST_TRIED: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_are_read_again_for_all_who_ask_and_not_before_it_is_due() {
        let keys = IssuerKeys::default();
        assert!(!keys.read_again().await, "without anything that reads them");
        keys.listen();
        let mut asked = Box::pin(keys.asked());
        assert!((&mut asked).now_or_never().is_none());
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(keys.read_again())).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none());
        }
        asked.await;
        keys.was_read();
        for one in waiting {
            assert!(one.await);
        }
        assert!(!keys.read_again().await, "they were read just now");
        keys.listen();
        assert!(keys.asked().now_or_never().is_none(), "all who asked have their answer");
    }
}
