//! Whether a request may come from where it says.
//!
//! A server without authentication listens on loopback, where a browser reaches it too: a page whose name was made to point
//! at 127.0.0.1 could do everything there (DNS rebinding), and any page can send requests whose answers it cannot read. Both
//! give themselves away by `Host` and `Origin`.

use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use http::header::{HOST, ORIGIN};
use http::request::Parts;

use super::error::HttpFailure;
use crate::engine::{Error, Reason};

/// The hosts that requests may be for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// All.
    #[default]
    Any,
    /// The names of this machine, and these.
    Named(Arc<[String]>),
}

impl Hosts {
    /// The hosts of a server that listens on loopback or beyond, with the names that its operator allows: without any, a
    /// server beyond loopback answers for all.
    pub(crate) fn of(is_on_loopback: bool, allowed: &[String]) -> Self {
        let all = allowed.iter().any(|name| name == "*");
        if all || !is_on_loopback && allowed.is_empty() {
            return Self::Any;
        }
        Self::Named(allowed.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Checks a request.
    pub(super) fn check(&self, head: &Parts) -> Result<(), HttpFailure> {
        if *self == Self::Any {
            return Ok(());
        }
        let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = header(HOST);
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        if let Some(host) = host.into_iter().chain(authority).find(|host| !self.allow(host)) {
            return Err(refused("Host", host));
        }
        let Some(origin) = header(ORIGIN) else { return Ok(()) };
        let authority = origin.parse::<Uri>().ok().and_then(|origin| origin.authority().cloned());
        match authority {
            Some(authority) if self.allow(authority.as_str()) => Ok(()),
            _ => Err(refused("Origin", origin)),
        }
    }

    fn allow(&self, authority: &str) -> bool {
        let Self::Named(names) = self else { return true };
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        is_loopback(&host) || names.contains(&host)
    }
}

fn refused(header: &str, value: &str) -> HttpFailure {
    let message = format!(
        "{header} is {value}, which is not a name of this server: use localhost, or add the name to the setting allowed_hosts"
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
        assert!(Hosts::of(false, &[]).check(&head).is_ok());
        assert!(Hosts::of(true, &["*".to_owned()]).check(&head).is_ok());
        let named = |name: &str| [name.to_owned()];
        let allowed = [named("Longhaul.example"), named("fd00::7")].concat();
        for is_on_loopback in [false, true] {
            let check = Hosts::of(is_on_loopback, &allowed).check(&head).is_ok();
            let is_own = Hosts::of(true, &[]).check(&head).is_ok();
            let is_named = host.contains("longhaul.example") || host.contains("fd00::7");
            assert_eq!(check && origin.is_none(), (is_own || is_named) && origin.is_none());
        }
        Hosts::of(true, &[]).check(&head).is_ok()
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
            ("https://example.com", false),
            ("null", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(is_let_in("localhost", Some(origin)), let_in, "{origin}");
        }
    }
}
