//! Settings: `default.toml`, then a file, then `LONGHAUL_*`, then flags; each overrides the ones before.

mod authorities;
mod encryption;
mod environment;
mod error;
mod identity;
mod listen;
mod lists;
mod number;
mod store;
mod tenants;
mod tls;
mod webhooks;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Clock;
use crate::engine::{Policy, Roles, Settings};
use crate::store::Durability;
use crate::types::Registry;

use self::lists::{header_names, list};
use self::number::NumberOrText;

pub use self::encryption::{Encryption, SecretText};
pub use self::error::ConfigError;
pub use self::identity::{BindingConfig, IdentityConfig, IssuerConfig};
pub use self::listen::Listen;
pub use self::store::StoreUrl;
pub use self::tenants::TenantSettings;
pub use self::tls::{ClientAuth, TlsSettings};
pub use self::webhooks::{Webhooks, WebhooksOverrides};
pub use crate::http::Origins;

/// All settings, in their final types.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address to listen on.
    pub listen: Listen,
    /// The store.
    pub store: StoreUrl,
    /// The runtime.
    pub runtime: Runtime,
    /// Serve plain text beyond loopback.
    pub insecure: bool,
    /// Names of hosts under which HTTP is served, beside those of this machine.
    #[serde(deserialize_with = "hosts")]
    pub allowed_hosts: Vec<String>,
    /// Wait for a store that is unreachable at start.
    pub wait_for_store: bool,
    /// The only keyspace to serve.
    #[serde(deserialize_with = "empty_is_none")]
    pub keyspace: Option<Uuid>,
    /// Files with descriptors of further message types.
    #[serde(deserialize_with = "list")]
    pub descriptor_sets: Vec<PathBuf>,
    /// Pages of other machines that may call the server.
    #[serde(deserialize_with = "origins")]
    pub allowed_origins: Origins,
    /// See [`Settings::callback_headers`].
    #[serde(deserialize_with = "header_names")]
    pub callback_headers: Vec<String>,
    /// See [`Settings::progress_interval`].
    #[serde(with = "humantime_serde")]
    pub progress_interval: Duration,
    /// See [`Settings::stall_timeout`].
    #[serde(with = "humantime_serde")]
    pub stall_timeout: Duration,
    /// How callers prove who they are.
    pub identity: IdentityConfig,
    /// Settings of TLS.
    pub tls: TlsSettings,
    /// Settings of connections.
    pub connections: ConnectionSettings,
    /// Limits of tenants.
    pub tenant_limits: TenantSettings,
    /// Settings of encryption at rest.
    pub encryption: Encryption,
    /// Settings of the embedded store.
    pub embedded: Embedded,
    /// Settings of Redis.
    pub redis: Redis,
    /// Settings of deliveries.
    pub webhooks: Webhooks,
}

/// The runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// A runtime for each core, with its own connections.
    PerCore,
    /// One runtime whose threads share all connections.
    WorkStealing,
}

/// Settings of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionSettings {
    /// How long a connection lasts, a tenth more or less; zero without end.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// How long a connection without calls stays open; zero without end.
    #[serde(with = "humantime_serde")]
    pub max_idle: Duration,
}

/// Settings of the embedded store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedded {
    /// Open although acknowledged writes are missing.
    pub accept_loss: bool,
    /// Free disk in MiB below which starts are refused.
    #[serde(deserialize_with = "mebibytes")]
    pub reserve_mib: u64,
}

/// Settings of the Redis store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Prefix of every key.
    pub prefix: String,
    /// The durability that Redis must provide.
    #[serde(deserialize_with = "durability")]
    pub durability: Option<Durability>,
    /// Timeout of a call.
    #[serde(with = "humantime_serde")]
    pub response_timeout: Duration,
    /// File with the authorities that sign the certificate of Redis (PEM); empty for those of the system.
    pub tls_ca: PathBuf,
    /// File with the certificate that is shown to Redis (PEM); empty for none.
    pub tls_cert: PathBuf,
    /// File with the private key of that certificate (PEM).
    pub tls_key: PathBuf,
}

/// Settings from flags, which override all others.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Overrides {
    /// See [`Config::listen`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// See [`Config::store`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// See [`Config::insecure`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// See [`Config::wait_for_store`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_for_store: Option<bool>,
    /// See [`Config::keyspace`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyspace: Option<String>,
    /// See [`Config::descriptor_sets`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub descriptor_sets: Vec<PathBuf>,
    /// See [`Config::allowed_origins`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<String>,
    /// See [`IdentityConfig`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityOverrides>,
    /// See [`TlsSettings`].
    #[serde(skip_serializing_if = "TlsOverrides::is_empty")]
    pub tls: TlsOverrides,
    /// See [`Embedded`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedOverrides>,
    /// See [`Redis`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisOverrides>,
    /// See [`Webhooks`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhooks: Option<WebhooksOverrides>,
}

/// See [`IdentityConfig`].
#[derive(Clone, Debug, Serialize)]
pub struct IdentityOverrides {
    /// See [`IdentityConfig::tokens`].
    pub tokens: bool,
}

/// See [`TlsSettings`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct TlsOverrides {
    /// See [`TlsSettings::cert`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// See [`TlsSettings::key`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// See [`TlsSettings::client_ca`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

impl TlsOverrides {
    /// Plain text, whatever else the settings say.
    pub fn off() -> Self {
        let none = Some(PathBuf::new());
        Self { cert: none.clone(), key: none.clone(), client_ca: none }
    }

    const fn is_empty(&self) -> bool {
        self.cert.is_none() && self.key.is_none() && self.client_ca.is_none()
    }
}

/// See [`Embedded`].
#[derive(Clone, Debug, Serialize)]
pub struct EmbeddedOverrides {
    /// See [`Embedded::accept_loss`].
    pub accept_loss: bool,
}

/// See [`Redis`].
#[derive(Clone, Debug, Serialize)]
pub struct RedisOverrides {
    /// See [`Redis::durability`].
    pub durability: String,
}

impl Config {
    /// Loads the settings. `environment` is a map, so that tests do not change their own process.
    ///
    /// # Errors
    /// Names the setting, its value, and what it must be.
    pub fn load(
        file: Option<&str>,
        environment: &BTreeMap<String, String>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError(format!("cannot read {path}: {error}")))?;
            figment = figment.merge(Toml::string(&text));
        }
        let known = Figment::from(Toml::string(DEFAULTS)).extract();
        let known = known.map_err(|error| ConfigError(format!("default.toml: {error}")))?;
        let environment = environment::read(environment, &known)?;
        if !environment.ignored.is_empty() {
            tracing::warn!(
                variables = environment.ignored.join(" "),
                "ignoring what is no setting"
            );
        }
        let figment = figment
            .merge(Serialized::defaults(environment.settings))
            .merge(Serialized::defaults(overrides));
        let config: Self = figment.extract().map_err(|error| explain(&figment, error))?;
        config.check()?;
        Ok(config)
    }

    /// The settings of the engine.
    ///
    /// # Errors
    /// Names the descriptor set that cannot be used, and why.
    pub fn engine(&self, clock: &Arc<dyn Clock>) -> Result<Settings, ConfigError> {
        let types = Registry::load(&self.descriptor_sets)
            .map_err(|error| ConfigError(error.to_string()))?;
        let (progress_interval, stall_timeout) = (self.progress_interval, self.stall_timeout);
        let identity = self.identity.settings()?;
        let policy =
            if identity.is_any() { Policy::Rules(Arc::new(Roles)) } else { Policy::AllowAll };
        Ok(Settings {
            progress_interval,
            stall_timeout,
            types,
            policy,
            identity,
            tenant_limits: self.tenant_limits.into(),
            callback_headers: self.callback_headers.clone(),
            carrier: Some(self.webhooks.carrier(Arc::clone(clock))?),
            delivery_timeout: self.webhooks.timeout,
            delivery_pauses: self.webhooks.pauses()?,
            delivery_origin: self.webhooks.origin.clone(),
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.webhooks.guard()?;
        self.webhooks.pauses()?;
        if self.redis.response_timeout.is_zero() {
            let why = "redis.response_timeout is 0s; a call takes time, such as 2s";
            return Err(ConfigError(why.to_owned()));
        }
        self.tls.check()?;
        if self.insecure || self.listen.is_loopback() {
            return Ok(());
        }
        let why = if !self.tls.is_on() {
            "plain text can be read and changed on the way; set tls.cert and tls.key"
        } else if !self.tls.knows_clients() && !self.identity.is_any() {
            "everyone who can reach it may do everything; ask callers for tokens with --tokens, or set tls.client_ca to serve clients with certificates alone"
        } else {
            return Ok(());
        };
        let listen = &self.listen;
        Err(ConfigError(format!(
            "{listen} is reachable from other machines, and {why}, listen on 127.0.0.1, or accept that with --insecure"
        )))
    }
}

/// Names each invalid setting with what it must be, and with its value unless that may contain a password.
fn explain(figment: &Figment, error: figment::Error) -> ConfigError {
    let explained = error.into_iter().map(|error| {
        let (setting, why) = (error.path.join("."), error.kind.to_string());
        let value = figment.find_value(&setting).ok().filter(|_| !SECRETS.contains(&&*setting));
        match value.as_ref().and_then(figment::value::Value::as_str) {
            _ if setting.is_empty() || why.starts_with(&setting) => why,
            Some(value) => format!("{setting} is {value:?}: {why}"),
            None => format!("{setting}: {why}"),
        }
    });
    ConfigError(explained.collect::<Vec<_>>().join("; "))
}

fn empty_is_none<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Uuid>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let refuse = |_| {
        serde::de::Error::custom(format!(
            "keyspace is {text:?}; it must be the UUID that the server logs at its start"
        ))
    };
    Uuid::parse_str(&text).map(Some).map_err(refuse)
}

fn origins<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Origins, D::Error> {
    let listed: Vec<String> = list(deserializer)?;
    Origins::of(listed.iter().map(String::as_str)).map_err(serde::de::Error::custom)
}

/// Names of hosts, without scheme, port or path; or `*`.
fn hosts<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let hosts: Vec<String> = list(deserializer)?;
    let is_host = |host: &String| {
        host == "*"
            || host.parse::<std::net::IpAddr>().is_ok()
            || host.parse::<http::uri::Authority>().is_ok_and(|found| found.host() == host)
    };
    match hosts.iter().find(|host| !is_host(host)) {
        None => Ok(hosts),
        Some(host) => Err(serde::de::Error::custom(format!(
            "allowed_hosts has {host:?}; write names without scheme and port, such as longhaul.example.com, or \"*\" for all"
        ))),
    }
}

fn mebibytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let given = NumberOrText::deserialize(deserializer)?;
    given.number().filter(|number| *number <= MAX_RESERVE_MIB).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "embedded.reserve_mib is {:?}; it must be a number from 0 to {MAX_RESERVE_MIB}",
            given.to_string()
        ))
    })
}

fn durability<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Durability>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "" => Ok(None),
        "memory" => Ok(Some(Durability::Memory)),
        "fsync" => Ok(Some(Durability::Fsync)),
        other => Err(serde::de::Error::custom(format!(
            "redis.durability is {other:?}; it must be \"memory\", \"fsync\" or \"\""
        ))),
    }
}

/// Settings whose values may contain a secret.
const SECRETS: [&str; 2] = ["store", "encryption.keys"];
/// A pebibyte.
const MAX_RESERVE_MIB: u64 = 1 << 30;
const DEFAULTS: &str = include_str!("../default.toml");

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn load(
        file: Option<&str>,
        environment: &[(&str, &str)],
        overrides: Overrides,
    ) -> Result<Config, ConfigError> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Config::load(file, &environment, &overrides)
    }

    #[test]
    fn a_file_overrides_the_defaults_the_environment_the_file_and_flags_the_environment() {
        let mut file = tempfile::NamedTempFile::new().expect("file");
        writeln!(
            file,
            "listen = \"127.0.0.1:1\"\nstore = \"embedded:file\"\n[redis]\nprefix = \"file:\""
        )
        .expect("write");
        let path = file.path().to_str().expect("path");
        let environment = [
            ("LONGHAUL_STORE", "embedded:environment"),
            ("LONGHAUL_REDIS__RESPONSE_TIMEOUT", "5s"),
            ("LONGHAUL_EMBEDDED__RESERVE_MIB", "64"),
            ("LONGHAUL_DESCRIPTOR_SETS", "a.binpb,b.binpb"),
            ("LONGHAUL_ALLOWED_HOSTS", "a.example, ::1"),
            ("LONGHAUL_ALLOWED_ORIGINS", "https://a.example,https://b.example"),
            ("LONGHAUL_LOG", "debug"),
        ];
        let flags = Overrides { store: Some("redis://flag".to_owned()), ..Overrides::default() };
        let config = load(Some(path), &environment, flags).expect("config");
        assert_eq!(config.listen.addresses()[0].port(), 1);
        assert_eq!(config.store, StoreUrl::Redis("redis://flag".to_owned()));
        assert_eq!(config.redis.prefix, "file:");
        assert_eq!(config.redis.response_timeout, Duration::from_secs(5));
        assert_eq!(config.embedded.reserve_mib, 64);
        assert_eq!(config.descriptor_sets, [PathBuf::from("a.binpb"), PathBuf::from("b.binpb")]);
        assert_eq!(config.allowed_hosts, ["a.example", "::1"]);
        let origins = Origins::of(["https://a.example", "https://b.example"]);
        assert_eq!(config.allowed_origins, origins.expect("origins"));
        let config = load(Some(path), &environment, Overrides::default()).expect("config");
        assert_eq!(config.store, StoreUrl::Embedded("environment".into()));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (environment, part) in [
            (("LONGHAUL_LISTN", "x"), "LONGHAUL_LISTEN"),
            (("LONGHAUL_LISTEN", "nowhere"), "listen"),
            (
                ("LONGHAUL_ALLOWED_ORIGINS", "https://a.example,b.example"),
                "\"b.example\" is no origin",
            ),
            (("LONGHAUL_STORE", "postgres://u:secret@h"), "embedded:PATH"),
            (("LONGHAUL_KEYSPACE", "x"), "keyspace"),
            (("LONGHAUL_REDIS__DURABILITY", "replica"), "durability"),
            (("LONGHAUL_REDIS__RESPONSE_TIMEOUT", "0s"), "redis.response_timeout"),
            (("LONGHAUL_EMBEDDED__RESERVE_MIB", "64MiB"), "reserve_mib"),
            (("LONGHAUL_EMBEDDED__RESERVE_MIB", "99999999999"), "reserve_mib"),
            (("LONGHAUL_LISTEN", "0.0.0.0:1"), "--insecure"),
            (("LONGHAUL_ALLOWED_HOSTS", "a.example,https://b.example"), "https://b.example"),
            (("LONGHAUL_ALLOWED_HOSTS", "a.example:443"), "without scheme and port"),
            (("LONGHAUL_WEBHOOKS__NETWORKS", "10.0.0.0/8,x"), "webhooks.networks has \"x\""),
        ] {
            let error =
                load(None, &[environment], Overrides::default()).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(
            load(
                None,
                &[("LONGHAUL_LISTEN", "0.0.0.0:1"), ("LONGHAUL_INSECURE", "true")],
                Overrides::default()
            )
            .is_ok()
        );
    }
}
