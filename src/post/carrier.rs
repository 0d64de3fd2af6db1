//! Sends letters over HTTP.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_rustls::rustls::ClientConfig;

use super::connector::{Connector, Resolve};
use super::guard::{Refused, UrlGuard};
use super::letter::Letter;
use super::reply::{Receipt, ReceiverReply, Unanswered, retry_after};
use crate::clock::Clock;
use crate::limits::{MAX_DELIVERY_REPLY_BYTES, MAX_IDLE_RECEIVERS};

/// Carries letters to their receivers.
#[async_trait]
pub trait Carrier: fmt::Debug + Send + Sync + 'static {
    /// Whether that URL can be called, as far as it is known without a look-up of its host.
    fn check(&self, url: &str) -> Result<(), Refused>;

    /// One attempt. Never longer than the time that the operator allows.
    async fn carry(&self, letter: &Letter) -> Receipt;

    /// Asks a receiver whether it agrees to deliveries from `origin`: the handshake of CloudEvents.
    async fn ask(&self, url: &str, origin: &str) -> Result<(), Unanswered>;
}

/// Carries letters over HTTP, to where the guard allows.
pub struct HttpCarrier {
    guard: Arc<UrlGuard>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    client: Client<Connector, Full<Bytes>>,
}

impl HttpCarrier {
    /// A carrier whose attempts last at most `timeout`.
    pub fn new(
        guard: UrlGuard,
        resolver: Arc<dyn Resolve>,
        tls: Arc<ClientConfig>,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> Self {
        let guard = Arc::new(guard);
        let connector = Connector { guard: Arc::clone(&guard), resolver, tls };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE_RECEIVERS)
            .build(connector);
        Self { guard, clock, timeout, client }
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<http::Response<Incoming>, Unanswered> {
        let url =
            self.guard.url(url).map_err(|refused| Unanswered::Refused(refused.to_string()))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = url
            .as_str()
            .parse()
            .map_err(|error: http::uri::InvalidUri| Unanswered::Refused(error.to_string()))?;
        *request.headers_mut() = headers;
        self.client.request(request).await.map_err(|error| explain(&error))
    }

    /// Ends with the time of an attempt, whatever the receiver does.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Unanswered>>,
    ) -> Result<T, Unanswered> {
        tokio::select! {
            done = work => done,
            () = self.clock.sleep(self.timeout) => Err(Unanswered::Late(self.timeout)),
        }
    }

    async fn reply(&self, response: http::Response<Incoming>) -> ReceiverReply {
        let status = response.status().as_u16();
        let asked = response.headers().get(http::header::RETRY_AFTER);
        let asked = asked.and_then(|value| value.to_str().ok());
        let retry_after = asked.and_then(|text| retry_after(text, self.clock.now()));
        let mut body = response.into_body();
        let mut kept = Vec::new();
        let reading = async {
            let mut seen = 0;
            // A reply that is read to its end lets the connection be used again.
            while seen <= READ_ON
                && let Some(Ok(frame)) = body.frame().await
            {
                let Ok(data) = frame.into_data() else { continue };
                seen += data.len();
                let room = MAX_DELIVERY_REPLY_BYTES - kept.len();
                kept.extend_from_slice(&data[..data.len().min(room)]);
            }
        };
        // The status has arrived: a body that drips in is not waited for.
        tokio::select! {
            () = reading => {}
            () = self.clock.sleep(REPLY_TIME) => {}
        }
        ReceiverReply { status, retry_after, body: kept }
    }
}

#[async_trait]
impl Carrier for HttpCarrier {
    fn check(&self, url: &str) -> Result<(), Refused> {
        self.guard.url(url).map(drop)
    }

    async fn carry(&self, letter: &Letter) -> Receipt {
        let begin = self.clock.elapsed();
        let headers = letter.headers_at(self.clock.now());
        let work = async {
            let response =
                self.send(Method::POST, &letter.url, headers, letter.body.clone()).await?;
            Ok(self.reply(response).await)
        };
        let reply = self.in_time(work).await;
        Receipt { latency: self.clock.elapsed().saturating_sub(begin), reply }
    }

    async fn ask(&self, url: &str, origin: &str) -> Result<(), Unanswered> {
        let not_agreed = || Unanswered::NotAgreed(origin.to_owned());
        let mut headers = HeaderMap::new();
        let value = http::HeaderValue::try_from(origin).map_err(|_| not_agreed())?;
        headers.insert("webhook-request-origin", value);
        let response = self.in_time(self.send(Method::OPTIONS, url, headers, Bytes::new())).await?;
        let allowed = response.headers().get("webhook-allowed-origin");
        let allowed = allowed.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if allowed == "*" || allowed == origin { Ok(()) } else { Err(not_agreed()) }
    }
}

impl fmt::Debug for HttpCarrier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HttpCarrier").field("guard", &self.guard).finish_non_exhaustive()
    }
}

/// The cause at the bottom says most.
pub(super) fn explain(error: &hyper_util::client::legacy::Error) -> Unanswered {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let refused = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    let refused = refused.and_then(std::io::Error::get_ref);
    if cause.is::<Refused>()
        || refused.is_some_and(<dyn std::error::Error + Send + Sync>::is::<Refused>)
    {
        Unanswered::Refused(cause.to_string())
    } else {
        Unanswered::Broken(cause.to_string())
    }
}

/// How long a connection waits for its next letter.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of a reply that are read on, beyond those that are kept, to use its connection again.
const READ_ON: usize = 16 << 10;
/// How long the body of a reply may take.
const REPLY_TIME: Duration = Duration::from_secs(2);
