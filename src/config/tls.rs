//! Settings of TLS.

use std::path::PathBuf;

use serde::Deserialize;

use super::error::ConfigError;

/// Settings of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// File with the server's certificate and those of its issuers (PEM); empty without TLS.
    pub cert: PathBuf,
    /// File with the private key of that certificate (PEM).
    pub key: PathBuf,
    /// File with the authorities that sign certificates of clients (PEM); empty if clients show none.
    pub client_ca: PathBuf,
    /// Whether each client must show a certificate.
    pub client_auth: ClientAuth,
}

/// Whether each client must show a certificate, where the server knows authorities that sign them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// A connection without one is refused.
    #[default]
    Required,
    /// A client may connect without one, and show a token instead.
    Optional,
}

impl TlsSettings {
    /// Whether the server speaks TLS.
    pub fn is_on(&self) -> bool {
        !self.cert.as_os_str().is_empty()
    }

    /// Whether every client shows a certificate.
    pub(super) fn knows_clients(&self) -> bool {
        !self.client_ca.as_os_str().is_empty() && self.client_auth == ClientAuth::Required
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
        let why = match (is_set(&self.cert), is_set(&self.key)) {
            (true, false) => "tls.cert is set and tls.key is not; set both, or neither",
            (false, true) => "tls.key is set and tls.cert is not; set both, or neither",
            (false, false) if is_set(&self.client_ca) => {
                "tls.client_ca is set without tls.cert and tls.key; certificates of clients need TLS"
            }
            _ => return Ok(()),
        };
        Err(ConfigError(why.to_owned()))
    }
}
