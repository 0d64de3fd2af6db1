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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::config::{Config, Overrides};

    fn load(settings: &[(&str, &str)]) -> Result<Config, String> {
        let environment =
            settings.iter().map(|(name, value)| (format!("LONGHAUL_{name}"), (*value).to_owned()));
        let environment: BTreeMap<String, String> = environment.collect();
        Config::load(None, &environment, &Overrides::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn beyond_loopback_a_server_needs_encryption_and_known_clients() {
        let open = ("LISTEN", "0.0.0.0:1");
        let pair = [("TLS__CERT", "server.pem"), ("TLS__KEY", "server.key")];
        let clients = ("TLS__CLIENT_CA", "clients.pem");
        let optional = ("TLS__CLIENT_AUTH", "optional");
        let insecure = ("INSECURE", "true");
        for (settings, part) in [
            (vec![open], "plain text"),
            (vec![open, pair[0], pair[1]], "tls.client_ca"),
            (vec![open, pair[0], pair[1], clients, optional], "tls.client_ca"),
            (vec![pair[0]], "tls.key is not"),
            (vec![pair[1]], "tls.cert is not"),
            (vec![clients], "certificates of clients need TLS"),
            (vec![("TLS__CLIENT_AUTH", "sometimes")], "tls.client_auth"),
            (vec![("TENANT_LIMITS__OPERATIONS", "many")], "tenant_limits.operations"),
            (vec![("REDIS__RESPONSE_TIMEOUT", "0s")], "redis.response_timeout"),
        ] {
            let refusal = load(&settings).expect_err(part);
            assert!(refusal.contains(part), "{settings:?}: {refusal}");
        }
        for settings in [
            vec![open, insecure],
            vec![open, pair[0], pair[1], insecure],
            vec![open, pair[0], pair[1], clients],
            vec![pair[0], pair[1]],
            vec![("TENANT_LIMITS__OPERATIONS", "7")],
        ] {
            load(&settings).expect("settings");
        }
    }

    #[test]
    fn keys_of_encryption_come_from_one_place_and_are_not_shown() {
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let config = load(&[("ENCRYPTION__KEYS", key)]).expect("settings");
        assert!(!format!("{config:?}").contains(key));
        assert!(config.encryption.sealing_keys().expect("keys").is_some());
        assert!(load(&[]).expect("settings").encryption.sealing_keys().expect("none").is_none());
        for (settings, part) in [
            (&[("ENCRYPTION__KEYS", "s3cret")][..], "encryption.keys"),
            (&[("ENCRYPTION__KEY_FILE", "/nowhere/s")], "/nowhere/s"),
            (&[("ENCRYPTION__KEYS", key), ("ENCRYPTION__KEY_FILE", "x")], "both set"),
        ] {
            let refusal = load(settings).expect("settings").encryption.sealing_keys();
            let refusal = refusal.expect_err(part).to_string();
            assert!(refusal.contains(part) && !refusal.contains("s3cret"), "{refusal}");
        }
    }
}
