//! Which URIs can be called at all. Where they lead is checked at each call.

use http::Uri;

use crate::limits::MAX_CALLBACK_URI_BYTES;

/// Why a URI cannot be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriFault {
    /// It is empty.
    #[error("it is empty; give a URI such as https://example.com/done")]
    Empty,
    /// It is too long.
    #[error("it has {0} bytes; the most are {MAX_CALLBACK_URI_BYTES}")]
    Long(usize),
    /// A byte must be escaped.
    #[error("byte {position} is {letter:?}, which a URI cannot hold; write it as %XX")]
    Letter {
        /// Where it is.
        position: usize,
        /// The byte as a letter.
        letter: char,
    },
    /// It is no URI with a scheme and a host.
    #[error("it is not a URI with a scheme and a host, such as https://example.com/done")]
    Malformed,
    /// The scheme is another one.
    #[error("its scheme is {0}; https is called, and http if the server allows it")]
    Scheme(String),
    /// It has a name or a password.
    #[error("it has a user before the host; put credentials into a header")]
    User,
    /// It has a fragment.
    #[error("it has a fragment, which is never sent; leave out what follows '#'")]
    Fragment,
}

/// Checks a URI.
///
/// # Errors
/// Why it cannot be called.
pub fn check(text: &str) -> Result<(), UriFault> {
    if text.is_empty() {
        return Err(UriFault::Empty);
    }
    if text.len() > MAX_CALLBACK_URI_BYTES {
        return Err(UriFault::Long(text.len()));
    }
    if let Some((position, letter)) = text.char_indices().find(|(_, letter)| !is_of_uri(*letter)) {
        return Err(UriFault::Letter { position, letter });
    }
    let uri: Uri = text.parse().map_err(|_| UriFault::Malformed)?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(UriFault::Malformed);
    };
    if !matches!(scheme, "https" | "http") {
        return Err(UriFault::Scheme(scheme.to_owned()));
    }
    if authority.as_str().contains('@') {
        return Err(UriFault::User);
    }
    let has_port = authority.as_str().rsplit_once(']').map_or(authority.as_str(), |it| it.1);
    if authority.host().is_empty() || has_port.contains(':') && authority.port_u16().is_none() {
        return Err(UriFault::Malformed);
    }
    if text.contains('#') { Err(UriFault::Fragment) } else { Ok(()) }
}

/// RFC 3986: unreserved and reserved characters, and the percent sign.
fn is_of_uri(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=%".contains(letter)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_uri_that_others_read_alike_or_refused(
            text in r"(https?|HTTP|ftp)?(://)?[ -~\u{e9}]{0,30}(:[0-9]{0,6})?(/|\?|@|#)?[!-~]{0,30}",
        ) {
            if check(&text).is_ok() {
                let host = text.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
                prop_assert!(host.is_some_and(|host| !host.is_empty()), "{text}");
                prop_assert!(!text.contains('#'));
            }
        }
    }

    #[test]
    fn a_uri_has_a_scheme_and_a_host_and_no_user_and_no_fragment() {
        for text in [
            "https://example.com",
            "https://example.com/done?x=a%20b&y=(1)",
            "http://localhost:8080/",
            "HTTPS://EXAMPLE.com:443/",
            "https://[2001:db8::1]:8443/x",
            "https://[2001:db8::1]/x",
            "https://192.0.2.1/",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in ["", "example.com", "/done", "https:", "https://", "https:///x", "http:x"] {
            assert!(matches!(check(text), Err(UriFault::Malformed | UriFault::Empty)), "{text}");
        }
        for text in ["https://e.com:/x", "https://e.com:99999/", "https://e.com:x/"] {
            assert_eq!(check(text), Err(UriFault::Malformed), "{text}");
        }
        assert_eq!(check("ftp://e.com/"), Err(UriFault::Scheme("ftp".to_owned())));
        assert!(check("file:///etc/passwd").is_err());
        for text in ["https://u@e.com/", "https://u:p@e.com/", "https://e.com@f.com/"] {
            assert_eq!(check(text), Err(UriFault::User), "{text}");
        }
        assert_eq!(check("https://e.com/#x"), Err(UriFault::Fragment));
        let long = format!("https://e.com/{}", "x".repeat(MAX_CALLBACK_URI_BYTES));
        assert_eq!(check(&long), Err(UriFault::Long(long.len())));
    }

    #[test]
    fn a_letter_that_must_be_escaped_is_named_with_its_position() {
        for letter in [' ', '\\', '"', '<', '{', '|', '\n', '\0', '\u{e9}', '\u{3002}'] {
            let text = format!("https://e.com/a{letter}b");
            assert_eq!(check(&text), Err(UriFault::Letter { position: 15, letter }), "{text:?}");
        }
    }
}
