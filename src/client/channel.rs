//! A channel whose calls say who makes them.

use std::fmt;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service;

/// A channel that sends a token with each call, if it has one.
#[derive(Clone, Debug)]
pub struct AuthorizedChannel {
    channel: Channel,
    token: Option<BearerToken>,
}

/// A token that callers prove their identity with. Not shown by `Debug`.
#[derive(Clone)]
pub struct BearerToken(HeaderValue);

impl AuthorizedChannel {
    /// A channel that sends this token.
    pub const fn new(channel: Channel, token: Option<BearerToken>) -> Self {
        Self { channel, token }
    }

    /// The token.
    pub const fn token(&self) -> Option<&BearerToken> {
        self.token.as_ref()
    }
}

impl BearerToken {
    /// A token. `None` if the text cannot be in a header, or is empty.
    pub fn new(text: &str) -> Option<Self> {
        let mut header = HeaderValue::try_from(format!("Bearer {text}")).ok()?;
        header.set_sensitive(true);
        (!text.trim().is_empty()).then_some(Self(header))
    }

    /// The value of `authorization`.
    pub(crate) const fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BearerToken")
    }
}

impl Service<Request<Body>> for AuthorizedChannel {
    type Response = <Channel as Service<Request<Body>>>::Response;
    type Error = <Channel as Service<Request<Body>>>::Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.header().clone());
        }
        self.channel.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let token = BearerToken::new("secret").expect("a token");
        assert!(!format!("{token:?} {:?}", token.0).contains("secret"));
        assert!(BearerToken::new("two\nlines").is_none() && BearerToken::new(" ").is_none());
    }
}
