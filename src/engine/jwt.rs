//! JWTs of other issuers: their signature by a key of the issuer, and their claims.
//!
//! The algorithm must be one that the issuer is known to use, so a token cannot choose how it is checked. Keys are public ones:
//! no algorithm with a shared secret is known.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::jwks::{Algorithm, IssuerKeys, KeySource};
use crate::clock::Timestamp;
use crate::limits::MAX_JWT_BYTES;

/// An issuer of JWTs, and what is accepted of it.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The name by which bindings and identities refer to it.
    pub name: String,
    /// The claim `iss` of its tokens.
    pub issuer: String,
    /// What the claim `aud` must contain.
    pub audience: String,
    /// The algorithms that its signatures may have.
    pub algorithms: Vec<Algorithm>,
    /// Its keys.
    pub keys: IssuerKeys,
    /// Where they come from.
    pub source: KeySource,
}

/// The claims of a token that was accepted.
pub(super) struct AcceptedClaims {
    pub(super) claims: Map<String, Value>,
    pub(super) expire_time: Timestamp,
}

impl Issuer {
    /// The claims of a token of this issuer, if it is accepted now.
    pub(super) fn accept(&self, token: &str, now: Timestamp) -> Option<AcceptedClaims> {
        let (parts, algorithm) = self.read(token)?;
        let JwtParts { signed, signature, .. } = &parts;
        let is_signed = self.keys.verify(algorithm, parts.key_id(), signed, signature);
        is_signed.then_some(())?;
        self.check_claims(parts.claims, now)
    }

    /// Whether a token that is not accepted might be once the keys are read again: only its key is unknown.
    pub(super) fn misses_key(&self, token: &str, now: Timestamp) -> bool {
        self.read(token).is_some_and(|(parts, _)| {
            !self.keys.has(parts.key_id()) && self.check_claims(parts.claims, now).is_some()
        })
    }

    /// The parts of a token, and its algorithm if it is an allowed one.
    fn read<'a>(&self, token: &'a str) -> Option<(JwtParts<'a>, Algorithm)> {
        let parts = JwtParts::of(token)?;
        let algorithm: Algorithm = parts.header.get("alg")?.as_str()?.parse().ok()?;
        // Extensions that must be understood are not.
        let is_known = self.algorithms.contains(&algorithm) && !parts.header.contains_key("crit");
        is_known.then_some((parts, algorithm))
    }

    fn check_claims(&self, claims: Map<String, Value>, now: Timestamp) -> Option<AcceptedClaims> {
        let audience = match claims.get("aud")? {
            Value::String(one) => *one == self.audience,
            Value::Array(several) => several.iter().any(|one| *one == self.audience),
            _ => false,
        };
        let is_ours = audience && claims.get("iss")?.as_str()? == self.issuer;
        let expire_time = time(claims.get("exp")?)? + LEEWAY;
        let begins = claims.get("nbf").map_or(Some(Timestamp::EPOCH), time)?;
        let is_valid = is_ours && now < expire_time && begins <= now + LEEWAY;
        is_valid.then_some(AcceptedClaims { claims, expire_time })
    }
}

/// The issuer that a token names, before anything of it is checked.
pub(super) fn claimed_issuer(token: &str) -> Option<String> {
    Some(JwtParts::of(token)?.claims.get("iss")?.as_str()?.to_owned())
}

/// A token in its parts.
struct JwtParts<'a> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> JwtParts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        if token.len() > MAX_JWT_BYTES {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        Some(Self {
            header: serde_json::from_slice(&bytes(header)?).ok()?,
            claims: serde_json::from_slice(&bytes(claims)?).ok()?,
            signed: signed.as_bytes(),
            signature: bytes(signature)?,
        })
    }

    /// The id of the key that it names.
    fn key_id(&self) -> Option<&str> {
        self.header.get("kid").and_then(Value::as_str)
    }
}

/// Seconds since the Unix epoch, as a number.
fn time(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_f64().filter(|seconds| (0.0..MOST_SECONDS).contains(seconds))?;
    Some(Timestamp::EPOCH + Duration::from_secs_f64(seconds))
}

/// How far the clock of an issuer may be off.
const LEEWAY: Duration = Duration::from_secs(30);
/// The year 9999.
const MOST_SECONDS: f64 = 253_402_300_799.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    fn issuer(algorithms: &[Algorithm], keys: &Value) -> Issuer {
        let issuer = Issuer {
            name: "corp".to_owned(),
            issuer: "https://id.example.com".to_owned(),
            audience: "longhaul".to_owned(),
            algorithms: algorithms.to_vec(),
            keys: IssuerKeys::default(),
            source: KeySource::File(std::path::PathBuf::new()),
        };
        issuer.keys.replace(json!({ "keys": keys }).to_string().as_bytes()).expect("keys");
        issuer
    }

    fn base64(bytes: impl AsRef<[u8]>) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A key for Ed25519, as a set has it, and what signs with it.
    fn ed25519() -> (Value, impl Fn(&Value, &Value) -> String) {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
        let x = base64(pair.public_key());
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "x": x });
        let sign = move |header: &Value, claims: &Value| {
            let signed = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
            format!("{signed}.{}", base64(pair.sign(signed.as_bytes())))
        };
        (key, sign)
    }

    fn claims() -> Value {
        json!({ "iss": "https://id.example.com", "aud": ["x", "longhaul"], "sub": "a", "exp": 1000, "nbf": 500 })
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_accepted_with_the_claims_of_its_issuer_within_its_time() {
        let (key, sign) = ed25519();
        let issuer = issuer(&[Algorithm::EdDsa], &json!([key]));
        let header = json!({ "alg": "EdDSA", "kid": "ed" });
        let token = sign(&header, &claims());
        assert_eq!(claimed_issuer(&token).as_deref(), Some("https://id.example.com"));
        for (time, accepted) in [(469, false), (470, true), (1_029, true), (1_030, false)] {
            assert_eq!(issuer.accept(&token, at(time)).is_some(), accepted, "{time}");
        }
        let accepted = issuer.accept(&token, at(700)).expect("accepted");
        assert_eq!((accepted.claims["sub"].as_str(), accepted.expire_time), (Some("a"), at(1_030)));
        for (claim, value) in [
            ("iss", json!("https://other.example.com")),
            ("iss", json!(null)),
            ("aud", json!("other")),
            ("aud", json!([])),
            ("exp", json!("1000")),
            ("exp", json!(-1)),
            ("exp", json!(null)),
            ("nbf", json!("500")),
            ("nbf", json!(1e300)),
        ] {
            let mut claims = claims();
            claims[claim] = value.clone();
            assert!(issuer.accept(&sign(&header, &claims), at(700)).is_none(), "{claim}: {value}");
        }
    }

    #[test]
    fn a_token_does_not_choose_how_it_is_checked() {
        let (key, sign) = ed25519();
        let (other, _) = ed25519();
        let allowed = issuer(&[Algorithm::EdDsa], &json!([key, other]));
        for header in [
            json!({ "alg": "none" }),
            json!({ "alg": "HS256", "kid": "ed" }),
            json!({ "alg": "ES256", "kid": "ed" }),
            json!({ "alg": "EdDSA", "kid": "other" }),
            json!({ "alg": "EdDSA", "crit": ["exp"] }),
            json!({ "kid": "ed" }),
        ] {
            assert!(allowed.accept(&sign(&header, &claims()), at(700)).is_none(), "{header}");
        }
        let token = sign(&json!({ "alg": "EdDSA" }), &claims());
        assert!(allowed.accept(&token, at(700)).is_some(), "each key is tried without a kid");
        assert!(issuer(&[Algorithm::Es256], &json!([key])).accept(&token, at(700)).is_none());
        assert!(issuer(&[Algorithm::EdDsa], &json!([other])).accept(&token, at(700)).is_none());
        let (signed, signature) = token.rsplit_once('.').expect("a signature");
        for changed in [format!("{signed}."), signed.to_owned(), format!("{signed}.{signature}.x")]
        {
            assert!(allowed.accept(&changed, at(700)).is_none(), "{changed}");
        }
    }

    #[test]
    fn a_key_that_names_an_algorithm_checks_no_other() {
        let (mut key, sign) = ed25519();
        let token = sign(&json!({ "alg": "EdDSA", "kid": "ed" }), &claims());
        for (own, accepted) in [("EdDSA", true), ("RS256", false)] {
            key["alg"] = json!(own);
            let issuer = issuer(&[Algorithm::EdDsa, Algorithm::Rs256], &json!([key]));
            assert_eq!(issuer.accept(&token, at(700)).is_some(), accepted, "{own}");
        }
    }

    #[test]
    fn only_a_token_that_lacks_nothing_but_a_known_key_is_worth_another_look_at_the_keys() {
        let (key, sign) = ed25519();
        let issuer = issuer(&[Algorithm::EdDsa], &json!([key]));
        let of = |header: Value, claims: Value| issuer.misses_key(&sign(&header, &claims), at(700));
        assert!(of(json!({ "alg": "EdDSA", "kid": "new" }), claims()));
        assert!(of(json!({ "alg": "EdDSA" }), claims()), "no key is named");
        assert!(!of(json!({ "alg": "EdDSA", "kid": "ed" }), claims()), "the key is known");
        assert!(!of(json!({ "alg": "ES256", "kid": "new" }), claims()), "not an allowed algorithm");
        assert!(!of(json!({ "alg": "none", "kid": "new" }), claims()));
        for (claim, value) in [("exp", json!(1)), ("aud", json!("other")), ("nbf", json!(900))] {
            let mut claims = claims();
            claims[claim] = value;
            assert!(!of(json!({ "alg": "EdDSA", "kid": "new" }), claims), "{claim}");
        }
        assert!(!issuer.misses_key("a.b.c", at(700)));
    }

    #[test]
    fn keys_of_each_kind_verify_what_was_signed_with_them() {
        let random = SystemRandom::new();
        let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).expect("a key");
        let point = pair.public_key().as_ref();
        let (x, y) = (base64(&point[1..33]), base64(&point[33..]));
        let keys = json!([
            { "kty": "oct", "k": "AAAA" },
            { "kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "x": x, "y": y },
            { "kty": "RSA", "kid": "rsa", "n": RSA_MODULUS, "e": "AQAB" },
        ]);
        let issuer = issuer(&[Algorithm::Es256, Algorithm::Rs256, Algorithm::Ps256], &keys);
        let header = json!({ "alg": "ES256", "kid": "ec" }).to_string();
        let signed = format!("{}.{}", base64(header), base64(claims().to_string()));
        let signature = pair.sign(&random, signed.as_bytes()).expect("a signature");
        let token = format!("{signed}.{}", base64(signature));
        for token in [token.as_str(), RS256_TOKEN, PS256_TOKEN] {
            assert!(issuer.accept(token, at(700)).is_some(), "{token}");
            let other = token.replace("eyJ", "eyK");
            assert!(issuer.accept(&other, at(700)).is_none(), "{other}");
        }
    }

    #[test]
    fn a_set_without_a_key_is_refused_and_the_former_keys_stay() {
        let (key, sign) = ed25519();
        let issuer = issuer(&[Algorithm::EdDsa], &json!([key]));
        for set in [
            "",
            "{}",
            r#"{"keys": []}"#,
            r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}"#,
        ] {
            issuer.keys.replace(set.as_bytes()).expect_err(set);
        }
        assert!(issuer.accept(&sign(&json!({ "alg": "EdDSA" }), &claims()), at(700)).is_some());
    }

    proptest! {
        #[test]
        fn any_text_is_refused(text in "[A-Za-z0-9._-]{0,300}", bytes in any::<Vec<u8>>(), json in "\\{[ -~]{0,60}\\}") {
            let (key, _) = ed25519();
            let issuer = issuer(&[Algorithm::EdDsa, Algorithm::Rs256], &json!([key]));
            let made = format!("{}.{}.{}", base64(&json), base64(&bytes), base64(&bytes));
            let claims = format!("{}.{}.{}", base64(r#"{"alg":"EdDSA"}"#), base64(&json), base64(&bytes));
            for token in [&text, &made, &claims] {
                prop_assert!(issuer.accept(token, Timestamp::EPOCH).is_none());
                claimed_issuer(token);
            }
            prop_assert!(issuer.keys.replace(&bytes).is_err());
            drop(issuer.keys.replace(json.as_bytes()));
        }
    }

    // Made with openssl.
    const RSA_MODULUS: &str = "ibCMsRpTT1uhBptWq3zDb5bt9---z4M76Q_RM1JscRS2_vSc1-oz-JVf5EalWalTHSTtrj7Nrod4gZWbGoNivGtuY5gQpYep9SvBCG42lmeWU1uL5FJumz2bTZ4Wzjptr4cwgNvHi3S2KXlhzU6G5I6SvxHzi7F8HavKdOdFBGBVEHiXzXxdNEfip89ER7-m5vk40Y_bz9AzJDZNelo8WvRJXPg7ck6vm88N4i0nKlVCwpL0z7UqUZ9cCA4kjemMI4IXvg0btohplg9aY2_luMuAIBmeMj8Hot0GMF3Jd8BulnZoWT1-YMmjodcpKdMNKdv_vI_Nb78AEG57fzeaAQ";
    const RS256_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiwiYXVkIjoibG9uZ2hhdWwiLCJzdWIiOiJyc2EiLCJleHAiOjQwMDAwMDAwMDB9.YUOfE_jggdtzDMKF-K4i8tLBMIdU97kurCKPIdgcnROXRlKDT_bLbS36X4kgPrMb9kE-3RZoeQtNc7C5tHyBIcr1HivMNDBEQZ0h-S1zl2B4e9OmonORuetCWFHSuMRq8xcC6ODM7XlZs4jdNGjR6jSbY8jvRutiYsAUXgXCGyc-GOd1gqUkVfzJJPJmfMeB9XJvJKz4y92w2E-4WA2OnsC5cxYoLI2VYtYlzCF8Bfb6saRYXvElbddoPUo6HkAAWNKjf9YQi7ZDIUF-vbeXovVQxFZ194prLxobWhGCGzVGBqI8mY11d9uFbHj5i1VS781secWCdAPfJqBKy8IYgg";
    const PS256_TOKEN: &str = "eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiwiYXVkIjoibG9uZ2hhdWwiLCJzdWIiOiJyc2EiLCJleHAiOjQwMDAwMDAwMDB9.S23ZerUkxtZW8SkwsaumFXMyLIWL4kZR0K2_aioP0nQywXq-h54v5_SNS02RAaZVTiNLrVzcbbhlIO7da9LhKAV_bbr7j4vkKBSIcIFlwfcBpwNsVwGFj_GF8hJeYDHZIRSgaMdiKMld7Kgip2IO9fVaRmqQJ5q-m2M2Np6ZmoVjBSQvW8ld4OEt6mCav58dMlVLFo7yEshDBM_QF0fjYNeKaTBV18Cu2vRLifRoSUKb1KkfTnlXDd-ctnWJc-sXalKk7KNgxZ_6hFh3oihR_58g0l9Zu_4-JVilaDghTZQG_qP04X3yL6hgLp_UdtWZ38ppUjvPPprb7Jjd4hr55A";
}
