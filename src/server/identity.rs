//! Who calls: reads the credentials of each request and hands the caller on to the services.
//!
//! Credentials are taken out of the request here, so nothing behind can log or store them. Whether a caller needs any is not
//! decided here: health, reflection and the probes answer everyone.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, Either};
use http::header::{LOCATION, REFERRER_POLICY};
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tower::Service;

use super::recheck::{lasts, recheck};
use super::sent::{IN_QUERY, SentCredential};
use crate::engine::{AUDIT, Acceptance, Caller, Engine};
use crate::throttle::Throttle;

/// The faces of a server behind the question who calls.
#[derive(Clone)]
pub(super) struct Identified<S> {
    inner: S,
    engine: Engine,
    refusals: Arc<Throttle>,
    last: Arc<LastCredential>,
}

/// The credential that a connection sent last and that was accepted: most calls send the same again, and are spared its hash and
/// the table of all. Whether it is still accepted is asked at each call.
#[derive(Default)]
struct LastCredential(Mutex<Option<(SentCredential, Acceptance)>>);

impl<S: Clone> Identified<S> {
    pub(super) fn around(inner: S, engine: &Engine) -> Self {
        let refusals = Arc::new(Throttle::new(Arc::clone(engine.clock())));
        Self { inner, engine: engine.clone(), refusals, last: Arc::default() }
    }

    /// The same for a new connection.
    pub(super) fn of_connection(&self) -> Self {
        Self { last: Arc::default(), ..self.clone() }
    }

    /// The caller with these credentials, if that is known without reading anything.
    fn known(&self, sent: &SentCredential) -> Option<Caller> {
        if let Some(caller) = self.last.caller(sent, &self.engine) {
            return Some(caller);
        }
        let credential = match sent.credential() {
            Ok(_) if sent.is_in_query() => return None,
            Ok(credential) => credential,
            Err(standing) => return Some(standing),
        };
        let acceptance = self.engine.known_acceptance(&credential)?;
        let caller = self.engine.caller_of(&acceptance)?;
        self.last.keep(sent, acceptance);
        Some(caller)
    }
}

impl LastCredential {
    fn caller(&self, sent: &SentCredential, engine: &Engine) -> Option<Caller> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, acceptance) = last.as_ref().filter(|(kept, _)| kept.is_same(sent))?;
        engine.caller_of(acceptance)
    }

    fn keep(&self, sent: &SentCredential, acceptance: Acceptance) {
        let kept = sent.to_keep().map(|kept| (kept, acceptance));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = kept;
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
        if let Some(caller) = self.known(&sent).filter(|_| !lasts(&request)) {
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

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};
    use std::time::Duration;

    use http::header::AUTHORIZATION;
    use tower::util::ServiceFn;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::engine::{
        IdentityBinding, IdentitySettings, NewToken, Permission, Settings, ShownToken,
    };
    use crate::operation::name::{Id, Parent};
    use crate::peer::{Peer, PeerCertificate};
    use crate::record::tokens::{Role, RoleGrant};
    use crate::store::Keyspace;
    use crate::store::memory::MemoryStore;

    type Answered = Ready<Result<Response<Body>, Infallible>>;
    /// Faces that answer with the caller of the request.
    type Saying = Identified<ServiceFn<fn(Request<Body>) -> Answered>>;

    fn say(request: Request<Body>) -> Answered {
        assert!(!request.headers().contains_key(AUTHORIZATION));
        let mut response = Response::new(Body::empty());
        response.extensions_mut().extend(request.extensions().clone());
        ready(Ok(response))
    }

    fn viewer(parent: &str) -> RoleGrant {
        let parent = Parent::parse(parent).expect("a parent");
        RoleGrant::new(Role::Viewer, parent, Vec::new()).expect("a grant")
    }

    fn served() -> (Arc<ManualClock>, Engine, Saying) {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let store = MemoryStore::new(Keyspace::generate(1), clock.clone());
        let member = "certificate:*".parse().expect("a member");
        let bindings = vec![IdentityBinding { member, grants: vec![viewer("projects/w")] }];
        let identity =
            IdentitySettings { tokens: true, certificates: true, bindings, ..<_>::default() };
        let engine = Engine::with(store, clock.clone(), Settings { identity, ..<_>::default() });
        let say: fn(Request<Body>) -> Answered = say;
        let faces = Identified::around(service_fn(say), &engine);
        (clock, engine, faces)
    }

    fn id(text: &str) -> Id {
        Id::parse(text).expect("an id")
    }

    async fn token(engine: &Engine, name: &str, parent: &str, lifetime: Option<u64>) -> String {
        let now = engine.store().now(crate::record::tokens::PARTITION);
        let expire_time = lifetime.map(|seconds| now + Duration::from_secs(seconds));
        let new = NewToken { id: Some(id(name)), grants: vec![viewer(parent)], expire_time };
        let ShownToken { text, .. } =
            engine.create_token(&Caller::default(), new).await.expect("a token");
        text
    }

    fn with_tokens(tokens: &[&str]) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        for token in tokens {
            let header = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().append(AUTHORIZATION, header);
        }
        request
    }

    /// The caller that a request is taken to come from.
    async fn seen(faces: &Saying, request: Request<Body>) -> Caller {
        let Ok(answer) = faces.clone().oneshot(request).await;
        answer.extensions().get::<Caller>().cloned().expect("a caller")
    }

    /// The identity of a call with that token.
    async fn identity(faces: &Saying, token: &str) -> String {
        seen(faces, with_tokens(&[token])).await.id().to_owned()
    }

    #[tokio::test]
    async fn a_revoked_token_is_refused_at_the_next_call_of_each_connection_that_used_it() {
        let (_, engine, faces) = served();
        let (one, other) = (faces.of_connection(), faces.of_connection());
        let (ended, stays) =
            (token(&engine, "ended", "", None).await, token(&engine, "stays", "", None).await);
        for faces in [&one, &other, &one] {
            assert_eq!(identity(faces, &ended).await, "token:ended");
        }
        engine.delete_token(&Caller::default(), &id("ended")).await.expect("it was there");
        for faces in [&one, &other, &one] {
            assert_eq!(identity(faces, &ended).await, "");
            assert_eq!(identity(faces, &stays).await, "token:stays");
        }
    }

    #[tokio::test]
    async fn a_token_that_was_made_again_has_its_new_roles_and_its_former_secret_none() {
        let (_, engine, faces) = served();
        let first = token(&engine, "t", "projects/a", None).await;
        assert_eq!(identity(&faces, &first).await, "token:t");
        engine.delete_token(&Caller::default(), &id("t")).await.expect("it was there");
        let second = token(&engine, "t", "projects/b", None).await;
        for _ in 0..2 {
            assert_eq!(identity(&faces, &first).await, "");
            let caller = seen(&faces, with_tokens(&[&second])).await;
            let permission = caller.identity().map(|known| known.permission.clone());
            assert_eq!(permission, Some(Permission::Roles(vec![viewer("projects/b")])));
        }
        let grace = Duration::ZERO;
        engine.rotate_token(&Caller::default(), &id("t"), grace).await.expect("it is there");
        assert_eq!(identity(&faces, &second).await, "");
    }

    #[tokio::test]
    async fn a_token_ends_at_its_time_however_lately_its_connection_has_used_it() {
        let (clock, engine, faces) = served();
        let token = token(&engine, "t", "", Some(2)).await;
        for expected in ["token:t", "token:t", ""] {
            assert_eq!(identity(&faces, &token).await, expected);
            assert_eq!(identity(&faces, &token).await, expected);
            clock.advance(Duration::from_secs(1));
        }
    }

    #[tokio::test]
    async fn each_call_of_a_connection_counts_for_the_token_that_it_sends() {
        let (_, engine, faces) = served();
        let (one, two) =
            (token(&engine, "one", "", None).await, token(&engine, "two", "", None).await);
        let forged = format!("{}A", &one[..one.len() - 1]);
        let forged = if forged == one { format!("{}B", &one[..one.len() - 1]) } else { forged };
        for _ in 0..2 {
            assert_eq!(identity(&faces, &one).await, "token:one");
            assert_eq!(identity(&faces, &forged).await, "");
            assert_eq!(identity(&faces, &one[..one.len() - 1]).await, "");
            assert_eq!(identity(&faces, &two).await, "token:two");
            assert_eq!(seen(&faces, with_tokens(&[])).await.id(), "");
            assert_eq!(seen(&faces, with_tokens(&[&two, &two])).await.id(), "");
            assert_eq!(identity(&faces, &two).await, "token:two");
        }
        // What one connection has sent says nothing about another.
        assert_eq!(seen(&faces.of_connection(), with_tokens(&[])).await.id(), "");
    }

    #[tokio::test]
    async fn a_certificate_counts_for_its_own_connection_and_only_for_calls_without_a_token() {
        let (_, engine, faces) = served();
        let token = token(&engine, "t", "", None).await;
        let peer = |subject: &str| {
            let (subject, dns_names, uris) = (subject.to_owned(), Vec::new(), Vec::new());
            Arc::new(Peer { certificate: Some(PeerCertificate { subject, dns_names, uris }) })
        };
        let over = |peer: &Arc<Peer>, tokens: &[&str]| {
            let mut request = with_tokens(tokens);
            request.extensions_mut().insert(Arc::clone(peer));
            request
        };
        let (own, other) = (peer("CN=own"), peer("CN=other"));
        for _ in 0..2 {
            assert_eq!(seen(&faces, over(&own, &[])).await.id(), "certificate:CN=own");
            assert_eq!(seen(&faces, over(&own, &[&token])).await.id(), "token:t");
            assert_eq!(seen(&faces, over(&own, &["lht_none"])).await.id(), "");
            assert_eq!(seen(&faces, over(&other, &[])).await.id(), "certificate:CN=other");
            assert_eq!(seen(&faces, over(&Arc::new(Peer::default()), &[])).await.id(), "");
        }
        for (peer, subject) in [(&own, "CN=own"), (&other, "CN=other"), (&own, "CN=own")] {
            assert_eq!(seen(&faces, over(peer, &[])).await.id(), format!("certificate:{subject}"));
        }
    }
}
