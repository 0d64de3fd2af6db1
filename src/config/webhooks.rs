//! Where deliveries may go.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::authorities::client_tls;
use super::error::ConfigError;
use super::lists::list;
use crate::clock::Clock;
use crate::post::{Carrier, HttpCarrier, SystemResolver, UrlGuard};

/// Settings of deliveries to callbacks and webhook endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// See [`UrlGuard::allow_http`].
    pub allow_http: bool,
    /// See [`UrlGuard::ports`].
    #[serde(deserialize_with = "list")]
    pub ports: Vec<String>,
    /// See [`UrlGuard::hosts`].
    #[serde(deserialize_with = "list")]
    pub hosts: Vec<String>,
    /// See [`UrlGuard::networks`].
    #[serde(deserialize_with = "list")]
    pub networks: Vec<String>,
    /// How long an attempt may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// The pauses between attempts.
    #[serde(deserialize_with = "list")]
    pub pauses: Vec<String>,
    /// What this server calls itself where a receiver is asked to agree.
    pub origin: String,
}

/// See [`Webhooks`].
#[derive(Clone, Debug, Serialize)]
pub struct WebhooksOverrides {
    /// See [`Webhooks::allow_http`].
    pub allow_http: bool,
    /// See [`Webhooks::networks`].
    pub networks: Vec<String>,
}

impl WebhooksOverrides {
    /// Receivers on this machine, too.
    pub fn of_this_machine() -> Self {
        let networks = ["127.0.0.0/8", "::1/128"].map(str::to_owned).to_vec();
        Self { allow_http: true, networks }
    }
}

impl Webhooks {
    /// What the operator allows.
    ///
    /// # Errors
    /// Names the setting and the value that cannot be used.
    pub fn guard(&self) -> Result<UrlGuard, ConfigError> {
        let refuse = |setting, value: &str, what| {
            ConfigError(format!("webhooks.{setting} has {value:?}; {what}"))
        };
        let port = |text: &String| {
            let port = text.parse().ok().filter(|port| *port > 0);
            port.ok_or_else(|| refuse("ports", text, "a port is a number from 1 to 65535"))
        };
        let host = |text: &String| {
            let name = text.strip_prefix("*.").unwrap_or(text);
            let parsed = url::Host::parse(name).ok().filter(|_| !name.contains('*'));
            let parsed = parsed.map(|host| host.to_string());
            let is_plain = parsed.is_some_and(|parsed| {
                parsed.trim_matches(['[', ']']) == name.to_lowercase().trim_matches(['[', ']'])
            });
            let what = "write a name such as example.com or *.example.com, without scheme and port";
            is_plain.then(|| text.to_lowercase()).ok_or_else(|| refuse("hosts", text, what))
        };
        let network = |text: &String| {
            let what = "write an address and the length of its prefix, such as 10.1.0.0/16";
            text.parse::<IpNet>().map_err(|_| refuse("networks", text, what))
        };
        if self.timeout.is_zero() {
            let why = "webhooks.timeout is 0s; a request takes time, such as 20s";
            return Err(ConfigError(why.to_owned()));
        }
        Ok(UrlGuard {
            allow_http: self.allow_http,
            ports: self.ports.iter().map(port).collect::<Result<_, _>>()?,
            hosts: self.hosts.iter().map(host).collect::<Result<_, _>>()?,
            networks: self.networks.iter().map(network).collect::<Result<_, _>>()?,
        })
    }

    /// The pauses between attempts.
    ///
    /// # Errors
    /// Names the value that is none.
    pub fn pauses(&self) -> Result<Vec<Duration>, ConfigError> {
        let pause = |text: &String| {
            humantime::parse_duration(text).map_err(|_| {
                ConfigError(format!("webhooks.pauses has {text:?}; write durations such as 5m"))
            })
        };
        self.pauses.iter().map(pause).collect()
    }

    /// Sends deliveries, over TLS as the certificates of this machine allow.
    ///
    /// # Errors
    /// Names the setting and the value that cannot be used.
    pub fn carrier(&self, clock: Arc<dyn Clock>) -> Result<Arc<dyn Carrier>, ConfigError> {
        let tls = client_tls(None)?;
        let (guard, resolver) = (self.guard()?, Arc::new(SystemResolver));
        Ok(Arc::new(HttpCarrier::new(guard, resolver, tls, clock, self.timeout)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhooks(ports: &[&str], hosts: &[&str], networks: &[&str]) -> Webhooks {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Webhooks {
            allow_http: false,
            ports: owned(ports),
            hosts: owned(hosts),
            networks: owned(networks),
            timeout: Duration::from_secs(20),
            pauses: owned(&["5s", "5m"]),
            origin: "api.test".to_owned(),
        }
    }

    #[test]
    fn what_the_operator_allows_is_read_and_mistakes_are_named() {
        let all = webhooks(&["443"], &["*.Example.com", "8.8.8.8"], &["10.0.0.0/8", "fd00::/8"]);
        let guard = all.guard().expect("a guard");
        assert_eq!(guard.ports, [443]);
        assert_eq!(guard.hosts, ["*.example.com", "8.8.8.8"]);
        assert_eq!(guard.networks.len(), 2);
        let pauses = [Duration::from_secs(5), Duration::from_mins(5)];
        assert_eq!(all.pauses().expect("pauses"), pauses);
        let wrong = Webhooks { pauses: vec!["soon".to_owned()], ..all };
        let error = wrong.pauses().expect_err("no duration").to_string();
        assert!(error.contains("webhooks.pauses has \"soon\""), "{error}");
        for (wrong, part) in [
            (webhooks(&["0"], &[], &[]), "webhooks.ports has \"0\""),
            (webhooks(&["https"], &[], &[]), "webhooks.ports"),
            (webhooks(&[], &["https://a.test"], &[]), "webhooks.hosts"),
            (webhooks(&[], &["a.test:443"], &[]), "webhooks.hosts"),
            (webhooks(&[], &["*"], &[]), "webhooks.hosts"),
            (webhooks(&[], &[], &["10.0.0.1"]), "webhooks.networks"),
            (webhooks(&[], &[], &["10.0.0.0/33"]), "webhooks.networks"),
            (Webhooks { timeout: Duration::ZERO, ..webhooks(&[], &[], &[]) }, "webhooks.timeout"),
        ] {
            let error = wrong.guard().expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
