//! Where the server may send deliveries. Whoever starts an operation chooses the URL, so a URL must not lead to a machine that
//! only this server can reach.
//!
//! A URL is checked before each attempt, and the addresses of its host each time the connector looks them up. The
//! connection goes to an address that was checked.

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

use super::address::{canonical, kind_of_private};

/// What the operator allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlGuard {
    /// URLs without TLS, too.
    pub allow_http: bool,
    /// The only ports; all where it is empty.
    pub ports: Vec<u16>,
    /// The only hosts, such as `example.com`, or `*.example.com` for those below it; all where it is empty.
    pub hosts: Vec<String>,
    /// Networks that may be reached although they are not public.
    pub networks: Vec<IpNet>,
}

/// Why a URL is not called. It names no address: whoever chose the URL must not learn what names mean here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no URL. Its host is named at most: the rest may hold a secret.
    #[error("it is not a valid URL{}: {error}", of_host(.host))]
    Malformed {
        /// The host, with its port.
        host: String,
        /// What is wrong.
        error: url::ParseError,
    },
    /// It is without TLS, and the operator does not allow that.
    #[error("http is not allowed; use https, or let the operator set webhooks.allow_http")]
    Plain,
    /// It has another scheme.
    #[error("the scheme {0:?} is not allowed; use https")]
    Scheme(String),
    /// It has a user or a password.
    #[error("the URL must not have a user or a password; use a header of the callback")]
    Userinfo,
    /// It has no host.
    #[error("the URL has no host")]
    NoHost,
    /// The operator does not allow the port.
    #[error("port {0} is not allowed; the operator's setting webhooks.ports lists those that are")]
    Port(u16),
    /// The operator does not allow the host.
    #[error(
        "the host {0:?} is not allowed; the operator's setting webhooks.hosts lists those that are"
    )]
    Host(String),
    /// An address of the host is not public.
    #[error(
        "an address of {host:?} is not public ({kind}); the operator can allow its network in webhooks.networks"
    )]
    Private {
        /// The host.
        host: String,
        /// What its address is.
        kind: &'static str,
    },
    /// The name of the host has no address.
    #[error("the host {0:?} has no address")]
    Unknown(String),
}

impl UrlGuard {
    /// Parses and checks a URL. A host that is an address, however it is written, is checked here; a name is checked when it
    /// is looked up.
    ///
    /// # Errors
    /// Says why the URL is not called.
    pub fn url(&self, text: &str) -> Result<Url, Refused> {
        let url =
            Url::parse(text).map_err(|error| Refused::Malformed { host: host_of(text), error })?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            "http" => return Err(Refused::Plain),
            other => return Err(Refused::Scheme(other.to_owned())),
        }
        if !url.username().is_empty() || url.password().is_some() || has_at(text) {
            return Err(Refused::Userinfo);
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if port == 0 || !(self.ports.is_empty() || self.ports.contains(&port)) {
            return Err(Refused::Port(port));
        }
        let host = match url.host() {
            None => return Err(Refused::NoHost),
            Some(Host::Domain(name)) => {
                self.host(name)?;
                return Ok(url);
            }
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
        };
        let name = canonical(host).to_string();
        self.host(&name)?;
        self.addresses(&name, [host])?;
        Ok(url)
    }

    /// Checks the addresses of a host; one that is refused refuses the host.
    ///
    /// # Errors
    /// Says why the host is not called.
    pub fn addresses(
        &self,
        host: &str,
        found: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Vec<IpAddr>, Refused> {
        let found: Vec<IpAddr> = found.into_iter().map(canonical).collect();
        if found.is_empty() {
            return Err(Refused::Unknown(host.to_owned()));
        }
        for address in &found {
            if self.networks.iter().any(|network| network.contains(address)) {
                continue;
            }
            if let Some(kind) = kind_of_private(*address) {
                return Err(Refused::Private { host: host.to_owned(), kind });
            }
        }
        Ok(found)
    }

    fn host(&self, host: &str) -> Result<(), Refused> {
        // A final dot means the same host.
        let bare = host.strip_suffix('.').unwrap_or(host);
        let fits = |allowed: &String| match allowed.strip_prefix("*.") {
            Some(domain) => {
                bare.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            None => bare == allowed,
        };
        if self.hosts.is_empty() || self.hosts.iter().any(fits) {
            return Ok(());
        }
        Err(Refused::Host(host.to_owned()))
    }
}

/// Whether the authority has an `@`, even an empty userinfo, which the parser drops.
fn has_at(text: &str) -> bool {
    authority(text).contains('@')
}

fn authority(text: &str) -> &str {
    let rest = text.split_once("//").map_or(text, |(_, rest)| rest);
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    &rest[..end]
}

/// The host and the port of a text that is no URL, shortened; empty where they may be part of a user, a password or a query.
fn host_of(text: &str) -> String {
    let is_certain = text.contains("//") && !text.contains('@');
    if is_certain { authority(text).chars().take(100).collect() } else { String::new() }
}

fn of_host(host: &str) -> String {
    if host.is_empty() { String::new() } else { format!(" (host {host:?})") }
}
