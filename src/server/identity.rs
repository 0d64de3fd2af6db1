//! Who calls: reads the credentials of each request and hands the caller on to the services.
//!
//! Credentials are taken out of the request here, so nothing behind can log or store them. Whether a caller needs any is not
//! decided here: health, reflection and the probes answer everyone.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, Either};
use http::header::{LOCATION, REFERRER_POLICY};
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tower::Service;

use super::recheck::{lasts, recheck};
use super::sent::{IN_QUERY, SentCredential};
use crate::engine::{AUDIT, Caller, Engine};
use crate::throttle::Throttle;

/// The faces of a server behind the question who calls.
#[derive(Clone)]
pub(super) struct Identified<S> {
    inner: S,
    engine: Engine,
    refusals: Arc<Throttle>,
}

impl<S> Identified<S> {
    pub(super) fn around(inner: S, engine: &Engine) -> Self {
        let refusals = Arc::new(Throttle::new(Arc::clone(engine.clock())));
        Self { inner, engine: engine.clone(), refusals }
    }
}

impl<S> Service<Request<Body>> for Identified<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if !self.engine.asks_for_credentials() {
            return Either::Left(self.inner.call(request));
        }
        let sent = SentCredential::take(&mut request);
        let known = match sent.credential() {
            Ok(credential) if !sent.is_in_query() => self.engine.known_caller(&credential),
            Ok(_) => None,
            Err(standing) => Some(standing),
        };
        if let Some(caller) = known.filter(|_| !lasts(&request)) {
            request.extensions_mut().insert(caller);
            return Either::Left(self.inner.call(request));
        }
        let (mut behind, inner) = (self.clone(), self.inner.clone());
        // The one that was polled to be ready is the one to call.
        behind.inner = std::mem::replace(&mut self.inner, inner);
        Either::Right(Box::pin(behind.look_up_and_call(sent, request)))
    }
}

impl<S> Identified<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    async fn look_up_and_call(
        mut self,
        sent: SentCredential,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Infallible> {
        let found = match sent.credential() {
            Ok(credential) => self.engine.authenticate(&credential).await,
            Err(standing) => Ok(standing),
        };
        let caller = found.unwrap_or_else(|error| Caller::undecided(*error));
        if caller.identity().is_none()
            && let Some(left_out) = self.refusals.admit("credentials")
        {
            tracing::warn!(target: AUDIT, left_out, "audit: credentials were not accepted");
        }
        let is_watched = caller.identity().is_some() && lasts(&request);
        request.extensions_mut().insert(caller);
        let mut response = self.inner.call(request).await?;
        if let SentCredential::InQuery(link) = &sent {
            keep_link(&mut response, link);
        }
        Ok(if is_watched { recheck(response, self.engine, sent) } else { response })
    }
}

/// The next address of the same operation has the link too; pages that are opened from here do not learn this one.
fn keep_link(response: &mut Response<Body>, link: &str) {
    let headers = response.headers_mut();
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let Some(location) = location.filter(|location| location.starts_with("/v1/")) else { return };
    let separator = if location.contains('?') { '&' } else { '?' };
    let location = format!("{location}{separator}{IN_QUERY}={link}");
    if let Ok(mut location) = HeaderValue::try_from(location) {
        location.set_sensitive(true);
        headers.insert(LOCATION, location);
    }
}
