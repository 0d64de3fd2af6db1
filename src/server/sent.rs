//! The credentials of a request, taken out of it, so that nothing behind can log or store them.

use std::sync::Arc;

use constant_time_eq::constant_time_eq;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Uri};
use tonic::body::Body;

use crate::engine::{Caller, Credential};
use crate::peer::Peer;

/// What a request has of credentials.
pub(super) enum SentCredential {
    None,
    Header(HeaderValue),
    InQuery(String),
    /// The client that opened the connection with a certificate, where the request itself has nothing.
    Certificate(Arc<Peer>),
    /// More than one, of which none can be chosen.
    Several,
}

impl SentCredential {
    pub(super) fn take(request: &mut Request<Body>) -> Self {
        let in_query = take_from_query(request);
        let headers = request.headers_mut();
        let count = headers.len();
        let Some(header) = headers.remove(AUTHORIZATION) else {
            return in_query.map_or_else(|| of_connection(request), Self::InQuery);
        };
        // All values of the header were removed.
        let are_several = in_query.is_some() || count - headers.len() > 1;
        if are_several { Self::Several } else { Self::Header(header) }
    }

    /// A copy that holds nothing else of its request; `None` for what each request must prove anew.
    pub(super) fn to_keep(&self) -> Option<Self> {
        match self {
            Self::Header(value) => {
                let mut value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
                value.set_sensitive(true);
                Some(Self::Header(value))
            }
            Self::Certificate(peer) => Some(Self::Certificate(Arc::clone(peer))),
            Self::None | Self::InQuery(_) | Self::Several => None,
        }
    }

    /// Whether it is the same credential. The time that this takes says nothing about where two tokens differ.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Header(own), Self::Header(other)) => {
                constant_time_eq(own.as_bytes(), other.as_bytes())
            }
            (Self::Certificate(own), Self::Certificate(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }

    pub(super) const fn is_in_query(&self) -> bool {
        matches!(self, Self::InQuery(_))
    }

    /// What is to be checked; the caller where there is nothing to check.
    pub(super) fn credential(&self) -> Result<Credential<'_>, Caller> {
        match self {
            Self::None => Err(Caller::MISSING),
            Self::Several => Err(Caller::REFUSED),
            Self::InQuery(text) => Ok(Credential::InQuery(text)),
            Self::Certificate(peer) => {
                let certificate = peer.certificate.as_ref().ok_or(Caller::MISSING)?;
                Ok(Credential::Certificate(&certificate.subject))
            }
            Self::Header(value) => {
                value.to_str().ok().and_then(bearer).map(Credential::Bearer).ok_or(Caller::REFUSED)
            }
        }
    }
}

fn of_connection(request: &Request<Body>) -> SentCredential {
    let peer = request.extensions().get::<Arc<Peer>>();
    let shown = peer.filter(|peer| peer.certificate.is_some());
    shown.map_or(SentCredential::None, |peer| SentCredential::Certificate(Arc::clone(peer)))
}

/// The token of `Bearer TOKEN`; the scheme is read in any case.
fn bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Takes `access_token` out of the query.
fn take_from_query(request: &mut Request<Body>) -> Option<String> {
    let uri = request.uri();
    let query = uri.query().filter(|query| query.contains(IN_QUERY))?;
    let (mut found, mut rest) = (None, form_urlencoded::Serializer::new(String::new()));
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if key == IN_QUERY {
            found = Some(value.into_owned()).filter(|value| !value.is_empty()).or(found);
        } else {
            rest.append_pair(&key, &value);
        }
    }
    let rest = rest.finish();
    let path = uri.path();
    let left = if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = left.parse().ok();
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    found
}

/// The parameter of a query that has a link.
pub(super) const IN_QUERY: &str = "access_token";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::PeerCertificate;

    fn taken(uri: &str, header: Option<&'static str>) -> (SentCredential, Request<Body>) {
        let mut request = Request::get(uri).body(Body::empty()).expect("a request");
        if let Some(header) = header {
            request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static(header));
        }
        (SentCredential::take(&mut request), request)
    }

    #[test]
    fn credentials_are_taken_out_of_the_request() {
        let (sent, request) = taken("/v1/operations/o?a=b%20c&access_token=lhl_x&d=e", None);
        assert!(matches!(sent.credential(), Ok(Credential::InQuery("lhl_x"))));
        assert_eq!(request.uri(), "/v1/operations/o?a=b+c&d=e");
        let (sent, request) = taken("/v1/operations/o?access_token=lhl_x", None);
        assert!(sent.is_in_query());
        assert_eq!(request.uri(), "/v1/operations/o");
        let (sent, request) = taken("/v1/operations/o?access_token=", Some("bearer  x "));
        assert!(matches!(sent.credential(), Ok(Credential::Bearer("x"))));
        assert_eq!(request.uri(), "/v1/operations/o");
        assert!(request.headers().is_empty());
    }

    #[test]
    fn a_certificate_counts_where_the_request_has_no_token() {
        let shown = |header: Option<&'static str>| {
            let mut request = Request::get("/").body(Body::empty()).expect("a request");
            if let Some(header) = header {
                request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static(header));
            }
            let certificate = PeerCertificate {
                subject: "CN=w".to_owned(),
                dns_names: Vec::new(),
                uris: Vec::new(),
            };
            let peer = Peer { certificate: Some(certificate) };
            request.extensions_mut().insert(Arc::new(peer));
            SentCredential::take(&mut request)
        };
        assert!(matches!(shown(None).credential(), Ok(Credential::Certificate("CN=w"))));
        assert!(matches!(shown(Some("Bearer x")).credential(), Ok(Credential::Bearer("x"))));
    }

    #[test]
    fn what_cannot_be_one_credential_is_refused() {
        for (uri, header) in [
            ("/", Some("Basic eDp5")),
            ("/", Some("Bearer")),
            ("/?access_token=lhl_x", Some("Bearer y")),
        ] {
            let (sent, _) = taken(uri, header);
            assert!(sent.credential().is_err(), "{uri} {header:?}");
        }
    }
}
