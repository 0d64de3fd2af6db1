//! The credentials of a request, taken out of it, so that nothing behind can log or store them.

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Uri};
use tonic::body::Body;

use crate::engine::{Caller, Credential};

/// What a request has of credentials.
pub(super) enum SentCredential {
    None,
    Header(HeaderValue),
    InQuery(String),
    /// More than one, of which none can be chosen.
    Several,
}

impl SentCredential {
    pub(super) fn take(request: &mut Request<Body>) -> Self {
        let in_query = take_from_query(request);
        let headers = request.headers_mut();
        if headers.get_all(AUTHORIZATION).iter().count() > 1 {
            headers.remove(AUTHORIZATION);
            return Self::Several;
        }
        let Some(header) = headers.remove(AUTHORIZATION) else {
            return in_query.map_or(Self::None, Self::InQuery);
        };
        if in_query.is_some() { Self::Several } else { Self::Header(header) }
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
            Self::Header(value) => {
                value.to_str().ok().and_then(bearer).map(Credential::Bearer).ok_or(Caller::REFUSED)
            }
        }
    }
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
