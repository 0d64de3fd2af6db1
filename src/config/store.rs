//! Where the store is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// The store.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum StoreUrl {
    /// An embedded store in this directory.
    Embedded(PathBuf),
    /// A Redis server; the URL may contain a password.
    Redis(String),
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("embedded:") {
            return if path.is_empty() {
                Err("embedded: needs a directory, such as embedded:./data".to_owned())
            } else {
                Ok(Self::Embedded(path.into()))
            };
        }
        if text.starts_with("redis://") || text.starts_with("rediss://") {
            return Ok(Self::Redis(text.to_owned()));
        }
        // Do not repeat a value that may contain a password.
        let scheme = text.split(':').next().unwrap_or_default();
        Err(format!(
            "a store is embedded:PATH, redis://HOST:PORT, or rediss://HOST:PORT with TLS, not {scheme:?}"
        ))
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The URL without credentials.
impl fmt::Display for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(path) => write!(formatter, "embedded:{}", path.display()),
            Self::Redis(url) => match url.rsplit_once('@') {
                Some((head, place)) => {
                    let scheme = head.split(':').next().unwrap_or_default();
                    write!(formatter, "{scheme}://***@{place}")
                }
                None => formatter.write_str(url),
            },
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let url: StoreUrl = "redis://user:secret@host:1".parse().expect("url");
        assert_eq!(format!("{url} {url:?}"), "redis://***@host:1 redis://***@host:1");
    }
}
