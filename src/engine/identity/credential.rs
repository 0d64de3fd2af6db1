//! What a caller proves its identity with.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::engine::random::random;
use crate::operation::name::Id;

/// What a caller sent to prove its identity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// A bearer token: one of the API, a link, or a JWT.
    Bearer(&'a str),
    /// A link in the query of an address, where no other token is accepted, since addresses are kept in many places.
    InQuery(&'a str),
    /// The subject of the certificate that the connection was opened with.
    Certificate(&'a str),
}

/// Tokens are never shown.
impl fmt::Debug for Credential<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer(_) => formatter.write_str("Bearer"),
            Self::InQuery(_) => formatter.write_str("InQuery"),
            Self::Certificate(subject) => {
                formatter.debug_tuple("Certificate").field(subject).finish()
            }
        }
    }
}

impl Credential<'_> {
    /// What the caches of a server know it by.
    pub(super) fn hash(&self) -> [u8; 32] {
        let (kind, text) = match self {
            Self::Bearer(text) => (0, text),
            Self::InQuery(text) => (1, text),
            Self::Certificate(text) => (2, text),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]).update(text.as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// The kind of it, by how it looks.
    pub(super) fn parse(&self) -> Option<Parsed<'_>> {
        match self {
            Self::Certificate(subject) => Some(Parsed::Certificate(subject)),
            Self::InQuery(text) => text.strip_prefix(LINK).map(Parsed::Link),
            Self::Bearer(text) => {
                if let Some(sealed) = text.strip_prefix(LINK) {
                    return Some(Parsed::Link(sealed));
                }
                let Some(text) = text.strip_prefix(TOKEN) else { return Some(Parsed::Jwt(text)) };
                let (id, secret) = text.split_once('_')?;
                let id = Id::parse(id).ok()?;
                (secret.len() == SECRET_LENGTH).then_some(Parsed::Token(id, secret))
            }
        }
    }
}

/// A credential by its kind.
pub(super) enum Parsed<'a> {
    /// A token of the API: its id and its secret.
    Token(Id, &'a str),
    /// A sealed link.
    Link(&'a str),
    /// What may be a JWT.
    Jwt(&'a str),
    /// The subject of a certificate.
    Certificate(&'a str),
}

/// A new secret of a token.
pub(super) fn new_secret() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(random::<32>())
}

/// The text of a token, as callers send it.
pub(super) fn token_text(id: &Id, secret: &str) -> String {
    format!("{TOKEN}{}_{secret}", id.as_str())
}

/// The text of a link, as callers send it.
pub(super) fn link_text(sealed: &str) -> String {
    format!("{LINK}{sealed}")
}

/// What tokens and links begin with, so that scanners for secrets can find them.
const TOKEN: &str = "lht_";
const LINK: &str = "lhl_";
/// 32 bytes in base64.
const SECRET_LENGTH: usize = 43;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_is_never_shown() {
        let id = Id::parse("mail-er").expect("an id");
        let secret = new_secret();
        let text = token_text(&id, &secret);
        let credential = Credential::Bearer(&text);
        let Some(Parsed::Token(found, rest)) = credential.parse() else { panic!("{text}") };
        assert_eq!((found, rest), (id, secret.as_str()));
        assert!(!format!("{credential:?}").contains(&secret));
        assert!(Credential::InQuery(&text).parse().is_none(), "only links may be in an address");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(lht_|lhl_)?[ -~]{0,80}") {
            for credential in [Credential::Bearer(&text), Credential::InQuery(&text)] {
                if let Some(Parsed::Token(id, secret)) = credential.parse() {
                    prop_assert_eq!(token_text(&id, secret), text.clone());
                }
            }
        }
    }
}
