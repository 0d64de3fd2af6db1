//! The web pages whose scripts may call the server, named by their origins.

use std::sync::Arc;

/// Origins besides those of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    listed: Arc<[String]>,
}

impl Origins {
    /// Reads origins.
    ///
    /// # Errors
    /// Names the text that is no origin, and what to write.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let listed = texts.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { listed })
    }

    /// Whether this origin is one of them.
    pub(super) fn has(&self, origin: &str) -> bool {
        self.listed.iter().any(|listed| listed == EVERY || listed == origin)
    }
}

/// An origin as browsers send it.
fn read(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let host = lower.split_once("://").map(|(scheme, host)| (scheme, host.trim_end_matches('/')));
    match host {
        _ if text == EVERY => Ok(lower),
        Some((scheme, host)) if !scheme.is_empty() && is_authority(host) => {
            let default = match scheme {
                "http" => ":80",
                "https" => ":443",
                _ => "",
            };
            let host = host.strip_suffix(default).unwrap_or(host);
            Ok(format!("{scheme}://{host}"))
        }
        _ => Err(format!(
            "{text:?} is no origin; write SCHEME://HOST[:PORT], such as https://app.example.com, or * for every page"
        )),
    }
}

fn is_authority(text: &str) -> bool {
    let authority = text.parse::<http::uri::Authority>();
    authority.is_ok_and(|found| !found.host().is_empty() && !text.contains(['@', '*']))
}

/// Allows every page.
const EVERY: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_as_browsers_write_it() {
        for (listed, origin, has) in [
            ("https://app.example.com", "https://app.example.com", true),
            ("https://App.Example.com/", "https://app.example.com", true),
            ("https://app.example.com:443", "https://app.example.com", true),
            ("http://app.example.com:8080", "http://app.example.com:8080", true),
            ("chrome-extension://abcdef", "chrome-extension://abcdef", true),
            ("*", "https://app.example.com", true),
            ("https://app.example.com", "http://app.example.com", false),
            ("https://app.example.com", "https://app.example.com:8443", false),
            ("https://app.example.com", "https://x.app.example.com", false),
            ("https://app.example.com", "null", false),
        ] {
            let origins = Origins::of([listed]).expect(listed);
            assert_eq!(origins.has(origin), has, "{listed} {origin}");
        }
        assert!(!Origins::default().has("https://app.example.com"));
    }

    #[test]
    fn what_is_no_origin_is_refused_with_what_to_write() {
        for text in
            ["", "null", "app.example.com", "https://", "https://a/b", "https://*.a", "://a"]
        {
            let refusal = Origins::of([text]).expect_err(text);
            assert!(refusal.contains("such as https://"), "{refusal}");
        }
    }
}
