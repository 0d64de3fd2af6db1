//! Whether a request may come from where it says.
//!
//! A server without authentication listens on loopback, where a browser reaches it too: a page whose name was made to point
//! at 127.0.0.1 could do everything there (DNS rebinding), and any page can send requests whose answers it cannot read. Both
//! give themselves away by `Host` and `Origin`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{Response, Uri};

use super::accept::Accept;
use super::error::HttpFailure;
use super::origins::Origins;
use crate::engine::{Error, Reason};
use crate::types::Registry;

/// The hosts that requests may be for, and the pages that they may come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    /// Besides the names of this machine; `None`: all.
    names: Option<Arc<[String]>>,
    /// Besides the pages of those hosts.
    origins: Origins,
}

impl Hosts {
    /// The hosts of a server that listens on loopback or beyond, with the names that its operator allows: without any, a
    /// server beyond loopback answers for all.
    pub(crate) fn of(is_on_loopback: bool, allowed: &[String], origins: Origins) -> Self {
        let all = allowed.iter().any(|name| name == "*");
        if all || !is_on_loopback && allowed.is_empty() {
            return Self { names: None, origins };
        }
        let names = allowed.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { names: Some(names), origins }
    }

    /// Whether a page of that origin may read the answers.
    pub(crate) fn allows_page(&self, origin: &str) -> bool {
        let is_of_a_host = |names: &Arc<[String]>| {
            let origin = origin.parse::<Uri>().ok();
            let authority = origin.as_ref().and_then(Uri::authority);
            authority.is_some_and(|authority| is_named(names, authority.as_str()))
        };
        self.origins.has(origin) || self.names.as_ref().is_some_and(is_of_a_host)
    }

    /// The answer to a request that is refused.
    pub(crate) fn refusal(&self, head: &Parts) -> Option<Response<Body>> {
        let failure = self.check(head).err()?;
        Some(failure.respond(&Accept::default(), head.uri.path(), &Registry::builtin()))
    }

    /// Checks a request.
    pub(super) fn check(&self, head: &Parts) -> Result<(), HttpFailure> {
        let Some(names) = &self.names else { return Ok(()) };
        let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = header(HOST);
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        if let Some(host) = host.into_iter().chain(authority).find(|host| !is_named(names, host)) {
            return Err(refused("Host", host));
        }
        match header(ORIGIN) {
            Some(origin) if !self.allows_page(origin) => Err(refused("Origin", origin)),
            _ => Ok(()),
        }
    }
}

fn is_named(names: &[String], authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    is_loopback(&host) || names.contains(&host)
}

fn refused(header: &str, value: &str) -> HttpFailure {
    let message = format!(
        "{header} is {value}, which is not a name of this server: use localhost, or add it to the setting allowed_hosts or allowed_origins"
    );
    Error::new(Reason::PermissionDenied, message).with("header", header).into()
}

/// Whether a name or an address is one of this machine alone.
fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn is_let_in(host: &str, origin: Option<&str>) -> bool {
        let mut request = Request::get("/v1/operations").header(HOST, host);
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let none = Origins::default;
        assert!(Hosts::of(false, &[], none()).check(&head).is_ok());
        assert!(Hosts::of(true, &["*".to_owned()], none()).check(&head).is_ok());
        let named = |name: &str| [name.to_owned()];
        let allowed = [named("Longhaul.example"), named("fd00::7")].concat();
        let listed = Origins::of(["https://app.example.com"]).expect("origins");
        for is_on_loopback in [false, true] {
            let check = Hosts::of(is_on_loopback, &allowed, listed.clone()).check(&head).is_ok();
            let is_own = Hosts::of(true, &[], none()).check(&head).is_ok();
            let is_named = host.contains("longhaul.example") || host.contains("fd00::7");
            assert_eq!(check && origin.is_none(), (is_own || is_named) && origin.is_none());
        }
        Hosts::of(true, &[], listed).check(&head).is_ok()
    }

    #[test]
    fn only_requests_for_this_machine_are_let_in() {
        for host in
            ["localhost", "LOCALHOST:50051", "127.0.0.1:1", "127.1.2.3", "[::1]:80", "a.localhost"]
        {
            assert!(is_let_in(host, None), "{host}");
        }
        for host in [
            "example.com",
            "127.0.0.1.example.com",
            "localhost.example.com:80",
            "10.0.0.1",
            "",
            "localhost:80:80",
            "longhaul.example:443",
            "[fd00::7]:443",
        ] {
            assert!(!is_let_in(host, None), "{host}");
        }
        for (origin, let_in) in [
            ("http://localhost:3000", true),
            ("http://[::1]", true),
            ("https://app.example.com", true),
            ("https://example.com", false),
            ("null", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(is_let_in("localhost", Some(origin)), let_in, "{origin}");
        }
    }
}
