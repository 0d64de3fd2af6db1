//! Whether a request may come from where it says.
//!
//! A server without authentication listens on loopback, where a browser reaches it too: a page whose name was made to point
//! at 127.0.0.1 could do everything there (DNS rebinding), and any page can send requests whose answers it cannot read. Both
//! give themselves away by `Host` and `Origin`.

use std::net::IpAddr;

use axum::body::Body;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{Response, StatusCode, Uri};

use super::accept::Accept;
use super::error::HttpFailure;
use super::origins::Origins;
use crate::engine::Reason;
use crate::types::Registry;

/// The hosts that requests may be for, and the pages that they may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Any host; a page whose origin is not among these may not read the answer.
    Any(Origins),
    /// Names of this machine, and pages of this machine or of these origins.
    Loopback(Origins),
}

impl Hosts {
    /// Whether a page of that origin may read the answers.
    pub(crate) fn allows_page(&self, origin: &str) -> bool {
        match self {
            Self::Any(origins) => origins.has(origin),
            Self::Loopback(origins) => origins.has(origin) || is_of_this_machine(origin),
        }
    }

    /// The answer to a request that is refused.
    pub(crate) fn refusal(&self, head: &Parts) -> Option<Response<Body>> {
        let failure = self.check(head).err()?;
        Some(failure.respond(&Accept::default(), head.uri.path(), &Registry::builtin()))
    }

    /// Checks a request.
    pub(super) fn check(&self, head: &Parts) -> Result<(), HttpFailure> {
        if matches!(self, Self::Any(_)) {
            return Ok(());
        }
        let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = header(HOST);
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        if let Some(host) = host.into_iter().chain(authority).find(|host| !is_loopback(host)) {
            return Err(refused("Host", host));
        }
        match header(ORIGIN) {
            Some(origin) if !self.allows_page(origin) => Err(refused("Origin", origin)),
            _ => Ok(()),
        }
    }
}

fn is_of_this_machine(origin: &str) -> bool {
    let authority = origin.parse::<Uri>().ok().and_then(|origin| origin.authority().cloned());
    authority.is_some_and(|authority| is_loopback(authority.as_str()))
}

fn refused(header: &str, value: &str) -> HttpFailure {
    let message = format!(
        "{header} is {value}; a server without authentication answers only requests for this machine, such as localhost"
    );
    HttpFailure::of_http(StatusCode::FORBIDDEN, Reason::InvalidArgument, message)
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.to_ascii_lowercase();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
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
        assert!(Hosts::Any(Origins::default()).check(&head).is_ok());
        let listed = Origins::of(["https://app.example.com"]).expect("origins");
        Hosts::Loopback(listed).check(&head).is_ok()
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
